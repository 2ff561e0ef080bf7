"""The table of what ``nnunet_ext outcomes`` found."""

import pytest

from benchmarks import judged

TEXT = """column,method,metric,value,low,high,patients,tested
days,Net,mae,1.5,1,2,9,test
days,Net,r2,0.25,0.1,0.3,9,test
days,mean,mae,2,,,9,test
days,Net,mae,1.25,1,2,30,cross-validation
"""


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_each_method_has_a_line_and_the_first_metric_its_interval(tmp_path):
    (tmp_path / judged.SUMMARY_FILE).write_text(TEXT)
    lines = judged.table(judged.read(tmp_path, ["mae", "r2"]), ["mae", "r2"]).splitlines()
    assert [cells(line) for line in lines[2:]] == [
        ["days", "test", "Net", "9", "1.500 (1.000 to 2.000)", "0.250"],
        ["days", "test", "mean", "9", "2.000", "-"],
        ["days", "cross-validation", "Net", "30", "1.250 (1.000 to 2.000)", "-"],
    ]


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"has no outcomes_summary\.csv; give what"):
        judged.read(tmp_path, ["mae"])
    (tmp_path / judged.SUMMARY_FILE).write_text(TEXT)
    with pytest.raises(ValueError, match="has no auc; it has mae, r2"):
        judged.read(tmp_path, ["auc", "mae"])
