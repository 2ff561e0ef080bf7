import io
import json
import logging

import pytest

from nnunet_ext.experiments import live
from nnunet_ext.experiments.state import State, alone
from nnunet_ext.experiments.supervise import run
from tests.experiments.fakes import fake, quick


@pytest.fixture
def tasks(tmp_path):
    """One finished, one interrupted after two epochs of 90 seconds of a recipe's 42, one not begun."""
    found = [fake(tmp_path, f"run{number}", "--seconds", 0) for number in range(3)]
    run(found[0], quick(tmp_path))
    run(fake(tmp_path, "run1", "--at", "2:die"), quick(tmp_path, retries=0))
    path = found[1].folder / "progress.jsonl"
    path.write_text(path.read_text().replace('"seconds": {"epoch": 0}', '"seconds": {"epoch": 90}'))
    (found[1].folder / "recipe.json").write_text(json.dumps({"epochs": 42}))
    return found


def test_a_row_is_read_from_the_files(tasks):
    assert live.row_of(tasks[0]) == live.Row("run0", State.FINISHED, 3, 3, 0.5, 0, 20)
    assert live.row_of(tasks[1]) == live.Row("run1", State.INTERRUPTED, 2, 42, 0.5, 40 * 90, 20)
    assert live.row_of(tasks[2]) == live.Row("run2", State.NEW, 0, 1000)
    with alone(tasks[1]):
        assert live.row_of(tasks[1]).state is State.RUNNING


def test_the_table_is_plain_text(tasks):
    assert live.status(tasks).splitlines() == [
        "run   state          done   Dice   time left  memory",
        "run0  finished        3/3  0.500              20 MiB",
        "run1  interrupted    2/42  0.500  1 h 00 min  20 MiB",
        "run2  not begun    0/1000",
        "1 finished, 1 interrupted, 1 not begun",
    ]
    assert live.status([]).endswith("no task")


def test_what_case_level_trainings_reach_is_a_skill(tmp_path):
    task = fake(tmp_path, "nnUNetTrainer_CaseUNETR_XS__nnUNetPlans__3d_fullres")
    assert live.status([task]).split()[:5] == ["run", "state", "done", "skill", "time"]


@pytest.mark.parametrize(
    ("trainer", "epochs"),
    [("nnUNetTrainer", 1000), ("nnUNetTrainer_100epochs", 100), ("nnUNetTrainer_1epoch_seed2", 1)],
)
def test_planned_epochs_of_stock_trainers(tmp_path, trainer, epochs):
    task = fake(tmp_path, f"{trainer}__nnUNetPlans__3d_fullres")
    assert live.planned_epochs(task) == epochs


def test_without_a_terminal_lines_alone(tasks):
    stream = io.StringIO()
    with live.watching(tasks, stream):
        logging.getLogger("nnunet_ext.experiments").info("run1 is done.")
    assert stream.getvalue() == "run1 is done.\n"
    logging.getLogger("nnunet_ext.experiments").info("not told any more")
    assert stream.getvalue() == "run1 is done.\n"


def test_on_a_terminal_the_table_is_renewed(tasks, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(live, "SECONDS", 0.05)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    with live.watching(tasks, stream):
        (tasks[1].folder / "progress.jsonl").unlink()
        logging.getLogger("nnunet_ext.experiments").info("run1 is begun again.")
    text = stream.getvalue()
    assert "2/42" in text
    assert text.rindex("0/42") > text.index("run1 is begun again.")


@pytest.mark.parametrize(
    ("seconds", "text"), [(20, "< 1 min"), (61, "1 min"), (3600, "1 h 00 min"), (7321, "2 h 02 min")]
)
def test_time_left(seconds, text):
    assert live._duration(seconds) == text
