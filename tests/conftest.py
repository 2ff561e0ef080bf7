"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

# before torch is imported: xdist runs one process per core, and more threads than cores are slower
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def brats_data() -> Path:
    """Folder with the ten real BraTS cases; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real BraTS cases are not beside this checkout")
    return SHARED_DATA
