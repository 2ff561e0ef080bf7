"""Times from earlier runs, and what a run asks of the machine."""

import json
import os
import platform

import pytest

from nnunet_ext.discovery import HOOK_VARIABLE, hook_folder
from nnunet_ext.experiments import estimate, hardware
from nnunet_ext.experiments.file import sweep_of
from nnunet_ext.experiments.hardware import Machine, Predicted
from nnunet_ext.experiments.methods import methods_of
from nnunet_ext.experiments.tasks import Needs
from nnunet_ext.planning.planner import RESERVE

SUFFIX = "__nnUNetPlans__3d_fullres"
MIB = 2**20
HERE = platform.node()


def method(name="UNet3D_XS_10epochs_iter20"):
    return methods_of(sweep_of({"dataset": 501, "trainers": [name]}), lambda _: True).chosen[0]


def run_in(results, trainer, seconds, *, host=HERE, device="cpu", fold=0, newest=0):
    folder = results / f"{trainer}{SUFFIX}" / f"fold_{fold}"
    folder.mkdir(parents=True)
    epoch = {"learning_rate": 0, "loss": {"training": 1, "validation": 1}, "mean_dice": None, "ema_dice": None}
    epoch |= {"memory": {"peak_mib": 1}, "dice": {}, "host": host}
    lines = [json.dumps({**epoch, "epoch": i, "seconds": {"epoch": each}}) for i, each in enumerate(seconds)]
    (folder / "progress.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (folder / "debug.json").write_text(json.dumps({"device": device}), encoding="utf-8")
    os.utime(folder, (newest, newest))


def pace(results, name="UNet3D_XS_10epochs_iter20", device="cpu"):
    return estimate.pace(method(name), results, "nnUNetPlans", "3d_fullres", device)


def test_the_first_epoch_is_not_the_pace(tmp_path):
    run_in(tmp_path, "nnUNetTrainer_UNet3D_XS_2epochs_iter5_seed3", [100, 10, 12, 14])
    found = pace(tmp_path)
    assert found.seconds == 12 / 5
    assert found.of(method().parsed.recipe) == 12 / 5 * 20 * 10, "iterations and epochs of the training that is planned"
    assert found.source == f"nnUNetTrainer_UNet3D_XS_2epochs_iter5_seed3{SUFFIX}/fold_0"


def test_one_epoch_must_do_where_there_is_one(tmp_path):
    run_in(tmp_path, "nnUNetTrainer_UNet3D_XS_2epochs_iter5", [10])
    assert pace(tmp_path).seconds == 2


@pytest.mark.parametrize(
    "trainer",
    [
        "nnUNetTrainer_UNet3D_iter5",
        "nnUNetTrainer_UNet3DStride_XS_iter5",
        "nnUNetTrainer_UNet3D_XS_CoordConv_iter5",
        "nnUNetTrainer_UNet3D_XS_Acc2_iter5",
        "nnUNetTrainer_UNet3D_XS_oldword",
        "nnUNetTrainer",
    ],
)
def test_other_trainings_tell_nothing(tmp_path, trainer):
    run_in(tmp_path, trainer, [1, 1])
    assert pace(tmp_path) is None


def test_other_devices_tell_nothing_and_other_machines_are_named(tmp_path):
    run_in(tmp_path, "nnUNetTrainer_UNet3D_XS_iter5", [5, 5], device="cuda:0", host="elsewhere")
    assert pace(tmp_path) is None
    assert pace(tmp_path, device="cuda").source.endswith("fold_0 on elsewhere")


def test_the_newest_run_counts(tmp_path):
    run_in(tmp_path, "nnUNetTrainer_UNet3D_XS_iter5", [5, 5], newest=2)
    run_in(tmp_path, "nnUNetTrainer_UNet3D_XS_iter5", [10, 10], fold=1, newest=1)
    assert pace(tmp_path).seconds == 1


def test_nnunets_own_trainer_is_measured_by_its_log(tmp_path):
    folder = tmp_path / f"nnUNetTrainer{SUFFIX}" / "fold_0"
    folder.mkdir(parents=True)
    words = ["Epoch 0", "Current learning rate: 0.01", "train_loss 0.1", "val_loss 0.1", "Epoch time: 500.0 s"]
    log = "".join(f"2026-01-01 00:00:00.000000: {word}\n" for word in words)
    (folder / "training_log_2026_1_1_00_00_00.txt").write_text(log, encoding="utf-8")
    found = pace(tmp_path, "nnUNetTrainer")
    assert found.seconds == 2
    assert found.of(estimate.recipe_of(method("nnUNetTrainer"))) == 500 * 1000


# --- the machine


def asked(**keys):
    return sweep_of({"dataset": 501, "trainers": ["UNet3D"], **keys})


CARD = Machine(16, 64 * 1024, (24 * 1024, 8 * 1024))
RESERVED = RESERVE // MIB


@pytest.mark.parametrize(
    ("keys", "mib", "needs"),
    [
        ({"device": "cpu"}, 1000, Needs(1, 0, hardware.PROCESS_MIB + 1000)),
        ({"device": "cpu", "cores": 3}, None, Needs(3, 0, hardware.PROCESS_MIB)),
        ({"gpu_memory": 10}, 5 * 1024 - RESERVED, Needs(12, 0.5, hardware.PROCESS_MIB)),
        ({"gpu_memory": 10}, 5 * 1024 - RESERVED + 1, Needs(12, 0.55, hardware.PROCESS_MIB)),
        ({}, 8 * 1024 - RESERVED, Needs(12, 1, hardware.PROCESS_MIB)),
        ({"share_gpu": False, "cores": 4}, 10, Needs(4, 1, hardware.PROCESS_MIB)),
        ({"address": "auto"}, 10, Needs(12, 1, hardware.PROCESS_MIB)),
        ({}, None, Needs(12, 1, hardware.PROCESS_MIB)),
    ],
)
def test_needs(keys, mib, needs):
    assert hardware.needs_of(asked(**keys), Predicted(mib), CARD) == needs


@pytest.mark.parametrize(
    ("keys", "machine", "mib", "told"),
    [
        ({}, CARD, 8 * 1024 - RESERVED, None),
        ({}, CARD, 8 * 1024 - RESERVED + 1, "the GPU has 8.0 GB"),
        ({"gpu_memory": 24}, CARD, 9 * 1024, None),
        ({"address": "auto", "gpu_memory": 4}, CARD, 2 * 1024, "the GPU has 4.0 GB"),
        ({"address": "auto"}, CARD, 10**6, None),
        ({}, Machine(4, 1000), 1, "this machine has none; give `device: cpu`"),
        ({"device": "cpu"}, Machine(4, 4096), 4096 - hardware.PROCESS_MIB, None),
        ({"device": "cpu"}, Machine(4, 4096), 4097 - hardware.PROCESS_MIB, "needs 4.0 GB of main memory"),
        ({}, Machine(4, 1000), None, None),
    ],
)
def test_what_does_not_fit_is_refused(keys, machine, mib, told):
    found = hardware.refusal("A", Predicted(mib), asked(**keys), machine)
    assert found is None if told is None else told in found


def test_threads_are_those_of_the_run_whatever_the_machine_has():
    variables = hardware.environment_of(asked(device="cpu", cores=3), CARD)
    assert (variables["nnUNet_ext_threads"], variables["nnUNet_n_proc_DA"]) == ("3", "1")
    assert hardware.environment_of(asked(device="cpu"), CARD)["nnUNet_n_proc_DA"] == "0"
    variables = hardware.environment_of(asked(cores=6), CARD)
    assert (variables["nnUNet_ext_threads"], variables["nnUNet_n_proc_DA"]) == ("1", "6")


@pytest.mark.parametrize("held", ["", "/others", str(hook_folder()), f"/others:{hook_folder()}"])
def test_every_command_finds_our_trainers_whatever_the_callers_shell_holds(held, monkeypatch):
    monkeypatch.setenv(HOOK_VARIABLE, held)
    told = hardware.environment_of(asked(device="cpu"), CARD)[HOOK_VARIABLE].split(":")
    others = [folder for folder in held.split(":") if folder == "/others"]
    assert (told.count(str(hook_folder())), [folder for folder in told if folder == "/others"]) == (1, others)
    assert not held.startswith("/others:") or told[0] == "/others", "the order of the caller stays"


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(hardware, "CGROUP", limit)
    everything = hardware.memory_mib()
    limit.write_text(f"{100 * MIB}\n", encoding="ascii")
    assert hardware.memory_mib() == 100
    limit.write_text("max\n", encoding="ascii")
    assert hardware.memory_mib() == everything
