"""BraTS trees to nnU-Net raw datasets and back, and phantoms; scripts to be run from a clone."""
