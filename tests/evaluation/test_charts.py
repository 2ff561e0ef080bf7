import numpy as np
import pytest

from nnunet_ext.evaluation import charts


def test_the_front_by_hand():
    cost = np.array([4.0, 1.0, 2.0, 3.0, 1.0])
    gain = np.array([0.9, 0.5, 0.8, 0.7, 0.4])
    assert charts.pareto(cost, gain).tolist() == [[1, 0.5], [2, 0.8], [4, 0.9]]


@pytest.mark.parametrize("count", [1, 8, 20])
def test_each_method_looks_different(count):
    looks = charts.style([f"method {i}" for i in range(count)])
    assert len({(look["color"], look["marker"]) for look in looks.values()}) == count
