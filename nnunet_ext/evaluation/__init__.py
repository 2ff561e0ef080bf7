"""Evaluation by BraTS's and nnU-Net's conventions, and comparison of methods."""
