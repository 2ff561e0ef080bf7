"""Other implementations, made to run here."""

import numpy as np
import pytest
from scipy import ndimage


@pytest.fixture
def deepmind(monkeypatch):
    """DeepMind's surface-distance 0.1, which names what numpy 2 has removed and scipy is about to."""
    monkeypatch.setattr(np, "Inf", np.inf, raising=False)
    for name in ("filters", "morphology"):
        monkeypatch.setattr(ndimage, name, ndimage, raising=False)
    from surface_distance import metrics

    return metrics
