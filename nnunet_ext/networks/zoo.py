"""The zoo: one declaration per family. Trainers, tests, benchmarks, ``nnunet_ext list`` and the README follow from it.

Plain data: importing this file imports no torch. CONTRIBUTING.md shows how a backbone is added.
"""

from nnunet_ext.networks.spec import SINGLE_WIDTHS, Branch, NetworkSpec, Stage, doubling

UNET = ("Cicek 2016, 3D U-Net", "https://arxiv.org/abs/1606.06650")
NNUNET = ("Isensee 2021, nnU-Net", "https://doi.org/10.1038/s41592-020-01008-z")
VIT_UNETR = ("Hatamizadeh 2022, UNETR", "https://arxiv.org/abs/2103.10504")
SWIN_UNETR = ("Hatamizadeh 2022, Swin UNETR", "https://arxiv.org/abs/2201.01266")
REPLKNET = ("Ding 2022, RepLKNet", "https://arxiv.org/abs/2203.06717")
GHOSTNET = ("Han 2020, GhostNet", "https://arxiv.org/abs/1911.11907")

POOL = Stage("backbones.plain.PlainStage", {"pool": True})
STRIDE = Stage("backbones.plain.PlainStage")
STEM = Stage("backbones.plain.PlainStage", {"depth": 1})
GHOST = Stage("backbones.ghost.GhostStage")
REPLK = Stage("backbones.replk.RepLKStage")
REPLK_FFN2 = Stage("backbones.replk.RepLKStage", {"ffn_ratio": 2})

# as the authors of UNETR and SwinUNETR train them; nnU-Net's SGD with 1e-2 makes them diverge
TRANSFORMER_RECIPE = {
    "optimiser": "AdamW",
    "initial_lr": 1e-4,
    "weight_decay": 1e-5,
    "schedule": "cosine",
    "warmup_epochs": 50,
}


def dual(stage: Stage) -> tuple[Branch, ...]:
    """T1ce and FLAIR in two branches of the same kind."""
    return Branch(("t1ce",), (stage,)), Branch(("flair",), (stage,))


def flair_branch(*stages: Stage) -> tuple[Branch, ...]:
    """T1ce in a branch of strided convolutions, FLAIR in one of these stages; one convolution at full resolution."""
    return Branch(("t1ce",), (STEM, STRIDE)), Branch(("flair",), stages)


ZOO: tuple[NetworkSpec, ...] = (
    NetworkSpec(
        name="unet3d",
        trainer="UNet3D",
        description="max-pool U-Net, all modalities concatenated",
        widths=SINGLE_WIDTHS,
        options={"trunk": (POOL,)},
        paper=(UNET,),
        differs="normalisation, activation, stages and kernels from nnU-Net's plan; no channel doubling before a pool",
    ),
    NetworkSpec(
        name="unet3d_stride",
        trainer="UNet3DStride",
        description="strided-convolution downsampling",
        widths=SINGLE_WIDTHS,
        options={"trunk": (STRIDE,)},
        paper=(UNET, NNUNET),
        differs="widths by size, capped at ten times the first",
    ),
    NetworkSpec(
        name="unetr",
        trainer="UNETR",
        description="ViT encoder, convolutional decoder",
        network="unetr.UNETR",
        widths=doubling(4),
        size_options={"XS": {"hidden": 192}, "S": {"hidden": 384}, "M": {"hidden": 768}, "L": {"hidden": 1536}},
        recipe=TRANSFORMER_RECIPE,
        paper=(VIT_UNETR,),
        differs="strides, kernels and normalisation from nnU-Net's plan; any input size; deep supervision; M is theirs",
    ),
    NetworkSpec(
        name="swin_unetr",
        trainer="SwinUNETR",
        description="shifted-window transformer encoder",
        network="swin_unetr.SwinUNETR",
        widths=doubling(12),
        divisor=12,
        recipe=TRANSFORMER_RECIPE,
        paper=(SWIN_UNETR,),
        differs="strides, kernels and normalisation from nnU-Net's plan; any input size; deep supervision; M is theirs",
    ),
    NetworkSpec(
        name="dualbranch_01_unet",
        trainer="DualBranchUNet",
        description="T1ce and FLAIR branches, max-pool",
        options={"trunk": (POOL,)},
        branches=dual(POOL),
        paper=(UNET,),
        differs="two encoders, fused from stage 5 on",
    ),
    NetworkSpec(
        name="dualbranch_02_unet",
        trainer="DualBranchStride",
        description="T1ce and FLAIR branches, strided convolutions",
        options={"trunk": (STRIDE,)},
        branches=dual(STRIDE),
        paper=(UNET, NNUNET),
        differs="two encoders, fused from stage 5 on",
    ),
    NetworkSpec(
        name="dualbranch_04_unet",
        trainer="DualBranchRepLK",
        description="13x13x13 re-parameterised depthwise convolutions in the FLAIR branch, ConvFFN ratio 4",
        options={"trunk": (STRIDE,), "decoder_depth": 1},
        branches=flair_branch(REPLK),
        paper=(REPLKNET,),
        differs="one norm after the sum of a bare depthwise pair; T1ce in plain stages, fused from stage 5 on",
    ),
    NetworkSpec(
        name="dualbranch_05_unet",
        trainer="DualBranchRepLKFFN2",
        description="as 04, ConvFFN ratio 2",
        options={"trunk": (STRIDE,), "decoder_depth": 1},
        branches=flair_branch(REPLK_FFN2),
        paper=(REPLKNET,),
        differs="one norm after the sum of a bare depthwise pair; T1ce in plain stages, fused from stage 5 on",
    ),
    NetworkSpec(
        name="dualbranch_14_ghostnet",
        trainer="DualBranchGhost",
        description="T1ce and FLAIR branches of GhostNet bottlenecks",
        options={"trunk": (GHOST,), "decoder_depth": 1},
        branches=dual(GHOST),
        paper=(GHOSTNET,),
        differs="two encoders, fused from stage 5 on; no squeeze-and-excitation; plain first convolution",
    ),
)
