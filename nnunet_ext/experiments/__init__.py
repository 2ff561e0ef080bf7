"""Many trainings as one experiment: their matrix, their state in nnU-Net's folders, and who runs them."""
