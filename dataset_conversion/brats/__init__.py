"""What the scripts of this folder are made of; nothing here imports ``nnunet_ext``."""
