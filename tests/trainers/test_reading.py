"""Checkpoints are read without running what they contain: ours, nnU-Net's own, and hostile ones."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

from benchmarks.interruptions.runs import Training
from nnunet_ext.cascade.loading import load_model
from nnunet_ext.commands.model_archive import Model, checkpoint, pack
from nnunet_ext.discovery import HOOK_VARIABLE, hook_folder
from nnunet_ext.trainers.checkpoints import FINAL, plain, write
from nnunet_ext.trainers.reading import UnreadableCheckpointError, read_safely
from tests.trainers import workspace

NAME = "nnUNetTrainer_DualBranchGhost_XS_1epochs_iter2_seed7"
STOCK = "nnUNetTrainer_1epoch"


class Hostile:
    """A pickle of it makes a folder when it is read."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.fixture(scope="module")
def ours(tiny_dataset, tmp_path_factory):
    training = Training(tiny_dataset, tmp_path_factory.mktemp("ours"), NAME)
    assert training.run() == 0, training.outputs()
    return training.folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(HOOK_VARIABLE, str(hook_folder()))
    return tmp_path


def hostile(path, folder):
    content = read_safely(folder / FINAL)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({**content, "logging": Hostile()}, path)
    return path


def test_ours_are_plain(ours):
    content = torch.load(ours / FINAL, weights_only=True)
    assert content["current_epoch"] == 1
    assert all(type(value) is float for value in content["logging"]["train_losses"])


def test_nnunets_own_are_read_safely(tiny_dataset, tmp_path):
    settings = {"num_iterations_per_epoch": 2, "num_val_iterations_per_epoch": 1}
    training = Training(tiny_dataset, tmp_path, STOCK, settings)
    assert training.run() == 0, training.outputs()
    content = read_safely(training.folder / FINAL)
    assert isinstance(content["logging"]["mean_fg_dice"][0], np.generic), "the allow-list is needed"
    model = Model(workspace.DATASET, STOCK, "nnUNetPlans", "3d_fullres", ("0",), FINAL)
    write(checkpoint(pack(model, training.results, {}), "0"), tmp_path / "plain.pth")
    exported = torch.load(tmp_path / "plain.pth", weights_only=True)
    assert exported["trainer_name"] == STOCK
    assert exported["logging"]["mean_fg_dice"] == content["logging"]["mean_fg_dice"]


def test_a_hostile_checkpoint_is_refused_and_does_not_run(ours, here):
    path = hostile(here / "hostile.pth", ours)
    with pytest.raises(UnreadableCheckpointError, match=r"hostile.pth asks for \w+\.mkdir to be called; .* run\."):
        read_safely(path)
    assert not Path("ran").exists()
    torch.load(path, weights_only=False)
    assert Path("ran").exists(), "the file is harmless: this test proves nothing"


def test_the_cascade_reads_safely(ours, here):
    hostile(here / "fold_0" / FINAL, ours)
    with pytest.raises(UnreadableCheckpointError, match="asks for"):
        load_model(nnUNetPredictor(device=torch.device("cpu")), here, (0,))
    assert not Path("ran").exists()


def test_with_torchs_variable_stock_prediction_is_safe_too_and_reads_ours(ours, here, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(ours.parent), (0,))
    stored = read_safely(ours / FINAL)["network_weights"]
    assert all(torch.equal(value, stored[name]) for name, value in predictor.network.state_dict().items())
    path = hostile(here / "hostile.pth", ours)
    with pytest.raises(Exception, match="mkdir"):
        load_pretrained_weights(predictor.network, str(path))
    load_pretrained_weights(predictor.network, str(ours / FINAL))
    assert not Path("ran").exists()


def test_what_is_not_plain_is_refused_when_it_is_written(tmp_path):
    with pytest.raises(TypeError, match="plain values"):
        plain({"a": [object()]})
    converted = plain({"a": (np.float32(0.5), np.int64(3)), "b": np.arange(2), "c": [True, None, "x"]})
    assert converted == {"a": (0.5, 3), "b": [0, 1], "c": [True, None, "x"]}
    assert [type(value) for value in converted["a"]] == [float, int]
    write({"a": converted, "t": torch.ones(2)}, tmp_path / "file.pth")
    assert torch.load(tmp_path / "file.pth", weights_only=True)["a"] == converted
    assert [path.name for path in tmp_path.iterdir()] == ["file.pth"]


def test_equal_strings_are_one_object_so_that_equal_states_give_equal_bytes(tmp_path):
    for number, words in enumerate([["ab", "ab"], ["ab", "".join(["a", "b"])]]):
        write(plain({"words": words}), tmp_path / f"{number}.pth")
    assert (tmp_path / "0.pth").read_bytes() == (tmp_path / "1.pth").read_bytes()
