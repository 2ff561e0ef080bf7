"""Many cases: tables, going on, thresholds, agreement with nnU-Net."""

import json
import math
import os

import numpy as np
import pandas as pd
import pytest

from nnunet_ext.evaluation import agreement, cases, finding, run, table, threshold
from nnunet_ext.evaluation.cases import Pair, Settings
from nnunet_ext.evaluation.conventions import CONVENTIONS
from nnunet_ext.evaluation.regions import EDITIONS
from tests.evaluation.files import save, tumour

PLAIN = Settings(EDITIONS["2023"], EDITIONS["2023"], "brats")


def predictions():
    """Four predictions of one tumour: equal, moved, with nothing, without enhancing tumour."""
    moved, without = np.roll(tumour(), 1, axis=2), tumour()
    without[without == 3] = 1
    return {"a": tumour(), "b": moved, "c": np.zeros_like(moved), "d": without}


@pytest.fixture
def folders(tmp_path):
    for case, labels in predictions().items():
        save(tmp_path / f"truth/{case}.nii.gz", tumour() if case != "d" else labels)
        save(tmp_path / f"prediction/{case}.nii.gz", labels)
    return tmp_path


def pairs(folders):
    return finding.pairs_of(finding.files(folders / "truth"), finding.files(folders / "prediction"), None)


def evaluated(folders, settings=PLAIN, out="out", jobs=1):
    records = sorted(run.evaluate_all(pairs(folders), settings, folders / out, jobs), key=lambda r: r["case"])
    return records, table.write(folders / out, records, settings, {"versions": {}})


def test_tables(folders):
    records, summary = evaluated(folders)
    found = table.read_metrics(folders / "out")
    assert list(found.columns) == ["case", "region", "metric", "value", "note"]
    assert len(found) == sum(len(e["values"]) for r in records for e in r["regions"].values())
    dice = found[(found.region == "WT") & (found.metric == "Dice")].set_index("case")["value"]
    assert dice.to_dict() == pytest.approx({"a": 1, "b": 5 / 6, "c": 0, "d": 1})
    entry = summary["metrics"]["WT"]["Dice"]
    assert entry == pytest.approx({"mean": dice.mean(), "sd": dice.std(), "n": 4, "left_out": 0})
    assert found[(found.case == "c") & (found.region == "ET")].note.iloc[0] == "the prediction has no voxel"
    read = table.read_summary(folders / "out")
    assert read["metrics"]["WT"]["Dice"]["mean"] == entry["mean"]
    assert (read["cases"], read["failures"], read["convention"]) == (4, {}, "brats")
    matrix = np.array(read["confusion"]["normalised"], float)
    assert matrix.sum(axis=1) == pytest.approx(1)
    assert np.sum(read["confusion"]["voxels"]) == 4 * 12 * 14 * 16


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_every_convention_writes_and_reads(folders, convention):
    _, summary = evaluated(folders, Settings(EDITIONS["2023"], EDITIONS["2023"], convention))
    values = table.read_metrics(folders / "out").set_index(["case", "region", "metric"])["value"]
    both_empty = values["d", "ET", "Dice"]
    assert both_empty == 1 if convention.startswith("brats") and "gli" not in convention else math.isnan(both_empty)
    left_out = summary["metrics"]["ET"]["Dice"]["left_out"]
    assert left_out == int(math.isnan(both_empty))
    if convention == "brats2026-gli":
        assert values["c", "WT", "lesionwise_HD95"] == math.inf
        assert table.read_summary(folders / "out")["metrics"]["WT"]["lesionwise_HD95"]["mean"] == "inf"


def test_disagreements_name_case_and_size(folders):
    _, summary = evaluated(folders)
    rows = pd.read_csv(folders / "out/conventions.csv")
    assert set(rows.columns) == {"case", "region", "metric", *CONVENTIONS}
    missed = rows[(rows.case == "c") & (rows.region == "WT") & (rows.metric == "HD95_pooled")].iloc[0]
    assert (missed["brats"], missed["brats2023"], missed["brats2026-gli"]) == pytest.approx((373.12866, 374, 373))
    found = summary["disagreements"]["brats2023"]["HD95_pooled"]
    assert found["rows"] == 5
    assert found["brats2023"] - found["brats"] == pytest.approx(374 - 373.12866, abs=1e-5)
    dice = summary["disagreements"]["nnunet"]["Dice"]
    assert (dice["rows"], dice["left_out"], dice["case"], dice["region"]) == (1, 1, "d", "ET")
    assert "brats" not in summary["disagreements"]


def test_nnunets_summary_is_ours(folders):
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    regions = [(1, 2, 3), (1, 3), (3,)]
    path = str(folders / "prediction/summary.json")
    truth, given = str(folders / "truth"), str(folders / "prediction")
    theirs = compute_metrics_on_folder(truth, given, path, SimpleITKIO(), ".nii.gz", regions, num_processes=1)
    settings = Settings(EDITIONS["2023"], EDITIONS["2023"], "nnunet")
    records, summary = evaluated(folders, settings)
    for key, region in zip(regions, ("WT", "TC", "ET"), strict=True):
        ours = {metric: entry["mean"] for metric, entry in summary["metrics"][region].items()}
        assert {m: ours[m] for m in theirs["mean"][key]} == pytest.approx(theirs["mean"][key])
        for record, entry in zip(records, theirs["metric_per_case"], strict=True):
            values = record["regions"][region]["values"]
            assert {m: values[m] for m in entry["metrics"][key]} == pytest.approx(entry["metrics"][key], nan_ok=True)
    assert summary["foreground_mean"]["regions"] == pytest.approx(theirs["foreground_mean"])
    found = agreement.with_nnunet(folders / "prediction", records, settings)
    assert (found["cases"], found["values"], found["largest_difference"]) == (4, 11, 0)
    written = json.loads((folders / "prediction/summary.json").read_text())
    written["metric_per_case"][1]["metrics"]["(1, 3)"]["Dice"] += 0.25
    (folders / "prediction/summary.json").write_text(json.dumps(written))
    found = agreement.with_nnunet(folders / "prediction", records, settings)
    assert (found["case"], found["region"], found["largest_difference"]) == ("b", "TC", pytest.approx(0.25))


def test_several_processes_give_the_same(folders):
    one, _ = evaluated(folders)
    two, _ = evaluated(folders, out="two", jobs=2)
    assert json.dumps(one) == json.dumps(two)
    for name in (table.METRICS_FILE, table.CONVENTIONS_FILE, table.SUMMARY_FILE):
        assert (folders / "out" / name).read_bytes() == (folders / "two" / name).read_bytes()


@pytest.fixture
def counted(monkeypatch):
    """The cases that are really evaluated."""
    done = []
    evaluate = cases.evaluate
    monkeypatch.setattr(cases, "evaluate", lambda pair, settings: done.append(pair.case) or evaluate(pair, settings))
    return done


def test_an_interrupted_run_goes_on(folders, counted):
    records = run.evaluate_all(pairs(folders), PLAIN, folders / "out")
    assert [next(records)["case"] for _ in range(2)] == ["a", "b"]
    records.close()
    path = folders / "out" / run.DONE_FILE
    path.write_text(path.read_text() + path.read_text().splitlines()[-1][:99])  # killed while it wrote
    again, _ = evaluated(folders)
    assert counted == ["a", "b", "c", "d"]
    assert not (folders / "out/metrics.csv").with_suffix(".partial").exists()
    fresh, _ = evaluated(folders, out="fresh")
    assert json.dumps(again) == json.dumps(fresh)


def test_a_case_whose_file_changed_is_done_again(folders, counted):
    evaluated(folders)
    path = save(folders / "prediction/c.nii.gz", tumour())
    os.utime(path, ns=(0, 0))
    records, _ = evaluated(folders)
    assert counted == ["a", "b", "c", "d", "c"]
    assert records[2]["regions"]["WT"]["values"]["Dice"] == 1


def test_other_settings_are_refused_and_overwritten_on_request(folders):
    evaluated(folders)
    other = Settings(EDITIONS["2023"], EDITIONS["2023"], "brats2023")
    with pytest.raises(ValueError, match="another convention"):
        evaluated(folders, other)
    run.forget(folders / "out")
    _, summary = evaluated(folders, other)
    assert summary["metrics"]["WT"]["HD95_pooled"]["mean"] > 93


def test_failures_count(folders):
    (folders / "prediction/b.nii.gz").write_bytes(b"nothing")
    (folders / "truth/d.nii.gz").unlink()
    _, summary = evaluated(folders)
    assert list(summary["failures"]) == ["b", "d"]
    assert summary["metrics"]["WT"]["Dice"] == pytest.approx({"mean": 0.25, "sd": 0.5, "n": 4, "left_out": 0})
    found = table.read_metrics(folders / "out")
    assert found[found.case == "d"].note.iloc[0] == "There is no reference for d."


def test_reading_what_is_no_evaluation(tmp_path):
    for reader in (table.read_metrics, table.read_summary):
        with pytest.raises(ValueError, match="nnunet_ext evaluate"):
            reader(tmp_path)
    (tmp_path / "metrics.csv").write_text("a,b\n1,2\n")
    (tmp_path / "summary.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="columns a, b"):
        table.read_metrics(tmp_path)
    with pytest.raises(ValueError, match="format 99"):
        table.read_summary(tmp_path)


def test_the_threshold_that_is_best(folders):
    counts = list(threshold.count(pairs(folders), PLAIN))
    assert [(c.common, c.reference, c.prediction) for c in counts[:2]] == [
        (56, 56, 56),
        (36, 56, 56),
    ]  # 48 common voxels of the core, 12 of them necrosis in one of the two
    assert counts[3] == threshold.Enhancing(0, 0, 0)
    best, means = threshold.best(counts)
    assert best == 0
    assert means[0] == pytest.approx((1 + 72 / 112 + 0 + 1) / 4)
    # 20 false voxels where there is none: every threshold above 20 is as good, the smallest is taken
    best, means = threshold.best([*counts, threshold.Enhancing(0, 0, 20)])
    assert best == 30
    assert means[60] < means[30] == pytest.approx((1 + 72 / 112 + 0 + 1 + 1) / 5)


def test_dice_with_a_threshold_is_that_of_the_evaluation(folders):
    for limit in (0, 10, 56, 57, 100):
        settings = Settings(EDITIONS["2023"], EDITIONS["2023"], "brats", et_threshold=limit)
        for pair, count in zip(pairs(folders), threshold.count(pairs(folders), PLAIN), strict=True):
            assert cases.evaluate(pair, settings)["regions"]["ET"]["values"]["Dice"] == count.dice(limit)


def test_a_threshold_is_not_chosen_on_judged_or_broken_cases(folders):
    with pytest.raises(ValueError, match=r"b \(1 cases\)"):
        threshold.check("ab", "bc")
    threshold.check("ab", "c")
    with pytest.raises(ValueError, match="no prediction for e"):
        list(threshold.count([Pair("e", folders / "truth/a.nii.gz", None)], PLAIN))
