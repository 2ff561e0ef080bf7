"""nnU-Net's folders on a tiny dataset."""

import pytest
from nnunetv2.training.logging.nnunet_logger import LocalLogger

from nnunet_ext.discovery import hook_folder
from tests.trainers import workspace


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory):
    """The preprocessed four-channel dataset; tests do not write into it."""
    root = tmp_path_factory.mktemp("tiny")
    workspace.write(root)
    return root


def use(monkeypatch, root, results):
    monkeypatch.setenv("nnUNet_raw", str(root / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(root / "preprocessed"))
    monkeypatch.setenv("nnUNet_results", str(results))
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_folder()))
    monkeypatch.setenv("nnUNet_def_n_proc", "1")
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    monkeypatch.setattr(LocalLogger, "plot_progress_png", lambda *_: None)  # seconds for every epoch's curves


@pytest.fixture
def nnunet(tiny_dataset, tmp_path, monkeypatch):
    """The tiny dataset with a results folder of its own; gives the results folder."""
    use(monkeypatch, tiny_dataset, tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def nnunet_with(tmp_path, monkeypatch):
    """A function that writes a dataset with the given channels and makes it the current one."""

    def make(channel_names):
        root = tmp_path / "-".join(channel_names)
        workspace.write(root, channel_names)
        use(monkeypatch, root, tmp_path / "results")
        return tmp_path / "results"

    return make
