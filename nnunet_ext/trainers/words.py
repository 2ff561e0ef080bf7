"""The words of trainer names, each decided in this one table: its form, what it sets, what it does, what it costs.

Grammar, the recipe's fields, the prediction of memory, ``nnunet_ext recipes`` and docs/trainers.md follow from it.
"""

from collections.abc import Mapping
from typing import Any

from nnunet_ext.networks.tasks import CASE_LEVEL, DETECTION, SEGMENTATION
from nnunet_ext.trainers.recipe import Recipe
from nnunet_ext.trainers.word import NOTHING, NUMBER, PREDICTED, RATE, UNKNOWN, Fields, Word, number

LARGEST_SEED = 2**32 - 1  # NumPy's generators take no larger one

# what an optimiser's word brings: nnU-Net's own for SGD, torch's defaults for the others
OWN: Mapping[str, tuple[str, float]] = {"SGD": ("1en2", 3e-5), "Adam": ("1en3", 0.0), "AdamW": ("1en3", 1e-2)}
AUGMENTATION = {"NoMirror": "no mirroring", "NoAug": "none"}
LOSS_MEMORY = {
    "DiceCE": NOTHING,
    "Dice70CE30": NOTHING,
    "Dice50CE50": NOTHING,
    **dict.fromkeys(("Focal", "DiceFocal", "Tversky"), UNKNOWN),
}


def _optimiser(word: str) -> Fields:
    name, rate = _split(word)
    own, decay = OWN[name]
    return {"optimiser": name, "initial_lr": number(rate or own), "weight_decay": decay}


def _split(word: str) -> tuple[str, str]:
    name = next(name for name in sorted(OWN, key=len, reverse=True) if word.startswith(name))
    return name, word.removeprefix(name)


def _bare_optimiser(word: str) -> str | None:
    name, rate = _split(word)
    return name if rate and number(rate) == number(OWN[name][0]) else None


def _save_every(value: str) -> Fields:
    if value.endswith("steps"):
        return {"save_steps": int(value.removesuffix("steps"))}
    return {"save_every": int(value)}


# in the one legal order
WORDS: tuple[Word, ...] = (
    Word(
        "coordinates",
        "(CoordConv)",
        "CoordConv",
        lambda _: {"coordinates": True},
        "`CoordConv`",
        "three more input channels with each voxel's position in the volume, see below",
        "none",
        {"coordinates": PREDICTED},
    ),
    Word(
        "optimiser",
        f"((?:AdamW|Adam|SGD)(?:{RATE})?)",
        "AdamW3en4",
        _optimiser,
        "`SGD<rate>`, `Adam<rate>`, `AdamW<rate>`",
        "optimiser, learning rate and weight decay; without a rate its own. SGD (Nesterov momentum 0.99) brings 0.01 "
        "and a decay of 3e-5, Adam 0.001 and none, AdamW 0.001 and 0.01, whatever the family has",
        "SGD, or the family's",
        {"optimiser": PREDICTED, "initial_lr": NOTHING, "weight_decay": NOTHING},
        _bare_optimiser,
    ),
    Word(
        "weight decay",
        f"WD({RATE})",
        "WD1en5",
        lambda rate: {"weight_decay": number(rate)},
        "`WD<rate>`",
        "weight decay, of the parameters named below",
        "3e-5, or what the optimiser's word or the family brings",
        {"weight_decay": NOTHING},
    ),
    Word(
        "schedule",
        "(Poly|Cosine|Plateau|Step|Exponential)",
        "Cosine",
        lambda word: {"schedule": word.lower()},
        "`Poly`, `Cosine`, `Plateau`, `Step`, `Exponential`",
        "the learning rate over the epochs after the warm-up: (1 - progress)^0.9; half a cosine; a fifth after each 30 "
        "epochs without a better pseudo Dice (moving average); a tenth after a half and again after three quarters; "
        "0.01^progress",
        "Poly, or the family's",
        {"schedule": NOTHING},
    ),
    Word(
        "end of the schedule",
        f"Floor({RATE})",
        "Floor1en2",
        lambda part: {"floor": number(part)},
        "`Floor<part>`",
        "`Poly` and `Cosine` end at this part of the learning rate",
        "zero",
        {"floor": NOTHING},
    ),
    Word(
        "warm-up",
        f"Warmup({NUMBER})",
        "Warmup10",
        lambda epochs: {"warmup_epochs": int(epochs)},
        "`Warmup<N>`",
        "N epochs of linear increase before the schedule",
        "none, or the family's, at most a tenth of all epochs",
        {"warmup_epochs": NOTHING},
    ),
    Word(
        "loss",
        "(DiceCE|Dice70CE30|Dice50CE50|Focal|DiceFocal|Tversky)",
        "Dice70CE30",
        lambda word: {"loss": word},
        "`DiceCE`, `Dice70CE30`, `Dice50CE50`, `Focal`, `DiceFocal`, `Tversky`",
        "Dice and cross-entropy with weights 1 and 1, 0.7 and 0.3, 0.5 and 0.5; focal loss (gamma 2) alone or with "
        "Dice; Tversky index (0.3 of false positives, 0.7 of false negatives). Regions: sigmoid; classes: softmax",
        "DiceCE",
        {"loss": LOSS_MEMORY},
        tasks=(SEGMENTATION, DETECTION),
    ),
    Word(
        "label smoothing",
        f"Smooth({RATE})",
        "Smooth1en1",
        lambda rate: {"smoothing": number(rate)},
        "`Smooth<part>`",
        "part of a class's truth that is spread over all levels; case-level networks",
        "none",
        {"smoothing": NOTHING},
        tasks=(CASE_LEVEL,),
    ),
    Word(
        "balance of levels",
        "(Balanced)",
        "Balanced",
        lambda _: {"balanced": True},
        "`Balanced`",
        "levels of a class count by the inverse of their frequency among the training cases; case-level networks",
        "every case counts alike",
        {"balanced": NOTHING},
        tasks=(CASE_LEVEL,),
    ),
    Word(
        "spread of errors",
        "(Hetero)",
        "Hetero",
        lambda _: {"heteroscedastic": True},
        "`Hetero`",
        "a regression's head tells the spread of each case's error as well, and intervals come from it; case-level "
        "networks",
        "a number alone, whose interval is the same width for all cases",
        {"heteroscedastic": NOTHING},
        tasks=(CASE_LEVEL,),
    ),
    Word(
        "weight of the segmentation",
        f"Joint({RATE})",
        "Joint1en1",
        lambda weight: {"joint": number(weight)},
        "`Joint<weight>`",
        "the encoder is trained for the segmentation too, by the network's own decoder: the loss is that of the "
        "columns and so many times Dice and cross-entropy; case-level networks",
        "the columns alone",
        {"joint": UNKNOWN},
        tasks=(CASE_LEVEL,),
    ),
    Word(
        "gradient clipping",
        f"Clip({RATE})",
        "Clip1",
        lambda rate: {"clip": number(rate)},
        "`Clip<norm>`",
        "largest norm of all gradients together",
        "12",
        {"clip": NOTHING},
    ),
    Word(
        "batch size",
        f"Batch({NUMBER})",
        "Batch8",
        lambda count: {"batch": int(count)},
        "`Batch<N>`",
        "cases (patches) of a step, of all processes together",
        "the plan's",
        {"batch": UNKNOWN},
    ),
    Word(
        "gradient accumulation",
        f"Acc({NUMBER})",
        "Acc4",
        lambda count: {"accumulation": int(count)},
        "`Acc<N>`",
        "N batches are drawn for each step and their gradients averaged; the same as an N-fold batch unless the plan "
        "has batch Dice",
        "1",
        {"accumulation": PREDICTED},
    ),
    Word(
        "deep supervision",
        "(NoDS)",
        "NoDS",
        lambda _: {"deep_supervision": False},
        "`NoDS`",
        "loss of the highest resolution alone; the other segmentation layers do not exist",
        "all resolutions but the lowest",
        {"deep_supervision": PREDICTED},
        tasks=(SEGMENTATION, DETECTION),
    ),
    Word(
        "precision",
        "(FP32|BF16|AMP)",
        "BF16",
        lambda word: {"precision": word},
        "`FP32`, `BF16`, `AMP`",
        "of the network in training and in prediction, on every device; AMP is float16 with a scaled loss",
        "AMP on CUDA, FP32 elsewhere",
        {"precision": PREDICTED},
    ),
    Word(
        "augmentation",
        "(NoMirror|NoAug)",
        "NoAug",
        lambda word: {"augmentation": AUGMENTATION[word]},
        "`NoMirror`, `NoAug`",
        "nnU-Net's augmentation without mirroring, or none at all; prediction does not mirror either",
        "nnU-Net's",
        {"augmentation": NOTHING},
    ),
    Word(
        "compilation",
        "(NoCompile)",
        "NoCompile",
        lambda _: {"compile": False},
        "`NoCompile`",
        "no torch.compile for a family for which it is proven and on",
        "where nnU-Net would and the family allows it",
        {"compile": NOTHING},
    ),
    Word(
        "frozen encoder",
        f"Freeze({NUMBER})",
        "Freeze10",
        lambda epochs: {"frozen_epochs": int(epochs)},
        "`Freeze<N>`",
        "the encoder stays as it is for N epochs and then learns at a tenth of the rate of decoder or heads; for "
        "pretrained weights",
        "none",
        {"frozen_epochs": NOTHING},
    ),
    Word(
        "unfrozen stages",
        f"Unfreeze({NUMBER})",
        "Unfreeze2",
        lambda stages: {"unfrozen_stages": int(stages)},
        "`Unfreeze<K>`",
        "after `Freeze<N>` the last K stages of the encoder are trained, of each where there are several; those before "
        "stay as they are",
        "all stages",
        {"unfrozen_stages": NOTHING},
    ),
    Word(
        "encoder's rate",
        f"EncoderRate({RATE})",
        "EncoderRate2en1",
        lambda part: {"encoder_rate": number(part)},
        "`EncoderRate<part>`",
        "the encoder's learning rate, as a part of that of decoder or heads",
        "a tenth after `Freeze<N>`, else the same",
        {"encoder_rate": NOTHING},
    ),
    Word(
        "validation interval",
        f"ValEvery({NUMBER})",
        "ValEvery5",
        lambda epochs: {"validate_every": int(epochs)},
        "`ValEvery<N>`",
        "pseudo Dice and validation loss in the first, every N-th and the last epoch; between them the last "
        "values stand",
        "1",
        {"validate_every": NOTHING},
    ),
    Word(
        "save interval",
        f"SaveEvery({NUMBER}(?:steps)?)",
        "SaveEvery10",
        _save_every,
        "`SaveEvery<N>`, `SaveEvery<N>steps`",
        "a latest checkpoint every N epochs, or every N training steps within an epoch as well",
        "50",
        {"save_every": NOTHING, "save_steps": NOTHING},
    ),
    Word(
        "early stopping",
        f"Stop({NUMBER})",
        "Stop50",
        lambda epochs: {"patience": int(epochs)},
        "`Stop<N>`",
        "ends after N epochs without a better pseudo Dice (moving average), if the best checkpoint is confirmed to be "
        "no worse on full volumes; --c does not train on",
        "never",
        {"patience": NOTHING},
    ),
    Word(
        "epochs",
        f"({NUMBER})epochs",
        "250epochs",
        lambda n: {"epochs": int(n)},
        "`<N>epochs`",
        "number of epochs",
        "1000",
        {"epochs": NOTHING},
    ),
    Word(
        "iterations per epoch",
        f"iter({NUMBER})",
        "iter100",
        lambda n: {"iterations": int(n)},
        "`iter<N>`",
        "training steps per epoch; a fifth of it, at least one, for validation",
        "250",
        {"iterations": NOTHING},
    ),
    Word(
        "covariates",
        "(Covariates)",
        "Covariates",
        lambda _: {"covariates": True},
        "`Covariates`",
        "the heads read the covariates of targets.json beside the images; case-level networks",
        "images alone",
        {"covariates": NOTHING},
        tasks=(CASE_LEVEL,),
    ),
    Word(
        "fusion",
        "(Fused)",
        "Fused",
        lambda _: {"fused": True},
        "`Fused`",
        "an encoder for each of the inputs of targets.json, their features side by side; case-level networks",
        "all channels in one encoder",
        {"fused": UNKNOWN},
        tasks=(CASE_LEVEL,),
    ),
    Word(
        "levels",
        "(MultiLevel)",
        "MultiLevel",
        lambda _: {"multi_level": True},
        "`MultiLevel`",
        "the pooled maps of the last four stages, each projected to 256 features; case-level networks",
        "the last stage",
        {"multi_level": UNKNOWN},
        tasks=(CASE_LEVEL,),
    ),
    Word(
        "targets",
        "Target([1-9][0-9]*(?:and[1-9][0-9]*)*)",
        "Target1and3",
        lambda places: {"targets": places},
        "`Target<i>`, `Target<i>and<k>`",
        "the columns of targets.json that are trained, by their places from 1 on; case-level networks",
        "all",
        {"targets": NOTHING},
        tasks=(CASE_LEVEL,),
    ),
    Word(
        "seed",
        "seed(0|[1-9][0-9]*)",
        "seed42",
        lambda n: {"seed": int(n)},
        "`seed<N>`",
        "seed of initialisation, augmentation and sampling, at most 4294967295",
        "none",
        {"seed": NOTHING},
    ),
)


def memory_of(field: str, value: Any) -> str:
    """Whether a value of a recipe's field changes the memory of a training step, and whether that is predicted."""
    kind = next(word.memory[field] for word in WORDS if field in word.memory)
    return kind if isinstance(kind, str) else kind[value]


def changes_of_memory(recipe: Recipe) -> Fields:
    """The fields that a recipe changes of nnU-Net's and that change the memory of a training step."""
    usual = Recipe().as_dict()
    changed = {name: value for name, value in recipe.as_dict().items() if value != usual[name]}
    return {name: value for name, value in changed.items() if memory_of(name, value) != NOTHING}
