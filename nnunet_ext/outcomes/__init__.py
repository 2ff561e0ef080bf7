"""Questions about a case instead of its voxels: grade, class, days, from the data that nnU-Net segments."""
