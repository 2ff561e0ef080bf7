"""The ROI cascade: a detector finds the tumour in the whole brain, the segmentation network sees crops around it."""
