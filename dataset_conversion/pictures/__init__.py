"""Generated 2D images with planted targets: nobody's photographs."""
