"""The zoo: one declaration per family. Trainers, tests, benchmarks, ``nnunet_ext list`` and docs/zoo.md follow from it.

Plain data: importing this file imports no torch. CONTRIBUTING.md shows how a backbone is added.
"""

from nnunet_ext.networks import recipes
from nnunet_ext.networks.spec import MODALITIES, SINGLE_WIDTHS, Branch, NetworkSpec, Stage, doubling
from nnunet_ext.networks.tasks import DETECTION

UNET = ("Cicek 2016, 3D U-Net", "https://arxiv.org/abs/1606.06650")
NNUNET = ("Isensee 2021, nnU-Net", "https://doi.org/10.1038/s41592-020-01008-z")
VIT_UNETR = ("Hatamizadeh 2022, UNETR", "https://arxiv.org/abs/2103.10504")
SWIN_UNETR = ("Hatamizadeh 2022, Swin UNETR", "https://arxiv.org/abs/2201.01266")
MOBILENET_V2 = ("Sandler 2018, MobileNetV2", "https://arxiv.org/abs/1801.04381")
SHUFFLENET_V1 = ("Zhang 2018, ShuffleNet", "https://arxiv.org/abs/1707.01083")
SHUFFLENET_V2 = ("Ma 2018, ShuffleNetV2", "https://arxiv.org/abs/1807.11164")
CONVNEXT_PAPER = ("Liu 2022, ConvNeXt", "https://arxiv.org/abs/2201.03545")
DILATION = ("Wang 2018, hybrid dilated convolution", "https://arxiv.org/abs/1702.08502")
EFFIDEC3D = ("Rahman 2025, EffiDec3D", "https://github.com/SLDGroup/EffiDec3D")
SQUEEZE_EXCITATION = ("Hu 2018, squeeze-and-excitation", "https://arxiv.org/abs/1709.01507")
MOBILEVIT_PAPER = ("Mehta 2022, MobileViT", "https://arxiv.org/abs/2110.02178")
MOBILE_UNETR = ("Perera 2024, MobileUNETR", "https://arxiv.org/abs/2409.03062")
MOBILEVIT3_PAPER = ("Wadekar 2022, MobileViTv3", "https://arxiv.org/abs/2209.15159")
REPLKNET = ("Ding 2022, RepLKNet", "https://arxiv.org/abs/2203.06717")
COORDCONV = ("Liu 2018, CoordConv", "https://arxiv.org/abs/1807.03247")
GHOSTNET = ("Han 2020, GhostNet", "https://arxiv.org/abs/1911.11907")

POOL = Stage("backbones.plain.PlainStage", {"pool": True})
STRIDE = Stage("backbones.plain.PlainStage")
STEM = Stage("backbones.plain.PlainStage", {"dilations": (1,)})
DILATED2 = Stage("backbones.plain.PlainStage", {"dilations": (1, 2)})
DILATED5 = Stage("backbones.plain.PlainStage", {"dilations": (1, 2, 5)})
MOBILENETV2 = Stage("backbones.mobilenetv2.MobileNetV2Stage")
MOBILENETV2_DILATED = Stage("backbones.mobilenetv2.MobileNetV2Stage", {"dilations": (1, 2), "shuffle": True})
CONVNEXT = Stage("backbones.convnext.ConvNeXtStage")
SHUFFLENET = Stage("backbones.shufflenet.ShuffleNetStage")
SHUFFLENETV2 = Stage("backbones.shufflenetv2.ShuffleNetV2Stage")
SHUFFLENETV2_DILATED = Stage("backbones.shufflenetv2.ShuffleNetV2Stage", {"dilation": 2})
SHUFFLENETV2_LK = Stage("backbones.shufflenetv2.ShuffleNetV2Stage", {"kernel_size": 7})
GHOST = Stage("backbones.ghost.GhostStage")
REPLK = Stage("backbones.replk.RepLKStage")
REPLK_FFN2 = Stage("backbones.replk.RepLKStage", {"ffn_ratio": 2})
MOBILEVIT = Stage("backbones.mobilevit.MobileViTStage")
# layers as in the paper; the finest map has larger patches, for attention costs the square of their number
MOBILEVIT_V3 = tuple(
    Stage("backbones.mobilevit.MobileViTStage", {"v3": True, "depth": depth, "patch": patch})
    for depth, patch in ((2, 4), (4, 2), (3, 2))
)

# whole brain in, whole tumour out; where a tumour lies matters more here than how it looks
ROI_WIDTHS = doubling(8, ("Tiny", "Small"))
ROI_SIZE = (64, 64, 64)


def dual(*stages: Stage) -> tuple[Branch, ...]:
    """T1ce and FLAIR in two branches of the same kind."""
    return Branch(("t1ce",), stages), Branch(("flair",), stages)


def flair_branch(*stages: Stage) -> tuple[Branch, ...]:
    """T1ce in a branch of strided convolutions, FLAIR in one of these stages; each after one convolution."""
    return Branch(("t1ce",), (STEM, STRIDE)), Branch(("flair",), (STEM, *stages))


QUAD = tuple(Branch((modality,), (STRIDE,)) for modality in MODALITIES)

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
        recipe=recipes.UNETR,
        recipe_source=recipes.UNETR_SOURCE,
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
        recipe=recipes.SWIN_UNETR,
        recipe_source=recipes.SWIN_UNETR_SOURCE,
        paper=(SWIN_UNETR,),
        differs="strides, kernels and normalisation from nnU-Net's plan; any input size; deep supervision; M is theirs",
    ),
    NetworkSpec(
        name="mobile_unetr",
        trainer="MobileUNETR",
        description="MobileViT encoder and decoder, 2D, for the `2d` configuration",
        network="mobile_unetr.MobileUNETR",
        dimensions=(2,),
        recipe=recipes.HYBRID,
        recipe_source=recipes.HYBRID_SOURCE,
        paper=(MOBILE_UNETR, MOBILEVIT_PAPER),
        differs="decodes to full resolution, levels from the plan, no bottleneck below them; widths double per size",
    ),
    NetworkSpec(
        name="mobile_unetr_3d",
        trainer="MobileUNETR3D",
        description="MobileViT encoder and decoder, 3D",
        network="mobile_unetr.MobileUNETR",
        dimensions=(3,),
        recipe=recipes.HYBRID,
        recipe_source=recipes.HYBRID_SOURCE,
        paper=(MOBILE_UNETR, MOBILEVIT_PAPER),
        differs="as MobileUNETR, in 3D",
    ),
    NetworkSpec(
        name="dualbranch_01_unet",
        trainer="DualBranchUNet",
        description="T1ce and FLAIR branches, max-pool",
        options={"trunk": (POOL,)},
        branches=dual(POOL),
        paper=(UNET,),
        differs="two encoders, fused from stage 5 on; one convolution a decoder stage",
    ),
    NetworkSpec(
        name="dualbranch_02_unet",
        trainer="DualBranchStride",
        description="T1ce and FLAIR branches, strided convolutions",
        options={"trunk": (STRIDE,)},
        branches=dual(STRIDE),
        paper=(UNET, NNUNET),
        differs="two encoders, fused from stage 5 on; one convolution a decoder stage",
    ),
    NetworkSpec(
        name="dualbranch_03_unet",
        trainer="DualBranchDilatedFLAIR",
        description="T1ce and FLAIR branches, dilated convolutions in the FLAIR branch only",
        options={"trunk": (STRIDE,)},
        branches=(Branch(("t1ce",), (STRIDE,)), Branch(("flair",), (DILATED2,))),
        paper=(UNET, DILATION),
        differs="as 02 but for rates 1 and 2 in the FLAIR branch, lowered to half the map where that is small",
    ),
    NetworkSpec(
        name="dualbranch_04_unet",
        trainer="DualBranchRepLK",
        description="13x13x13 re-parameterised depthwise convolutions in the FLAIR branch, ConvFFN ratio 4",
        options={"trunk": (STRIDE,)},
        branches=flair_branch(REPLK),
        recipe=recipes.REPLK,
        recipe_source=recipes.REPLK_SOURCE,
        paper=(REPLKNET,),
        differs="one norm after the sum of a bare depthwise pair; light stage entries; T1ce plain; decoder as in 02",
    ),
    NetworkSpec(
        name="dualbranch_05_unet",
        trainer="DualBranchRepLKFFN2",
        description="as 04, ConvFFN ratio 2",
        options={"trunk": (STRIDE,)},
        branches=flair_branch(REPLK_FFN2),
        recipe=recipes.REPLK,
        recipe_source=recipes.REPLK_SOURCE,
        paper=(REPLKNET,),
        differs="one norm after the sum of a bare depthwise pair; light stage entries; T1ce plain; decoder as in 02",
    ),
    NetworkSpec(
        name="dualbranch_06_unet",
        trainer="DualBranchRepLKMViT45",
        description="as 04, MobileViT in stages 4 and 5",
        options={"trunk": (MOBILEVIT,)},
        branches=flair_branch(REPLK, REPLK, MOBILEVIT, MOBILEVIT),
        recipe=recipes.REPLK,
        recipe_source=recipes.REPLK_SOURCE,
        paper=(REPLKNET, MOBILEVIT_PAPER),
        differs="as 04; MobileViT in the FLAIR branch and, after the fusion, for both",
    ),
    NetworkSpec(
        name="dualbranch_07_unet",
        trainer="DualBranchRepLKMViT5",
        description="as 04, MobileViT in stage 5 only",
        options={"trunk": (MOBILEVIT,)},
        branches=flair_branch(REPLK),
        recipe=recipes.REPLK,
        recipe_source=recipes.REPLK_SOURCE,
        paper=(REPLKNET, MOBILEVIT_PAPER),
        differs="as 04; MobileViT after the fusion only",
    ),
    NetworkSpec(
        name="dualbranch_mobilenetv2_dilated",
        trainer="DualBranchMobileNetV2Dilated",
        description="dilated inverted residuals with shuffled channels, fused at stage 3",
        options={"trunk": (MOBILENETV2_DILATED,), "fusion_stage": 3},
        branches=dual(STEM, MOBILENETV2_DILATED),
        paper=(MOBILENET_V2, SHUFFLENET_V2),
        differs="light stage entries, decoder as in 02; rates 1 and 2, expansion 2, shuffled halves as in ShuffleNetV2",
    ),
    NetworkSpec(
        name="dualbranch_mobilenetv2_dilated_fixed",
        trainer="DualBranchMobileNetV2DilatedFixed",
        description="as MobileNetV2Dilated, decoder narrow and without full resolution",
        options={"trunk": (MOBILENETV2_DILATED,), "fusion_stage": 3, "efficient_decoder": True},
        branches=dual(STEM, MOBILENETV2_DILATED),
        paper=(MOBILENET_V2, SHUFFLENET_V2, EFFIDEC3D),
        differs="as MobileNetV2Dilated; every skip is brought to the first stage's width by a 1x1x1 convolution",
    ),
    NetworkSpec(
        name="dualbranch_13_unet",
        trainer="DualBranchMViT",
        description="T1ce and FLAIR branches of extended MobileViT (v3-style fusion)",
        options={"trunk": (MOBILEVIT_V3[-1],)},
        branches=dual(STEM, MOBILENETV2, *MOBILEVIT_V3),
        recipe=recipes.HYBRID,
        recipe_source=recipes.HYBRID_SOURCE,
        paper=(MOBILEVIT_PAPER, MOBILEVIT3_PAPER),
        differs="two encoders, fused from stage 5 on; attention from stage 3 on; expansion 2; decoder as in 02",
    ),
    NetworkSpec(
        name="dualbranch_14_mobilenetv2_expand2",
        trainer="DualBranchMobileNetV2",
        description="T1ce and FLAIR branches of MobileNetV2, expansion ratio 2",
        options={"trunk": (MOBILENETV2,)},
        branches=dual(STEM, MOBILENETV2),
        paper=(MOBILENET_V2,),
        differs="two encoders, fused from stage 5 on; light stage entries, then two blocks; decoder as in 02",
    ),
    NetworkSpec(
        name="dualbranch_14_ghostnet",
        trainer="DualBranchGhost",
        description="T1ce and FLAIR branches of GhostNet bottlenecks",
        options={"trunk": (GHOST,)},
        branches=dual(STEM, GHOST),
        paper=(GHOSTNET,),
        differs="as MobileNetV2, two bottlenecks; no squeeze-and-excitation",
    ),
    NetworkSpec(
        name="dualbranch_14_dilated",
        trainer="DualBranchDilated",
        description="T1ce and FLAIR branches of dilated convolutions, rates 1, 2, 5",
        options={"trunk": (DILATED5,)},
        branches=dual(STEM, DILATED5),
        paper=(UNET, DILATION),
        differs="as 03; rates 1, 2 and 5 in all stages from 2 on",
    ),
    NetworkSpec(
        name="dualbranch_14_convnext",
        trainer="DualBranchConvNeXt",
        description="T1ce and FLAIR branches of ConvNeXt",
        options={"trunk": (CONVNEXT,)},
        branches=dual(STEM, CONVNEXT),
        recipe=recipes.CONVNEXT,
        recipe_source=recipes.CONVNEXT_SOURCE,
        paper=(CONVNEXT_PAPER,),
        differs="two encoders, fused from stage 5 on; two blocks a stage, no layer scale; decoder as in 02",
    ),
    NetworkSpec(
        name="dualbranch_14_shufflenetv2",
        trainer="DualBranchShuffleV2",
        description="T1ce and FLAIR branches of ShuffleNetV2",
        options={"trunk": (SHUFFLENETV2,)},
        branches=dual(STEM, SHUFFLENETV2),
        paper=(SHUFFLENET_V2,),
        differs="two encoders, fused from stage 5 on; two units a stage; decoder as in 02",
    ),
    NetworkSpec(
        name="dualbranch_14_shufflenetv2_dilated",
        trainer="DualBranchShuffleV2Dilated",
        description="ShuffleNetV2 with dilation",
        options={"trunk": (SHUFFLENETV2_DILATED,)},
        branches=dual(STEM, SHUFFLENETV2_DILATED),
        paper=(SHUFFLENET_V2,),
        differs="as ShuffleV2; rate 2 in the unit without stride, lowered to half the map where that is small",
    ),
    NetworkSpec(
        name="dualbranch_14_shufflenetv2_lk",
        trainer="DualBranchShuffleV2LK",
        description="ShuffleNetV2 with 7x7x7 depthwise kernels",
        options={"trunk": (SHUFFLENETV2_LK,)},
        branches=dual(STEM, SHUFFLENETV2_LK),
        paper=(SHUFFLENET_V2,),
        differs="as ShuffleV2; kernels of 7 on every axis that the plan's kernel looks across",
    ),
    NetworkSpec(
        name="dualbranch_18_shufflenet_v1",
        trainer="DualBranchShuffleV1",
        description="T1ce and FLAIR branches of ShuffleNet v1",
        options={"trunk": (SHUFFLENET,)},
        branches=dual(STEM, SHUFFLENET),
        paper=(SHUFFLENET_V1,),
        differs="two encoders, fused from stage 5 on; two units a stage, two groups; decoder as in 02",
    ),
    NetworkSpec(
        name="unet3d_2modal",
        trainer="UNet3D2Modal",
        description="one branch, T1ce and FLAIR concatenated",
        options={"trunk": (STRIDE,)},
        branches=(Branch(("t1ce", "flair"), (STRIDE,)),),
        paper=(UNET, NNUNET),
        differs="one encoder of twice a branch's width, narrowed from stage 5 on; decoder as in 02",
    ),
    NetworkSpec(
        name="unet3d_4modal",
        trainer="UNet3D4Modal",
        description="one branch, four modalities concatenated",
        options={"trunk": (STRIDE,)},
        branches=(Branch(MODALITIES, (STRIDE,)),),
        paper=(UNET, NNUNET),
        differs="one encoder of four times a branch's width, narrowed from stage 5 on; decoder as in 02",
    ),
    NetworkSpec(
        name="dualbranch_2modal_unet",
        trainer="DualBranch2Modal",
        description="two branches, T1ce and FLAIR",
        options={"trunk": (STRIDE,)},
        branches=dual(STRIDE),
        paper=(UNET, NNUNET),
        differs="two encoders, fused from stage 5 on; the same network as DualBranchStride",
    ),
    NetworkSpec(
        name="quadbranch_4modal_unet",
        trainer="QuadBranch",
        description="four branches, one modality each",
        options={"trunk": (STRIDE,)},
        branches=QUAD,
        paper=(UNET, NNUNET),
        differs="four encoders, fused from stage 5 on; decoder as in 02",
    ),
    NetworkSpec(
        name="quadbranch_4modal_attention_unet",
        trainer="QuadBranchAttention",
        description="four branches with channel attention per modality, weights readable",
        network="modality_attention.ModalityAttentionUNet",
        options={"trunk": (STRIDE,)},
        branches=QUAD,
        paper=(UNET, SQUEEZE_EXCITATION),
        differs="as QuadBranch; one weight per modality and stage, from magnitudes in its scale",
    ),
    NetworkSpec(
        name="roi_unet3d",
        trainer="ROIUNet3D",
        description="whole-tumour detector for the cascade, U-Net with strided convolutions and coordinates",
        widths=ROI_WIDTHS,
        options={"trunk": (STRIDE,)},
        dimensions=(3,),
        usual_size=ROI_SIZE,
        task=DETECTION,
        recipe={"coordinates": True},
        paper=(UNET, COORDCONV),
        differs="coordinates of the whole volume, once, beside the image",
    ),
    NetworkSpec(
        name="roi_mobileunetr3d",
        trainer="ROIMobileUNETR3D",
        description="whole-tumour detector for the cascade, MobileUNETR in 3D with coordinates",
        network="mobile_unetr.MobileUNETR",
        widths=ROI_WIDTHS,
        dimensions=(3,),
        usual_size=ROI_SIZE,
        task=DETECTION,
        recipe={**recipes.HYBRID, "coordinates": True},
        recipe_source=recipes.HYBRID_SOURCE,
        paper=(MOBILE_UNETR, MOBILEVIT_PAPER, COORDCONV),
        differs="as MobileUNETR, in 3D; coordinates of the whole volume, once, beside the image",
    ),
)
