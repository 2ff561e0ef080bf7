"""What can be chosen, as plain data. Nothing here imports torch."""

VALUES = ("dice", "probability")
"""Value functions of contributions."""
BASELINES = ("zero", "mean")
"""What replaces a modality."""
VOXELS = ("predicted", "all")
"""Voxels whose logits Grad-CAM explains."""
