"""A plan that was made for a memory target trains, on the data that are preprocessed already."""

import json

from tests.integration.conftest import PLANS, TRAINER, Workspace

TARGET = "0.02"
NAME = f"{PLANS}_DualBranchGhost_XS_{TARGET}GB"
CONFIGURATION = "3d_fullres"


def configuration(space: Workspace, name: str) -> dict:
    text = (space.folder("nnUNet_preprocessed") / f"{name}.json").read_text()
    return json.loads(text)["configurations"][CONFIGURATION]


def test_a_plan_for_a_memory_target_trains_without_another_preprocessing(trained):
    data = trained.folder("nnUNet_preprocessed")
    there = sorted(path.name for path in data.iterdir() if path.is_dir())
    trained.run("nnunet_ext", "plan", "-d", 501, "-tr", TRAINER, "--gpu-memory", TARGET, "--reserve", 0, "-p", PLANS)
    stock, ours = (configuration(trained, name) for name in (PLANS, NAME))
    assert all(small <= large for small, large in zip(ours["patch_size"], stock["patch_size"], strict=True))
    assert ours["patch_size"] != stock["patch_size"]
    assert ours["data_identifier"] == stock["data_identifier"]
    trained.run("nnUNetv2_train", 501, CONFIGURATION, 0, "-p", NAME, "-tr", TRAINER, "-device", "cpu")
    assert sorted(path.name for path in data.iterdir() if path.is_dir()) == there, "nothing was preprocessed again"
    fold = trained.folder("nnUNet_results") / f"{TRAINER}__{NAME}__{CONFIGURATION}" / "fold_0"
    assert (fold / "checkpoint_final.pth").is_file()
    losses = [line for log in fold.glob("training_log*.txt") for line in log.read_text().splitlines() if "loss" in line]
    assert losses
    assert not any("nan" in line for line in losses)
