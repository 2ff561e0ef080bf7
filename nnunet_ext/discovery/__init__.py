"""The folder that the variable nnUNet_extTrainer points to; see ``trainer_hook``."""
