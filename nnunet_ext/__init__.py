"""Networks, trainers and tools for brain-tumour segmentation on an unmodified nnU-Net v2."""

__version__ = "0.2.0"
