"""CoordConv: three more input channels, in which a network reads where in the volume a voxel lies.

Liu et al. 2018, "An intriguing failing of convolutional neural networks and the CoordConv solution", arXiv:1807.03247.
Deliberately different: the coordinates are those of the whole preprocessed volume, not of the tile that a network sees,
they enter once, beside the image, not at every convolution, and they run from 1 to 3, so that the 0 with which nnU-Net
pads tiles, crops and training patches is no place in the volume.
"""
