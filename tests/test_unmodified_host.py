"""nnU-Net and its networks are those that pip installed: no file changed, and nothing patched once we are imported."""

import base64
import hashlib
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from nnunet_ext.discovery import HOOK_VARIABLE, hook_folder
from tests.host_snapshot import HOSTS
from tests.trainers import workspace

pytestmark = pytest.mark.xdist_group("host")  # one process serves both

WATCH = """
import contextlib, importlib, io, json, os, pkgutil, sys
from nnunetv2.inference import predict_from_raw_data
from nnunetv2.run import run_training
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find_trainer
from tests.host_snapshot import changed, snapshot

def train_and_predict(name):
    # from the trainer's making to its first step, and the network that a predictor makes
    import torch
    trainer = run_training.get_trainer_from_args("999", "3d_fullres", 0, name, device=torch.device("cpu"))
    trainer.initialize()
    trainer.on_train_start()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    trainer.train_step(next(trainer.dataloader_train))
    configuration = trainer.plans_manager.get_configuration("3d_fullres")
    type(trainer).build_network_architecture(trainer.plans_manager, configuration, 4, 3, False)

def import_all(name):
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)

os.environ.pop({variable!r}, None)
with contextlib.redirect_stdout(io.StringIO()):
    with contextlib.suppress(RuntimeError):
        find_trainer("nnUNetTrainer_NoSuchTrainer")  # imports all that nnU-Net's search does
    import_all("dynamic_network_architectures")
    before = snapshot()
    assert not any(name.startswith("nnunet_ext") for name in sys.modules)
    {ours}
    by_ours = changed(before)
    {patches}
print(json.dumps([len(before), by_ours, changed(before)]))
"""
USE_ALL_OF_OURS = f"""
    import_all("nnunet_ext")
    os.environ[{HOOK_VARIABLE!r}] = {str(hook_folder())!r}
    name = "nnUNetTrainer_DualBranchGhost_XS_2epochs"
    assert find_trainer(name).__module__.startswith("nnunet_ext")
    train_and_predict(name)
"""
PATCHES = {
    "run_training.maybe_load_checkpoint = print": "nnunetv2.run.run_training maybe_load_checkpoint",
    "run_training.run_training.__code__ = (lambda: 0).__code__": "nnunetv2.run.run_training run_training code",
    "run_training.run_training.__defaults__ = (1,)": "nnunetv2.run.run_training run_training defaults",
    "predict_from_raw_data.nnUNetPredictor.predict_from_files = print": (
        "nnunetv2.inference.predict_from_raw_data.nnUNetPredictor predict_from_files"
    ),
}


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """What changed in the hosts in a new process: while all of ours was used, and then by the patches."""
    root = tmp_path_factory.mktemp("nnunet")
    workspace.write(root)
    program = WATCH.format(variable=HOOK_VARIABLE, ours=USE_ALL_OF_OURS.strip(), patches="; ".join(PATCHES))
    folders = {f"nnUNet_{name}": str(root / name) for name in ("raw", "preprocessed", "results")}
    environ = os.environ | folders | {"PYTHONPATH": str(Path(__file__).parents[1]), "nnUNet_n_proc_DA": "0"}
    done = subprocess.run([sys.executable, "-c", program], env=environ, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    looked_at, by_ours, by_patches = json.loads(done.stdout)
    assert looked_at > 1000
    return by_ours, by_patches


@pytest.mark.parametrize("host", HOSTS)
def test_no_file_of_the_host_is_changed(host):
    checked = 0
    for file in metadata.files(host):
        if file.hash is not None:
            digest = hashlib.new(file.hash.mode, file.read_binary()).digest()
            assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == file.hash.value, file
            checked += 1
    assert checked > 20


@pytest.mark.parametrize("host", HOSTS)
def test_no_file_is_added_to_the_host(host):
    installed = {Path(str(file.locate())).resolve() for file in metadata.files(host)}
    folder = Path(str(metadata.distribution(host).locate_file(host))).resolve()
    assert {path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"} <= installed


def test_importing_all_of_ours_and_training_a_step_patches_nothing(changed):
    assert changed[0] == []


def test_patches_are_seen(changed):
    assert set(PATCHES.values()) <= set(changed[1])
