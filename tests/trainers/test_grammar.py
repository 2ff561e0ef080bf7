"""The grammar of trainer names: one legal name per recipe."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_ext.networks.registry import PREFIX, default_size, find, specs
from nnunet_ext.networks.tasks import SEGMENTATION
from nnunet_ext.trainers import grammar
from nnunet_ext.trainers.grammar import WORDS, parse
from nnunet_ext.trainers.recipe import FIELDS, Recipe

NAMES = [
    f"{PREFIX}{spec.trainer}{suffix}"
    for spec in specs()
    for suffix in [f"_{s}" for s in spec.sizes] + ([""] if default_size(spec) else [])
]
GHOST = PREFIX + "DualBranchGhost"


def changed(recipe):
    usual = Recipe.of(find("DualBranchGhost")[0]).as_dict()
    return {name: value for name, value in recipe.as_dict().items() if value != usual[name]}


@pytest.mark.parametrize("name", NAMES)
def test_every_declared_network_has_its_trainers(name):
    parsed = parse(name)
    assert parsed is not None
    assert parsed.size in parsed.spec.sizes
    assert parsed.recipe == Recipe.of(parsed.spec)
    assert "__" not in name, "nnU-Net splits the results folder's name on two underscores"


def test_the_spelled_out_default_size_is_the_same_network():
    assert parse(GHOST) == parse(GHOST + "_S")


@pytest.mark.parametrize(
    "name", ["nnUNetTrainer", "nnUNetTrainer_250epochs", "nnUNetTrainer_Else_XS", "Other", "__path__"]
)
def test_other_names_are_not_ours(name):
    assert parse(name) is None


# what each word sets, by hand
SETS = {
    "CoordConv": {"coordinates": True},
    "AdamW3en4": {"optimiser": "AdamW", "initial_lr": 3e-4, "weight_decay": 1e-2},
    "AdamW": {"optimiser": "AdamW", "initial_lr": 1e-3, "weight_decay": 1e-2},
    "Adam2.5en4": {"optimiser": "Adam", "initial_lr": 2.5e-4, "weight_decay": 0.0},
    "SGD2en2": {"initial_lr": 2e-2},
    "WD1en5": {"weight_decay": 1e-5},
    "Cosine": {"schedule": "cosine"},
    "Plateau": {"schedule": "plateau"},
    "Step": {"schedule": "step"},
    "Exponential": {"schedule": "exponential"},
    "Floor1en2": {"floor": 0.01},
    "Warmup10": {"warmup_epochs": 10},
    "Dice70CE30": {"loss": "Dice70CE30"},
    "DiceFocal": {"loss": "DiceFocal"},
    "Clip1": {"clip": 1.0},
    "Clip5en1": {"clip": 0.5},
    "Clip1.5": {"clip": 1.5},
    "Acc4": {"accumulation": 4},
    "NoDS": {"deep_supervision": False},
    "BF16": {"precision": "BF16"},
    "AMP": {"precision": "AMP"},
    "NoAug": {"augmentation": "none"},
    "NoMirror": {"augmentation": "no mirroring"},
    "Freeze10": {"frozen_epochs": 10},
    "Freeze10_Unfreeze2": {"frozen_epochs": 10, "unfrozen_stages": 2},
    "EncoderRate2en1": {"encoder_rate": 0.2},
    "Batch8": {"batch": 8},
    "ValEvery5": {"validate_every": 5},
    "SaveEvery10": {"save_every": 10},
    "SaveEvery100steps": {"save_steps": 100},
    "Stop50": {"patience": 50},
    "250epochs": {"epochs": 250},
    "iter100": {"iterations": 100},
    "seed0": {"seed": 0},
    "seed4294967295": {"seed": 4294967295},
}


@pytest.mark.parametrize("word", SETS)
def test_a_word_sets_its_fields_and_no_other(word):
    assert changed(parse(f"{GHOST}_{word}").recipe) == SETS[word]


def test_every_field_of_the_recipe_has_its_word():
    assert {field for word in WORDS for field in word.memory} == set(FIELDS)
    for word in WORDS:
        # no family is compiled, so that word is a synonym everywhere; tests/outcomes has the case-level words
        if word.kind != "compilation" and SEGMENTATION in word.tasks:
            examples = [part for example in SETS for part in example.split("_")]
            assert any(word.regex.fullmatch(example) for example in examples), word.kind


def test_no_compile_is_a_word_of_families_that_are_compiled(monkeypatch):
    from dataclasses import replace

    compiled = replace(find("DualBranchGhost")[0], compile=True)
    monkeypatch.setattr(grammar, "specs", lambda: (compiled,))
    assert parse(GHOST).recipe.compile
    assert not parse(GHOST + "_NoCompile").recipe.compile


@given(st.permutations(["M", "AdamW3en4", "2epochs", "iter10", "seed1"]))
def test_one_order_is_legal_and_the_others_name_it(words):
    legal = GHOST + "_M_AdamW3en4_2epochs_iter10_seed1"
    name = GHOST + "_" + "_".join(words)
    if name == legal:
        assert parse(name).recipe.seed == 1
    else:
        with pytest.raises(ValueError, match=f"the legal name is {legal}"):
            parse(name)


@pytest.mark.parametrize(
    ("suffix", "expected"),
    [
        ("2epoch", "nearest: 250epochs"),
        ("XS_seed", "nearest: seed42"),
        ("xs", "XS, S, M, L"),
        ("0epochs", "unknown word '0epochs'"),
        ("02epochs", "unknown word '02epochs'"),
        ("٣epochs", "unknown word '٣epochs'"),
        ("AdamW0.3en3", "unknown word 'AdamW0.3en3'"),
        ("AdamW30en5", "unknown word"),
        ("AdamW3.0en4", "unknown word"),
        ("AdamW3en04", "unknown word"),
        ("Clip0.5", "unknown word 'Clip0.5'"),
        ("Clip01", "unknown word"),
        ("XS_M", "both set the size"),
        ("XS_2epochs_3epochs", "both set the epochs"),
        ("iter5_iter5", "both set the iterations"),
        ("Cosine_Step", "both set the schedule"),
        ("NoMirror_NoAug", "both set the augmentation"),
        ("seed99999999999", "the largest seed is 4294967295, not 99999999999"),
        ("seed4294967296", "the largest seed"),
        ("Warmup10_10epochs", "10 epochs of warm-up leave none of 10"),
        ("Freeze5_5epochs", "5 epochs of a frozen encoder leave none of 5"),
        ("AdamW1en3", "'AdamW1en3' is what 'AdamW' means; the legal name is nnUNetTrainer_DualBranchGhost_AdamW."),
        ("", "unknown word ''"),
    ],
)
def test_illegal_words_are_explained(suffix, expected):
    with pytest.raises(ValueError, match=r"DualBranchGhost|epochs of") as error:
        parse(f"{GHOST}_{suffix}")
    assert expected in str(error.value)
    assert str(error.value).count(". ") <= 1, "one or two sentences"


@pytest.mark.parametrize(
    ("name", "legal"),
    [
        ("DualBranchGhost_1000epochs", "DualBranchGhost"),
        ("DualBranchGhost_XS_iter250", "DualBranchGhost_XS"),
        ("DualBranchGhost_SGD", "DualBranchGhost"),
        ("DualBranchGhost_WD3en5", "DualBranchGhost"),
        ("DualBranchGhost_Poly", "DualBranchGhost"),
        ("DualBranchGhost_DiceCE_seed1", "DualBranchGhost_seed1"),
        ("DualBranchGhost_Clip12", "DualBranchGhost"),
        ("DualBranchGhost_Acc1", "DualBranchGhost"),
        ("DualBranchGhost_NoCompile", "DualBranchGhost"),
        ("DualBranchGhost_ValEvery1", "DualBranchGhost"),
        ("DualBranchGhost_SaveEvery50", "DualBranchGhost"),
        ("DualBranchGhost_AdamW_WD1en2", "DualBranchGhost_AdamW"),
        ("MobileUNETR_AdamW3en4", "MobileUNETR"),
        ("MobileUNETR_Cosine", "MobileUNETR"),
        ("UNETR_Warmup50", "UNETR"),
        ("UNETR_Warmup5_50epochs", "UNETR_50epochs"),
        ("UNETR_AdamW1en4_WD1en5", "UNETR"),
        ("ROIUNet3D_Tiny_CoordConv", "ROIUNet3D_Tiny"),
    ],
)
def test_a_second_name_for_one_recipe_is_refused(name, legal):
    with pytest.raises(ValueError, match=f"anyway; the legal name is {PREFIX}{legal}\\."):
        parse(PREFIX + name)
    assert parse(PREFIX + legal)


def test_a_word_brings_its_own_rate_and_decay_never_the_familys():
    recipe = parse(PREFIX + "UNETR_AdamW3en4").recipe
    assert (recipe.initial_lr, recipe.weight_decay) == (3e-4, 1e-2)
    recipe = parse(PREFIX + "UNETR_SGD").recipe
    assert (recipe.initial_lr, recipe.weight_decay, recipe.schedule, recipe.warmup_epochs) == (1e-2, 3e-5, "cosine", 50)


LONG = (
    "CoordConv_AdamW2.5en4_WD1.25en5_Exponential_Warmup100000_Dice70CE30_Clip1.25_Acc400000_NoDS_BF16_NoMirror_"
    "Freeze100000_ValEvery500000_SaveEvery100000steps_Stop500000_200000epochs_iter10000_seed42"
)


def test_a_name_too_long_for_a_folder_is_refused_with_its_length():
    name = f"{PREFIX}DualBranchMobileNetV2DilatedFixed_XS_{LONG}"
    length = len(name) + len("__nnUNetPlans__3d_fullres")
    assert length > 255
    with pytest.raises(ValueError, match=f"has {length} bytes, and file systems allow 255"):
        parse(name)
    assert parse(f"{PREFIX}UNETR_XS_{LONG}").recipe.accumulation == 400000


def test_the_example_of_the_documents_is_legal():
    parsed = parse(GHOST + "_M_CoordConv_AdamW3en4_Cosine_Dice70CE30_Clip1_Acc4_250epochs_seed42")
    assert (parsed.size, parsed.recipe.clip, parsed.recipe.epochs) == ("M", 1, 250)


def test_no_two_kinds_share_a_word():
    for a, b in itertools.permutations(WORDS, 2):
        assert not a.regex.fullmatch(b.example), f"{b.example} is both {a.kind} and {b.kind}"
    assert all(w.regex.fullmatch(w.example) for w in WORDS)
