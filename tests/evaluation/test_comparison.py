import pandas as pd

from nnunet_ext.evaluation.comparison import _possible
from nnunet_ext.evaluation.intervals import Interval
from nnunet_ext.evaluation.worst import worst_cases


def test_intervals_end_where_the_metric_does():
    assert _possible(Interval(0.9, 0.1, -0.2, 1.3), "Dice") == Interval(0.9, 0.1, 0, 1)
    assert _possible(Interval(5, 1, -2, 13), "HD95_pooled") == Interval(5, 1, 0, 13)
    assert _possible(Interval(5, 1, None, None), "HD95_pooled") == Interval(5, 1, None, None)


def test_the_worst_case_comes_first():
    rows = [("a", "WT", 0.9), ("b", "WT", 0.2), ("c", "WT", 0.5), ("b", "NCR", 1.0)]
    table = pd.DataFrame(rows, columns=["case", "region", "value"]).assign(metric="Dice")
    assert worst_cases(table, ["WT"]) == ["b", "c", "a"]
