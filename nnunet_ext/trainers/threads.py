"""Torch's threads on a CPU, for several trainings or predictions side by side."""

import os

THREADS = "nnUNet_ext_threads"
"""Variable: how many. Without it nnU-Net's commands take all cores, however many of them run side by side."""


def set_threads() -> None:
    """As many as the variable says, if it is set; called where networks are built, in training and in prediction.

    OpenMP's own OMP_NUM_THREADS is overruled by nnU-Net's commands, and under its OMP_THREAD_LIMIT kernels of oneDNN
    wait for threads that never come.

    Raises:
        ValueError: the variable is not a positive whole number.
    """
    wanted = os.environ.get(THREADS, "")
    if not wanted:
        return
    if not wanted.isdecimal() or int(wanted) < 1:
        raise ValueError(f"{THREADS} must be a positive whole number, not {wanted!r}.")
    import torch

    torch.set_num_threads(int(wanted))
