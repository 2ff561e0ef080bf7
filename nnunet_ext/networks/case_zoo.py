"""Networks for case-level targets: those of the zoo without their decoders, and classifiers of photographs.

Plain data: importing this file imports no torch. All share one recipe, so that encoders can be compared.
"""

from collections.abc import Mapping
from dataclasses import replace

from nnunet_ext.networks import recipes
from nnunet_ext.networks.spec import NetworkSpec
from nnunet_ext.networks.tasks import CASE_LEVEL
from nnunet_ext.networks.zoo import SQUEEZE_EXCITATION, ZOO

NAME, TRAINER = "case_", "Case"
RESNET = ("He 2016, ResNet", "https://arxiv.org/abs/1512.03385")
TIMM = ("timm", "https://github.com/huggingface/pytorch-image-models")
ONE_SIZE: Mapping[str, int] = {"S": 64}
# a perceptron before the heads, as classifiers of photographs are fine-tuned for a value
PERCEPTRON = {"hidden": (512, 256), "dropout": 0.3}

# the encoders of the zoo end in instance normalisation: means of a map say little, its maxima and earlier maps do
POOLED = {"scales": 3, "poolings": ("mean", "max")}

# trainer's name after "Case" -> timm's name of architecture and weights
TIMM_BACKBONES: Mapping[str, str] = {
    "ResNet50": "resnet50.a1_in1k",
    "EfficientNetB0": "efficientnet_b0.ra_in1k",
    "ConvNeXtBase": "convnext_base.clip_laion2b_augreg_ft_in12k",
    "ReXNetR300": "rexnetr_300.sw_in12k",
    "RegNetY120": "regnety_120.sw_in12k",
    "ResNetAA101": "resnetaa101d.sw_in12k",
    "ConvNeXtSmall": "convnext_small.in12k",
    "EfficientNetB5": "efficientnet_b5.sw_in12k",
    "ResNetAA50": "resnetaa50d.sw_in12k",
    "ResNetAA50D": "resnetaa50d.d_in12k",
    "ReXNetR200": "rexnetr_200.sw_in12k",
    "ConvNeXtTiny": "convnext_tiny.in12k",
    "CoAtNet2": "coatnet_2_rw_224.sw_in12k",
    "CoAtNetRMLP2": "coatnet_rmlp_2_rw_224.sw_in12k",
    "CoAtNetRMLP1": "coatnet_rmlp_1_rw2_224.sw_in12k",
}


def pooled(spec: NetworkSpec) -> NetworkSpec:
    """A network of the zoo for case-level targets: its encoder with heads."""
    recipe = {**recipes.CASE, **({"coordinates": True} if spec.recipe.get("coordinates") else {})}
    return replace(
        spec,
        name=NAME + spec.name,
        trainer=TRAINER + spec.trainer,
        description=f"case-level targets from the encoder of {spec.trainer}",
        task=CASE_LEVEL,
        recipe=recipe,
        recipe_source=recipes.CASE_SOURCE,
        head=POOLED,
        compile=False,
    )


def resnet18(trainer: str, description: str, *, squeeze: bool = False, scales: int = 1) -> NetworkSpec:
    """A row of ResNet18."""
    return NetworkSpec(
        name=f"case_{trainer.removeprefix(TRAINER).lower()}",
        trainer=trainer,
        description=description,
        network="resnet.ResNet18",
        widths=ONE_SIZE,
        options={"squeeze_excitation": True} if squeeze else {},
        head={"scales": scales} if scales > 1 else {},
        task=CASE_LEVEL,
        recipe=recipes.CASE,
        recipe_source=recipes.CASE_SOURCE,
        paper=(RESNET, SQUEEZE_EXCITATION) if squeeze else (RESNET,),
        differs="none in 2D; 3D as MONAI's with a first stride of 2",
    )


def timm(trainer: str, model: str) -> NetworkSpec:
    """A row of timm's."""
    return NetworkSpec(
        name=f"case_{trainer.lower()}",
        trainer=TRAINER + trainer,
        description=f"timm's {model}, 2D",
        network="nnunet_ext.outcomes.timm_backbone.TimmEncoder",
        widths=ONE_SIZE,
        options={"model": model},
        head=PERCEPTRON,
        dimensions=(2,),
        task=CASE_LEVEL,
        recipe=recipes.CASE,
        recipe_source=recipes.CASE_SOURCE,
        paper=(TIMM,),
        differs="a perceptron before the heads",
    )


CASE_ZOO: tuple[NetworkSpec, ...] = (
    *map(pooled, ZOO),
    resnet18("CaseResNet18", "ResNet18; in 2D torchvision's"),
    resnet18("CaseResNet18SE", "ResNet18 with squeeze-and-excitation after the last stage", squeeze=True),
    resnet18("CaseResNet18MultiScale", "ResNet18, the pooled maps of stages 2 to 4 concatenated", scales=3),
    *(timm(trainer, model) for trainer, model in TIMM_BACKBONES.items()),
)
