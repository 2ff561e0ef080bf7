"""Networks, trainers and tools for brain-tumour segmentation on an unmodified nnU-Net v2."""

__version__ = "0.1.0"
