import pytest

from benchmarks.interruptions.fingerprint import fingerprint
from benchmarks.sweeps.throughput import training
from nnunet_ext.experiments.outcome import STOPPED
from nnunet_ext.experiments.state import State, on_disk
from nnunet_ext.experiments.supervise import run
from tests.experiments.fakes import contents, quick
from tests.trainers import workspace

TRAINER = "nnUNetTrainer_DualBranchGhost_XS_6epochs_iter2_seed42"


@pytest.mark.slow
def test_a_real_training_that_was_stopped_goes_on_as_if_nothing_had_been(tmp_path):
    """nnUNetv2_train as a person types it: trained, saved after the first epoch, gone on with, validated."""
    workspace.write(tmp_path)
    settings = quick(tmp_path, grace_seconds=120)
    whole, stopped = (training(tmp_path, name, TRAINER) for name in ("whole", "stopped"))
    outcome = run(stopped, settings, asked=(stopped.folder / "progress.jsonl").exists)
    assert (outcome.code, on_disk(stopped)) == (STOPPED, State.INTERRUPTED), outcome.lines
    for task in (stopped, whole):
        outcome = run(task, settings)
        assert (outcome.code, outcome.tries) == (0, 1), outcome.lines
    for name in ("checkpoint_final.pth", "checkpoint_best.pth"):
        assert fingerprint(stopped.folder / name) == fingerprint(whole.folder / name)
    before = contents(whole.folder)
    assert run(whole, settings).tries == 0
    assert contents(whole.folder) == before
