"""Fixtures shared by all tests."""

import multiprocessing
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# before torch is imported: xdist runs one process per core, and more threads than cores are slower
os.environ.setdefault("OMP_NUM_THREADS", "1")

# the first example of a law pays for torch's start, and a shared machine is slow at times
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

IMPORTED_ONCE = [
    "nnunetv2.inference.predict_from_raw_data",
    "nnunetv2.evaluation.evaluate_predictions",
    "nnunetv2.preprocessing.preprocessors.default_preprocessor",
]


@pytest.fixture(scope="session", autouse=True)
def workers():
    """Workers that nnU-Net spawns in our process come from a server that has imported torch and nnU-Net already.

    Importing them takes seconds of each worker. All they work with is pickled as for spawned ones; the commands that
    tests/integration starts spawn theirs.
    """
    contexts = multiprocessing.get_context
    server = contexts("forkserver")
    server.set_forkserver_preload(IMPORTED_ONCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            multiprocessing, "get_context", lambda method=None: contexts(method) if method != "spawn" else server
        )
        yield


@pytest.fixture(scope="session", autouse=True)
def forks():
    """Processes forked from this one can differentiate, whatever the tests before have done.

    torch starts its threads for devices at the first backward pass of a process, and forbids it to forks from then on.
    On a machine without CUDA there is no such device, unless a FakeTensorMode (torch.compile, our memory figures) has
    registered one before.
    """
    import torch

    torch.ones(1, requires_grad=True).sum().backward()


@pytest.fixture(scope="session")
def brats_data() -> Path:
    """Folder with the ten real BraTS cases; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real BraTS cases are not beside this checkout")
    return SHARED_DATA
