"""What a training tells: progress.jsonl, TensorBoard, the progress line, pretrained weights."""

import io
import json
import math

import pytest
import torch
from torch import nn

from nnunet_ext.trainers import progress
from nnunet_ext.trainers.board import Board, scalars
from nnunet_ext.trainers.pretrained import Arrivals, match, merged, table
from nnunet_ext.trainers.progress_line import ProgressLine, duration
from tests.trainers import workspace
from tests.trainers.conftest import use
from tests.trainers.test_training import model_folder, trainer_for

NAME = "nnUNetTrainer_UNet3D_XS_Acc2_NoAug_2epochs_iter2_seed7"


@pytest.fixture(scope="module")
def told(tiny_dataset, tmp_path_factory):
    """A short training's fold."""
    results = tmp_path_factory.mktemp("told")
    with pytest.MonkeyPatch.context() as patch:
        use(patch, tiny_dataset, results)
        trainer_for(NAME).run_training()
    return model_folder(results, NAME) / "fold_0"


def test_a_line_an_epoch_holds_what_a_report_needs(told):
    first, second = progress.read(told)
    assert (first["epoch"], second["epoch"]) == (0, 1)
    regions = ["whole tumor", "tumor core", "enhancing tumor"]
    assert list(second["dice"]) == regions
    assert set(second["loss"]) == {"training", "overlap", "voxels", "validation"}
    assert second["loss"]["training"] == pytest.approx(second["loss"]["overlap"] + second["loss"]["voxels"], abs=1e-5)
    assert second["learning_rate"] == pytest.approx(1e-2 * 0.5**0.9)
    seconds = second["seconds"]
    assert set(seconds) == {"epoch", "training", "validation", "waiting_for_data"}
    assert 0 < seconds["waiting_for_data"] < seconds["training"] < seconds["epoch"]
    assert 0 < second["memory"]["mean_mib"] <= second["memory"]["peak_mib"]
    assert second["host"]
    assert set(second["versions"]) == {"nnunet_ext", "nnunetv2", "torch", "python"}
    log = torch.load(told / "checkpoint_final.pth", weights_only=True)["logging"]
    assert [line["ema_dice"] for line in (first, second)] == log["ema_fg_dice"]
    assert [line["loss"]["training"] for line in (first, second)] == log["train_losses"]


def test_tensorboard_shows_the_lines(told):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(told / "tensorboard"))
    events.Reload()
    names = events.Tags()["scalars"]
    assert {
        "loss/training",
        "loss/overlap",
        "learning_rate",
        "seconds/epoch",
        "memory/peak_mib",
        "dice/tumor core",
    } <= set(names)
    lines = progress.read(told)
    assert [event.value for event in events.Scalars("loss/overlap")] == pytest.approx(
        [r["loss"]["overlap"] for r in lines]
    )
    assert [event.step for event in events.Scalars("ema_dice")] == [0, 1]


def test_without_tensorboard_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("nnunet_ext.trainers.board.find_spec", lambda name: None)
    board = Board(tmp_path, 0)
    board.add({"epoch": 0, "loss": {"training": 1.0}})
    board.close()
    assert list(tmp_path.iterdir()) == []


def test_only_numbers_are_scalars():
    record = {"epoch": 3, "a": {"b": 1, "c": {"d": 0.5}}, "none": None, "host": "x", "versions": {"torch": 2}, "e": 2}
    assert dict(scalars(record)) == {"a/b": 1, "a/c/d": 0.5, "e": 2}


def test_epochs_that_come_again_are_forgotten_and_a_torn_line_too(tmp_path):
    for epoch in range(4):
        progress.append(tmp_path, {"epoch": epoch})
    with (tmp_path / progress.FILE).open("a") as file:
        file.write('{"epoch": 4, "lo')
    progress.forget_from(tmp_path, 2)
    assert progress.read(tmp_path) == [{"epoch": 0}, {"epoch": 1}]
    progress.append(tmp_path, {"epoch": 2})
    assert [r["epoch"] for r in progress.read(tmp_path)] == [0, 1, 2]


def test_a_foreign_line_is_told(tmp_path):
    (tmp_path / progress.FILE).write_text("hello\n{}\n")
    with pytest.raises(ValueError, match=r"Line 1 of .*progress.jsonl is not JSON"):
        progress.read(tmp_path)


def test_a_line_holds_no_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        progress.append(tmp_path, {"epoch": 0, "loss": math.nan})


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def run_of_steps(stream, seconds, epochs=4, steps=5):
    clock = Clock()
    line = ProgressLine(stream, epochs, steps, clock)
    for epoch in range(epochs):
        for step in range(steps):
            clock.now += seconds
            line.step(epoch, step, 0.5)
        line.epoch({"WT": 0.75})
    return stream.getvalue()


def test_elsewhere_a_line_comes_at_most_once_a_minute():
    lines = run_of_steps(io.StringIO(), 20.0).splitlines()
    assert lines[0] == "epoch 1/4 step 1/5  loss 0.5000"
    assert lines[1] == "epoch 1/4 step 4/5  loss 0.5000  about 6 min left"
    assert lines[2].startswith("epoch 2/4 step 2/5  loss 0.5000  Dice WT 0.750  about ")
    assert len(lines) == 7


def test_on_a_terminal_the_line_is_rewritten():
    text = run_of_steps(Terminal(), 2.0)
    assert "\n" not in text
    assert text.count("\repoch") == 20
    assert text.endswith("\r"), "nnU-Net's own lines begin in the first column"
    assert run_of_steps(Terminal(), 0.1).count("\repoch") == 2


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (59.2, "60 s"), (61, "2 min"), (3600, "1 h 00 min"), (11100, "3 h 05 min")]
)
def test_durations(seconds, words):
    assert duration(seconds) == words


# --- pretrained weights


def test_weights_are_matched_by_name_and_shape():
    network = {"a": torch.zeros(2, 3), "b": torch.zeros(2), "c": torch.zeros(())}
    file = {"a": torch.ones(2, 3), "b": torch.ones(3), "d": torch.ones(1)}
    fates = {m.name: m.fate for m in match(network, file)}
    assert fates == {"a": "taken", "b": "other shape", "c": "not in the file", "d": "not in the network"}
    new = merged(network, file)
    assert new.keys() == network.keys()
    assert (new["a"] == 1).all()
    assert new["b"].shape == (2,)
    text = table(match(network, file), "FILE")
    assert text.splitlines()[:3] == ["FILE", "  taken: 1 tensors", "  other shape: 1 tensors"]
    assert "    b  network 2  file 3" in text
    assert "    d  network -  file 1" in text


def test_what_nnunet_loads_is_noted_by_name_and_shape():
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    arrivals = Arrivals(network)
    state = {k: v.clone() for k, v in network.state_dict().items()}
    state["0.weight"] += 1
    network.load_state_dict(state)
    arrivals.close()
    network.load_state_dict({k: v + 5 for k, v in state.items()})
    lines = arrivals.table().splitlines()
    assert lines[0] == "Pretrained weights: 1 tensors are taken, 3 keep their initial values."
    assert lines[1] == "  taken  0.weight  3x2"
    assert "  initial  1.bias  1" in lines


def test_a_training_tells_what_pretrained_weights_gave(told, tiny_dataset, nnunet):
    from nnunetv2.run.run_training import maybe_load_checkpoint

    trainer = trainer_for(NAME)
    maybe_load_checkpoint(trainer, False, False, str(told / "checkpoint_final.pth"))
    trainer.num_epochs = 0
    trainer.on_train_start()
    for stream in (trainer.dataloader_train, trainer.dataloader_val):
        stream.close()
    text = "".join(f.read_text() for f in (model_folder(nnunet, NAME) / "fold_0").glob("training_log*.txt"))
    heads = 2 * (len(workspace.plans(4)["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["strides"]) - 1)
    assert f"{heads} keep their initial values." in text
    assert "  initial  decoder.seg_layers.0.weight" in text
    assert "  taken  encoder." in text


def test_the_region_names_of_classes(nnunet):
    trainer = trainer_for(NAME)
    trainer.dataset_json = {"labels": {"background": 0, "core": 1, "edema": 2, "ignore": 3}}
    trainer.label_manager = trainer.plans_manager.get_label_manager(trainer.dataset_json)
    assert trainer.region_names() == ["core", "edema"]
    assert json.dumps(trainer.region_names())
