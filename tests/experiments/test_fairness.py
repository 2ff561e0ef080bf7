"""The note on whether a comparison is fair."""

import pytest

from nnunet_ext.experiments.fairness import ALWAYS, FAMILY, SHOWN, STOCK, differences, note, row_of
from nnunet_ext.experiments.file import sweep_of
from nnunet_ext.experiments.methods import methods_of
from nnunet_ext.networks.registry import specs
from nnunet_ext.trainers.recipe import FIELDS, NOT_COMPARED

CONFIGURATION = {"patch_size": [128, 96, 64], "batch_size": 2}
NOT_LEARNT = {"validate_every", "seed", *NOT_COMPARED}
"""Fields that change no weight, or are another row of the matrix."""


def methods(trainers, words=None, seeds=(1,)):
    given = {"dataset": 501, "trainers": trainers, "words": words, "seeds": list(seeds)}
    return methods_of(sweep_of(given), lambda name: name == "nnUNetTrainer_5epochs").chosen


def test_every_field_that_decides_what_is_learnt_is_shown():
    assert set(SHOWN) | NOT_LEARNT == set(FIELDS)


def test_each_value_has_its_source():
    (row,) = map(row_of, methods("UNETR", ["XS", "250epochs", "Adam3en4"]))
    told = {field: (value.value, value.source) for field, value in row.values.items() if value.source != STOCK}
    assert told == {
        "optimiser": ("Adam", "word Adam3en4"),
        "initial_lr": (3e-4, "word Adam3en4"),
        "weight_decay": (0.0, "word Adam3en4"),
        "schedule": ("cosine", "published for this kind of network"),
        "warmup_epochs": (25, "published for this kind of network"),
        "epochs": (250, "word 250epochs"),
    }
    assert row.cited


def test_every_declared_difference_from_nnunet_is_cited():
    for spec in (spec for spec in specs() if spec.task.decodes):
        size = "" if "S" in spec.sizes else "_Tiny"
        two = "2d" if spec.dimensions == (2,) else "3d_roi"
        given = {"dataset": 1, "trainers": [f"{spec.trainer}{size}"], "configuration": two}
        (method,) = methods_of(sweep_of(given), lambda _: False).chosen
        row = row_of(method)
        published = [field for field, value in row.values.items() if value.source == FAMILY]
        assert bool(row.cited) == bool(published), spec.trainer
        assert not published or spec.recipe_source


def test_equal_recipes_differ_in_nothing():
    rows = [row_of(method) for method in methods("UNet3D DualBranchGhost nnUNetTrainer")]
    assert differences(rows) == {}
    assert "No row differs from another in its recipe" in note(methods("UNet3D DualBranchGhost"), CONFIGURATION, 1)


@pytest.mark.parametrize(("others", "known"), [("UNet3D", False), ("UNet3D UNETR", True)])
def test_a_recipe_that_is_not_known_is_never_called_equal(others, known):
    told = note(methods(f"{others} nnUNetTrainer_5epochs"), CONFIGURATION, 1)
    assert "**What 5epochs trains by is not known here**" in told
    assert "No row differs" not in told
    assert ("* optimiser: SGD for UNet3D; AdamW for UNETR" in told) == known


def test_what_differs_is_called_out_with_who_has_which():
    rows = [row_of(method) for method in methods("UNet3D UNETR", {"UNet3D": ["Clip1"]})]
    assert differences(rows) == {
        "optimiser": {"SGD": ["UNet3D_Clip1"], "AdamW": ["UNETR"]},
        "initial_lr": {1e-2: ["UNet3D_Clip1"], 1e-4: ["UNETR"]},
        "weight_decay": {3e-5: ["UNet3D_Clip1"], 1e-5: ["UNETR"]},
        "schedule": {"poly": ["UNet3D_Clip1"], "cosine": ["UNETR"]},
        "warmup_epochs": {0: ["UNet3D_Clip1"], 50: ["UNETR"]},
        "clip": {1.0: ["UNet3D_Clip1"], 12.0: ["UNETR"]},
    }
    told = note(methods("UNet3D UNETR", {"UNet3D": ["Clip1"]}), CONFIGURATION, 1)
    assert "* optimiser: SGD for UNet3D_Clip1; AdamW for UNETR" in told
    assert "patch (128x96x64), batch (2)" in told
    assert "* Published for UNETR: [UNETR's training script](https://" in told
    assert "| clip |" in told.splitlines()[4], "a column for each field in which rows differ"


def test_a_word_for_the_batch_is_told_of_one_row_and_of_all():
    told = note(methods("UNet3D UNETR", {"UNet3D": ["Batch4"]}), CONFIGURATION, 1)
    assert "patch (128x96x64) and augmentation" in told
    assert "* batch: 4 for UNet3D_Batch4; " in told
    assert "batch (4)" in note(methods("UNet3D UNETR", {"UNet3D": ["Batch4"], "UNETR": ["Batch4"]}), CONFIGURATION, 1)


def test_the_table_is_whole():
    lines = [line for line in note(methods("UNet3D UNETR"), CONFIGURATION, 1).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert lines[0].count("|") == ALWAYS + 3


@pytest.mark.parametrize(("seeds", "told"), [((1, 2), True), ((1,), False)])
def test_a_trainer_without_seeds_is_a_caution_where_others_have_several(seeds, told):
    text = note(methods("UNet3D nnUNetTrainer", seeds=seeds), CONFIGURATION, len(seeds))
    assert ("nnUNetTrainer has no seed" in text) == told


def test_another_packages_trainer_cannot_be_asked():
    text = note(methods("nnUNetTrainer_5epochs UNet3D"), CONFIGURATION, 1)
    assert "| 5epochs | ? |" in text


def test_case_level_trainers_are_told_by_what_means_something_for_them():
    (plain, worded) = map(row_of, methods("CaseUNETR CaseUNETR_Balanced_Covariates"))
    assert not {"loss", "deep_supervision"} & set(plain.values)
    assert plain.values["optimiser"].source == FAMILY
    assert differences([plain, worded]) == {
        "balanced": {False: ["CaseUNETR"], True: ["CaseUNETR_Balanced_Covariates"]},
        "covariates": {False: ["CaseUNETR"], True: ["CaseUNETR_Balanced_Covariates"]},
    }
    told = note(methods("CaseUNETR CaseUNETR_Balanced_Covariates"), CONFIGURATION, 1)
    assert "* covariates: no for CaseUNETR; yes for CaseUNETR_Balanced_Covariates" in told
    assert "loss" not in told
    assert "smoothing" not in row_of(methods("UNet3D")[0]).values
