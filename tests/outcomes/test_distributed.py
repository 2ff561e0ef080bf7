"""Case-level targets in two processes: forks that torchrun's variables place, with gloo on the loopback."""

import pandas as pd
import pytest
import torch

from benchmarks.interruptions.runs import Training
from nnunet_ext.outcomes import results as tables
from nnunet_ext.trainers.checkpoints import FINAL
from nnunet_ext.trainers.reading import read_safely
from tests.outcomes.conftest import write_targets
from tests.trainers import workspace
from tests.trainers.test_distributed import differences, drawing_for_both_ranks, ended, keeping_weights

NAME = "nnUNetTrainer_CaseDualBranchGhost_XS_SGD_NoAug_2epochs_iter3_Target1and2_seed7"
"""Of columns that are known of every case: what is missing counts by the cases that a process has."""
ALL = NAME.replace("_Target1and2", "").replace("2epochs", "1epochs")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("cases")
    write_targets(workspace.write(root))
    return root


def validating(trainer):
    """Has a process validate whole cases when it has trained, as nnUNetv2_train does."""
    end = trainer.on_train_end

    def validate():
        end()
        trainer.perform_actual_validation()

    trainer.on_train_end = validate


def together(root, results, name):
    training = Training(root, results, name)
    changes = {}
    for rank in (0, 1):
        keep = keeping_weights(results / f"rank_{rank}.pth")
        changes[rank] = lambda trainer, keep=keep: (keep(trainer), validating(trainer))
    assert ended(training.start_together(2, changes=changes), training) == [0, 0], training.outputs()
    return training


@pytest.fixture(scope="module")
def two(root, tmp_path_factory):
    """Two processes that trained and validated together."""
    return together(root, tmp_path_factory.mktemp("two"), NAME)


def joined(one, other):
    both = torch.cat([one["data"], other["data"]])
    return {"data": both, "target": None, "keys": [*one["keys"], *other["keys"]]}


def drawing_and_validating(trainer):
    """Has one process train on the batches of two, then validate."""
    drawing_for_both_ranks(trainer, joined)
    validating(trainer)


def table_of(training):
    return tables.read(training.folder / "validation").table


def test_two_processes_are_one_with_the_same_global_batch(two, root, tmp_path):
    one = Training(root, tmp_path, NAME)
    assert one.run(change=drawing_and_validating) == 0, one.outputs()
    mine, theirs = read_safely(one.folder / FINAL), read_safely(two.folder / FINAL)
    assert differences(mine["network_weights"], theirs["network_weights"]) < 1e-5
    for key in ("train_losses", "val_losses", "mean_fg_dice"):
        assert mine["logging"][key] == pytest.approx(theirs["logging"][key], abs=1e-5), key
    assert len(set(mine["logging"]["train_losses"])) == 2, "nothing is learnt: this proves nothing"
    pd.testing.assert_frame_equal(table_of(one), table_of(two), rtol=1e-4)


def test_the_table_has_every_validation_case_once_whichever_process_saw_it(two):
    assert table_of(two)["case"].tolist() == ["case3", "case4"] * 2


def test_where_a_process_has_no_case_of_a_column_both_go_on_with_the_same_weights(root, tmp_path):
    """With a case each, the column that a case lacks has no value on that process."""
    training = together(root, tmp_path, ALL)
    first, second = (torch.load(tmp_path / f"rank_{rank}.pth", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert set(table_of(training)["column"]) == {"grade", "stage", "score", "days"}
