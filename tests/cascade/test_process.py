"""What the command does to its own process and beside others."""

import gc
import json
import os
import subprocess
import sys

import pytest
import torch

from nnunet_ext.commands import predict_cascade


def test_garbage_collection_is_as_it_was_when_the_import_fails(monkeypatch):
    def fails(name):
        raise ImportError(name)

    monkeypatch.setattr(predict_cascade, "import_module", fails)
    with pytest.raises(ImportError):
        predict_cascade._import_predictor()
    assert gc.isenabled()


def test_parts_may_end_at_the_same_time(tmp_path):
    """Both write the summary of all cases that are there."""
    from nnunet_ext.cascade import report

    facts = {key: 1 for key in report.SUMMED}
    for name in "ab":
        record = {"case": name, "fallback": "", "components": [], "seconds": {"export": 1.0}, **facts}
        report._write(tmp_path / "cascade" / f"{name}.json", record)
    again = f"for _ in range(100): summarise(Path({str(tmp_path)!r}))"
    code = f"from nnunet_ext.cascade.report import summarise, Path\n{again}"
    parts = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [part.wait() for part in parts] == [0, 0]
    summary = json.loads((tmp_path / "cascade_summary.json").read_text())
    assert summary["seconds"] == {"export": 2.0}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_threads_are_for_the_processors_that_this_process_may_use():
    allowed, threads = os.sched_getaffinity(0), torch.get_num_threads()
    try:
        os.sched_setaffinity(0, {min(allowed)})
        predict_cascade._device("cpu")
        assert torch.get_num_threads() == 1
    finally:
        os.sched_setaffinity(0, allowed)
        torch.set_num_threads(threads)
