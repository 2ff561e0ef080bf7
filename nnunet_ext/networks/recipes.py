"""Training recipes that differ from nnU-Net's: published ones for this kind of network in 3D segmentation.

Fields of :class:`nnunet_ext.trainers.recipe.Recipe`, each with where its values come from. Rows that are compared with
one another share one recipe; what is not here is trained as nnU-Net trains its own networks.
"""

MEDNEXT = (
    "MedNeXt's nnU-Net trainers",
    "https://github.com/MIC-DKFZ/MedNeXt/tree/main/nnunet_mednext/training/network_training",
)
CONVNEXT_TABLE = ("ConvNeXt, table 5", "https://arxiv.org/abs/2201.03545")
PRIMUS = ("nnU-Net's Primus trainers", "https://arxiv.org/abs/2503.01835")
MOBILE_UNETR_CONFIG = ("MobileUNETR's configurations", "https://github.com/OSUPCVLab/MobileUNETR")
MONAI = "https://github.com/Project-MONAI/research-contributions/blob/main"
UNETR_SCRIPT = ("UNETR's training script", f"{MONAI}/UNETR/BTCV/main.py")
SWIN_SCRIPT = ("Swin UNETR's training script", f"{MONAI}/SwinUNETR/BRATS21/main.py")
SWIN_PAPER = ("Swin UNETR, section 4.1", "https://arxiv.org/abs/2201.01266")

# MedNeXt's rate and decay; its trainers have no warm-up, these 20 epochs are ConvNeXt's
CONVNEXT = {"optimiser": "AdamW", "initial_lr": 1e-3, "weight_decay": 3e-5, "warmup_epochs": 20}
CONVNEXT_SOURCE = (MEDNEXT, CONVNEXT_TABLE)

# the rate that MedNeXt's repository gives 3D UX-Net, the other network of large depthwise kernels in 3D (it has 1e-4 to
# 1e-3 for its own kernels of 5); RepLKNet's 4e-3 after 10 epochs is for ImageNet in batches of 2048
REPLK = {**CONVNEXT, "initial_lr": 5e-4}
REPLK_SOURCE = (MEDNEXT, CONVNEXT_TABLE)

# rate and warm-up of Primus, decay and schedule of MobileUNETR, whose rate of 6e-5 is for photographs of skin
HYBRID = {"optimiser": "AdamW", "initial_lr": 3e-4, "weight_decay": 1e-2, "schedule": "cosine", "warmup_epochs": 50}
HYBRID_SOURCE = (PRIMUS, MOBILE_UNETR_CONFIG)

# the authors' defaults; MedNeXt's repository trains UNETR at this rate as well
UNETR = {**HYBRID, "initial_lr": 1e-4, "weight_decay": 1e-5}
UNETR_SOURCE = (UNETR_SCRIPT, MEDNEXT)

# the authors' decay, schedule and warm-up. Their paper's rate for BraTS is 8e-4 in batches of 8, which by the square
# root is 4e-4 in nnU-Net's batches of 2; their script's is 1e-4; MedNeXt's repository has 1e-4, 1e-3 and this one
SWIN_UNETR = {**UNETR, "initial_lr": 5e-4}
SWIN_UNETR_SOURCE = (SWIN_SCRIPT, SWIN_PAPER, MEDNEXT)

# case-level targets: one recipe for all encoders, the hybrids', whose rate suits convolutions and transformers alike
CASE = {**HYBRID, "warmup_epochs": 10}
CASE_SOURCE = HYBRID_SOURCE
