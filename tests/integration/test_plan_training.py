"""A plan that was made for a memory target trains, on the data that are preprocessed already."""

import json
import sys

import pytest

from tests.integration.test_pipeline import Workspace

TRAINER = "nnUNetTrainer_DualBranchGhost_XS_1epochs_iter2_seed1"
STOCK, TARGET = "nnUNetPlans_cpu", "0.02"
NAME = f"{STOCK}_DualBranchGhost_XS_{TARGET}GB"
CONFIGURATION = "3d_fullres"
pytestmark = pytest.mark.xdist_group("plan_training")


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """Phantoms of BraTS, preprocessed with nnU-Net's plans, then planned for less memory than those need."""
    space = Workspace(tmp_path_factory.mktemp("plan"))
    tree = space.root / "brats"
    phantoms = ["--cases", 5, "--shape", 40, 40, 40, "--seed", 1, "--edition", 2021]
    space.run(sys.executable, "dataset_conversion/phantom_brats.py", tree, *phantoms)
    space.run(sys.executable, "dataset_conversion/convert_brats.py", tree, "--dataset-id", 501)
    options = ["-gpu_memory_target", 1, "-overwrite_plans_name", STOCK, "-np", 1, "-npfp", 1]
    space.run("nnUNetv2_plan_and_preprocess", "-d", 501, "-c", CONFIGURATION, *options)
    space.run("nnunet_ext", "plan", "-d", 501, "-tr", TRAINER, "--gpu-memory", TARGET, "--reserve", 0, "-p", STOCK)
    return space


def configuration(space: Workspace, name: str) -> dict:
    text = (space.folder("nnUNet_preprocessed") / f"{name}.json").read_text()
    return json.loads(text)["configurations"][CONFIGURATION]


def test_a_plan_for_a_memory_target_trains_without_another_preprocessing(planned):
    stock, ours = (configuration(planned, name) for name in (STOCK, NAME))
    assert all(small <= large for small, large in zip(ours["patch_size"], stock["patch_size"], strict=True))
    assert ours["patch_size"] != stock["patch_size"]
    assert ours["data_identifier"] == stock["data_identifier"]
    planned.run("nnUNetv2_train", 501, CONFIGURATION, 0, "-p", NAME, "-tr", TRAINER, "-device", "cpu")
    fold = planned.folder("nnUNet_results") / f"{TRAINER}__{NAME}__{CONFIGURATION}" / "fold_0"
    assert (fold / "checkpoint_final.pth").is_file()
    losses = [line for log in fold.glob("training_log*.txt") for line in log.read_text().splitlines() if "loss" in line]
    assert losses
    assert not any("nan" in line for line in losses)
