"""What can be chosen, as plain data. Nothing here imports torch."""

VALUES = ("dice", "probability")
"""Value functions of contributions."""
BASELINES = ("zero", "mean")
"""What replaces a modality."""
VOXELS = ("predicted", "all")
"""Voxels whose logits Grad-CAM explains."""
METHODS = ("gradcam", "hirescam")
"""How gradients weigh activations: by their mean over all places, or each place by its own."""
