import json
import sys

import pytest

from benchmarks import compare_cost

ROW = {
    "registry_name": "unet3d",
    "size": "S",
    "input_shape": "4x32x32x32",
    "batch": 2,
    "precision": "amp",
    "device": "cuda",
    "parameters": 100,
    "macs": 1000,
    "pam_train_mib": 50.0,
    "pam_sd_mib": 2.0,
    "status": "ok",
}


@pytest.fixture
def compare(tmp_path, monkeypatch, capsys):
    def run(base: list[dict], head: list[dict], *options: str) -> tuple[int, str]:
        paths = []
        for name, rows in (("base", base), ("head", head)):
            paths.append(tmp_path / f"{name}.json")
            paths[-1].write_text(json.dumps({"rows": rows}), encoding="utf-8")
        monkeypatch.setattr(sys, "argv", ["compare_cost.py", *map(str, paths), *options])
        return compare_cost.main(), capsys.readouterr().out

    return run


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, 0),
        ({"pam_train_mib": 40.0}, 0),
        ({"pam_train_mib": 52.0}, 0),  # within 5 %
        ({"pam_train_mib": 53.5}, 0),  # beyond 5 %, within two standard deviations
        ({"pam_train_mib": 54.5}, 1),
        ({"parameters": 101}, 1),  # exact figures have no band
        ({"macs": 999}, 0),
        ({"status": "failed: out of memory", "pam_train_mib": None}, 1),
    ],
)
def test_exit_code_says_whether_anything_got_dearer(compare, change, code):
    assert compare([ROW], [{**ROW, **change}])[0] == code


def test_band_is_an_option(compare):
    steady = {**ROW, "pam_sd_mib": None}
    assert compare([steady], [{**steady, "pam_train_mib": 54.0}])[0] == 1
    assert compare([steady], [{**steady, "pam_train_mib": 54.0}], "--band", "10")[0] == 0


def test_latency_is_dearer_beyond_its_own_spread(compare):
    base = {**ROW, "median_ms": 10.0, "p90_ms": 12.0}
    assert compare([base], [{**base, "median_ms": 11.9}])[0] == 0
    assert compare([base], [{**base, "median_ms": 12.1}])[0] == 1


def test_rows_of_one_file_are_listed(compare):
    code, text = compare([{**ROW, "size": "XS"}, ROW], [{**ROW, "size": "XS"}, {**ROW, "size": "M"}])
    assert code == 0
    assert "only in BASE: unet3d S" in text
    assert "only in HEAD: unet3d M" in text


def test_files_without_a_common_row_are_no_success(compare):
    assert compare([ROW], [{**ROW, "size": "M"}])[0] == 2


@pytest.mark.parametrize("field", ["accumulation", "device", "precision"])
def test_rows_of_another_kind_are_not_compared(compare, field):
    assert compare([ROW, ROW | {"size": "M"}], [ROW | {field: "other"}, ROW | {"size": "M"}])[1].count("only in") == 2


@pytest.mark.parametrize("content", ["[1]", "{}", "no", '{"rows": [{"registry_name": "unet3d", "macs": 1}]}'])
def test_other_files_are_refused(tmp_path, monkeypatch, capsys, content):
    path = tmp_path / "x.json"
    path.write_text(content, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["compare_cost.py", str(path), str(path)])
    assert compare_cost.main() == 2
    assert "is no JSON file" in capsys.readouterr().err
