"""Write generated 2D images with targets; see ``python dataset_conversion/phantom_images.py --help``."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script's own package is not on the path
    from dataset_conversion.commands.phantom_images import main

    sys.exit(main())
