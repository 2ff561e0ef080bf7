import json

import pytest

from nnunet_ext.evaluation.epochs import epochs_of

LOG = """
#######################################################################
Please cite the following paper when using nnU-Net
2026-11-27 01:00:00.100000: Epoch 0
2026-11-27 01:00:00.200000: Current learning rate: 0.01
2026-11-27 01:00:09.100000: train_loss {first}
2026-11-27 01:00:09.100001: val_loss -0.2
2026-11-27 01:00:09.100002: Pseudo dice [np.float32(0.5), np.float32(0.25), np.float32(nan)]
2026-11-27 01:00:09.100003: Epoch time: 9.1 s
2026-11-27 01:00:09.100004: Yayy! New best EMA pseudo Dice: 0.375
2026-11-27 01:00:10.100000: Epoch 1
2026-11-27 01:00:10.200000: Current learning rate: 9e-05
2026-11-27 01:00:19.100000: train_loss -0.3
2026-11-27 01:00:19.100001: val_loss nan
2026-11-27 01:00:19.100002: Pseudo dice [0.5, 1.0, 0.75]
2026-11-27 01:00:19.100003: Epoch time: 8.9 s
2026-11-27 01:00:20.100000: Epoch 2
2026-11-27 01:00:20.200000: Current learning rate: 0.008
"""


@pytest.fixture
def stock(tmp_path):
    (tmp_path / "training_log_2026_11_27_01_00_00.txt").write_text(LOG.format(first=0.1))
    return tmp_path


def test_nnunets_log(stock):
    first, second = epochs_of(stock)
    assert (first["epoch"], first["lr"], first["train_loss"], first["val_loss"]) == (0, 0.01, 0.1, -0.2)
    assert first["pseudo_dice"] == first["ema_pseudo_dice"] == 0.375
    assert (first["pseudo_dice_1"], first["pseudo_dice_2"]) == (0.5, 0.25)
    assert (second["lr"], second["seconds"], second["pseudo_dice"]) == (9e-5, 8.9, 0.75)
    assert second["ema_pseudo_dice"] == pytest.approx(0.9 * 0.375 + 0.1 * 0.75)


def test_a_continued_training_counts_its_later_epochs(stock):
    (stock / "training_log_2026_11_27_02_00_00.txt").write_text(LOG.format(first=0.9))
    first, _ = epochs_of(stock)
    assert first["train_loss"] == 0.9


def line(epoch):
    """As nnunet_ext/trainers/reporting.py writes it; test_progress holds the keys there."""
    return {
        "epoch": epoch,
        "loss": {"training": 1.0, "dice": 0.4, "validation": None},
        "learning_rate": 0.5,
        "seconds": {"epoch": 3.0},
        "memory": {"mean_mib": 10.0, "peak_mib": 12.0},
        "dice": {"WT": 0.75, "ET": None},
        "mean_dice": 0.75,
        "ema_dice": 0.6,
    }


@pytest.mark.parametrize("end", ['"seconds": {"epoch": 3.0}', '"mean_dice": 0.7'])
def test_our_file_is_preferred_and_a_cut_line_is_not_read(stock, end):
    cut = json.dumps(line(1)).partition(end)[0] + end
    (stock / "progress.jsonl").write_text(json.dumps(line(0)) + "\n" + cut)
    (only,) = epochs_of(stock)
    assert (only["pseudo_dice"], only["pseudo_dice_WT"], only["lr"], only["val_loss"]) == (0.75, 0.75, 0.5, None)
    assert (only["ema_pseudo_dice"], only["peak_mib"], only["train_loss"], only["seconds"]) == (0.6, 12, 1, 3)


def test_a_folder_without_any_is_empty(tmp_path):
    assert epochs_of(tmp_path) == []
