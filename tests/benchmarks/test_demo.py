"""The demo's lines, with what nnU-Net's trainers print (times and numbers as they print them)."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import demo
from benchmarks.progress import EpochLines, clock

EPOCH = """2026-11-27 01:02:03.456789:
2026-11-27 01:02:03.456789: Epoch {epoch}
2026-11-27 01:02:03.456789: Current learning rate: 0.01
2026-11-27 01:02:33.456789: train_loss {loss}
2026-11-27 01:02:33.456789: val_loss -0.1
2026-11-27 01:02:33.456789: Pseudo dice [np.float32(0.8123), np.float64({core}), np.float32(1e-05)]
2026-11-27 01:02:33.456789: Epoch time: 30.0 s
2026-11-27 01:02:33.456789: Yayy! New best EMA pseudo Dice: 0.5
"""


def test_a_line_for_each_epoch_with_the_time_that_is_left() -> None:
    seconds = iter([100.0, 130.0, 170.0])
    lines = EpochLines(6, ["WT", "TC", "ET"], lambda: next(seconds))
    printed = EPOCH.format(epoch=0, loss=0.1234, core=0.5) + EPOCH.format(epoch=1, loss=-0.75, core="nan")
    printed += "2026-11-27 01:03:00.000000: predicting Brats18_PHANTOM_003_1\n"
    shown = [text for line in printed.splitlines(keepends=True) for text in lines.feed(line)]
    assert shown == [
        "  epoch  1 of 6: loss  0.1234, Dice WT 0.81  TC 0.50  ET 0.00, 2:30 left",
        "  epoch  2 of 6: loss   -0.75, Dice WT 0.81  TC nan  ET 0.00, 2:20 left",
        "  its own validation: Brats18_PHANTOM_003_1",
    ]


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (600, "10:00")])
def test_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def test_what_a_command_prints_is_told_at_once_and_logged(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    log = tmp_path / "log.txt"
    demo.run(sys.executable, "-c", "print('a'); print('b')", log=log, tell=lambda line: [f"<{line.strip()}>"])
    assert "<a>\n<b>\n" in capsys.readouterr().out
    assert log.read_text().splitlines()[1:] == ["a", "b"]
    demo.run(sys.executable, "-c", "print('quiet')", log=log)
    assert "quiet\n" not in capsys.readouterr().out.replace("'quiet')", "")


def test_a_command_that_fails_ends_the_demo_with_its_code_and_its_last_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stopped:
        demo.run(sys.executable, "-c", "print('why'); raise SystemExit(7)", log=tmp_path / "log.txt")
    assert stopped.value.code == 7
    assert "\nwhy\n" in capsys.readouterr().out


def test_what_counts_as_learned() -> None:
    after = {"WT": 0.9, "TC": 0.9, "ET": 0.9}
    before = dict.fromkeys(after, 0.0)
    assert demo.learned(before, after)
    for spoilt in ({"ET": math.nan}, {"TC": 0.1}):
        assert not demo.learned(before, after | spoilt)
    assert not demo.learned(dict.fromkeys(after, 0.5), after)


def test_the_picture_shows_the_slice_with_most_of_every_label() -> None:
    labels = np.zeros((4, 4, 5), np.uint8)
    labels[..., 1] = 2  # a full slice of one label
    labels[0, :3, 3] = 1, 2, 3
    labels[0, :, 4] = 1, 2, 3, 3
    assert demo.most_telling(labels) == (1, 4, 4)
    assert demo.most_telling(np.where(labels == 2, labels, 0)) == (0, 16, 1)
