import csv
import json
import subprocess
import sys
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from joblib import cpu_count
from matplotlib.image import imread

from benchmarks import flops, latency, pam
from benchmarks.costs import report
from benchmarks.costs import rows as made
from benchmarks.costs.models import Input, choose
from benchmarks.costs.rows import OK, Request, Row
from nnunet_ext.networks import registry
from nnunet_ext.networks.cost_table import trainer_name
from nnunet_ext.profiling.predict import predict

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = (
    "registry_name,trainer,size,input_shape,batch,precision,parameters,macs,flops,pam_train_mib,pam_inference_mib,"
    "copies_mib,temporaries_mib,total_train_mib,card_gb,pam_sd_mib,peak_stage,device,status"
)
NETWORKS = ["unet3d_xs", "nnUNetTrainer_DualBranchGhost_XS", "nnunet_plain"]
SMALL = ["--patch", "32", "32", "32"]


def run(monkeypatch, module, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
    return module.main()


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_writes_every_file_and_its_rows_add_up(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, pam, "--models", *NETWORKS, *SMALL, "--out", tmp_path) == 0
    printed, progress = capsys.readouterr()
    assert "3/3" in progress
    assert (tmp_path / "pam.csv").read_text(encoding="utf-8").splitlines()[0] == COLUMNS
    rows, stages = read(tmp_path / "pam.csv"), read(tmp_path / "stage_wise_pam_results.csv")
    assert [(r["registry_name"], r["size"]) for r in rows] == [
        ("unet3d", "XS"),
        ("dualbranch_14_ghostnet", "XS"),
        ("nnunet_plain", ""),
    ]
    for row in rows:
        assert row["status"] == OK
        assert row["input_shape"] == "4x32x32x32"
        assert row["registry_name"] in printed
        parts = [s for s in stages if (s["registry_name"], s["size"]) == (row["registry_name"], row["size"])]
        for column in ("parameters", "macs", "pam_train_mib", "pam_inference_mib"):
            assert sum(float(part[column]) for part in parts) == float(row[column])
        assert int(row["flops"]) == 2 * int(row["macs"])
        assert float(row["card_gb"]) * 1024 == pytest.approx(float(row["total_train_mib"]) + 2.5 * 1024)
    assert "recompute" in printed
    assert printed.startswith((tmp_path / "pam.md").read_text(encoding="utf-8"))
    written = json.loads((tmp_path / "pam.json").read_text(encoding="utf-8"))
    assert written["usage"]["rows"] == 3
    assert 50 < written["usage"]["resident_mib"] < 10_000
    assert f"3 rows in {written['usage']['seconds']:.1f} s, at most" in printed
    assert written["versions"]["torch"]
    assert [r["predicted"]["training_total"] for r in written["rows"]]
    for picture in ("pam_stages.png", "pam_scatter.png"):
        assert imread(tmp_path / picture).shape[0] > 200


def test_memory_is_told_kind_by_kind(monkeypatch, tmp_path):
    assert run(monkeypatch, pam, "--models", "unet3d_xs", *SMALL, "--out", tmp_path) == 0
    (row,), parts = read(tmp_path / "pam.csv"), read(tmp_path / "pam_memory.csv")
    assert [part["step"] for part in parts] == ["training", "inference"]
    kinds = "activations", "copies", "parameters", "buffers", "gradients", "optimiser", "temporaries", "inputs"
    for part in parts:
        assert sum(float(part[f"{kind}_mib"]) for kind in kinds) == pytest.approx(float(part["total_mib"]))
    training, inference = parts
    assert (training["pam_mib"], training["total_mib"]) == (row["pam_train_mib"], row["total_train_mib"])
    assert float(training["parameters_mib"]) == int(row["parameters"]) * 4 / 2**20
    assert float(training["optimiser_mib"]) > 0 == float(inference["optimiser_mib"])
    assert float(row["copies_mib"]) > 0 < float(row["temporaries_mib"])
    assert training["measured_reserved_mib"] == ""


def test_all_leaves_no_network_out_and_respects_their_inputs():
    models = choose(["all"], Input())
    assert [(m.name, m.size) for m in models] == [(s.name, size) for s in registry.specs() for size in s.sizes]
    for model in models:
        spec, _ = registry.find(f"{model.name}_{model.size}")
        assert model.input_shape[2:] == (spec.shown_size or (128, 128, 128)[-max(spec.dimensions) :])


def test_every_name_that_is_shown_is_accepted():
    """By ``nnunet_ext list``, by ``pam.csv`` and by trainers."""
    for spec in registry.specs():
        (shown,) = choose([spec.name], Input())
        assert (shown.name, shown.size) == (spec.name, registry.default_size(spec) or spec.sizes[0])
        for size in spec.sizes:
            for name in (f"{spec.name}_{size}", trainer_name(spec, size)):
                (model,) = choose([name], Input())
                assert (model.name, model.size, model.trainer) == (spec.name, size, trainer_name(spec, size))


def test_words_of_a_trainer_are_applied(monkeypatch, tmp_path):
    name = "nnUNetTrainer_UNet3D_XS_CoordConv_seed1"
    assert run(monkeypatch, pam, "--models", name, "unet3d_xs", *SMALL, "--out", tmp_path) == 0
    words, plain = read(tmp_path / "pam.csv")
    assert (words["trainer"], words["input_shape"]) == (name, "7x32x32x32")
    assert (plain["trainer"], plain["input_shape"]) == ("nnUNetTrainer_UNet3D_XS", "4x32x32x32")
    # three further channels of the first convolution: to how many maps, is what one of them needs
    further = int(words["parameters"]) - int(plain["parameters"])
    (model,) = choose([name], Input(patch=(32, 32, 32)))
    with torch.device("meta"):
        first = next(p for p in model.build().parameters() if p.ndim == 5)
    assert further == 3 * first[:, 0].numel()
    assert model.label == "unet3d XS CoordConv seed1"


def test_a_word_that_cannot_be_applied_is_told(monkeypatch, capsys):
    assert run(monkeypatch, pam, "--models", "nnUNetTrainer_UNet3D_XS_CoordKonv") == 2
    assert "unknown word 'CoordKonv' (nearest: CoordConv)" in capsys.readouterr().err
    assert run(monkeypatch, pam, "--models", "nnUNetTrainer_UNet3D_XS_Acc4") == 2
    assert "give --precision and --accumulation in place of these words" in capsys.readouterr().err


def test_without_names_there_is_one_row_a_network():
    assert [m.name for m in choose([], Input())] == [s.name for s in registry.specs()]


def test_a_failure_is_a_row_with_its_reason(monkeypatch, tmp_path):
    # two image channels instead of four or two modalities: three are no modality that a dual-branch network knows
    arguments = ["--models", "unet3d_xs", "dualbranch_14_ghostnet_xs", *SMALL, "--channels", 3, "--out", tmp_path]
    assert run(monkeypatch, pam, *arguments) == 1
    good, bad = read(tmp_path / "pam.csv")
    assert good["status"] == OK
    assert bad["status"].startswith("failed: ")
    assert bad["pam_train_mib"] == ""


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize("error", [TypeError("no"), AssertionError(), KeyError("x"), ImportError("y"), IndexError("z")])
def test_any_failure_is_a_row(monkeypatch, tmp_path, error):
    monkeypatch.setattr(made, "predict", failing(error))
    assert run(monkeypatch, pam, "--models", "unet3d_xs", *SMALL, "--out", tmp_path) == 1
    (row,) = read(tmp_path / "pam.csv")
    assert row["status"].startswith(f"failed: {type(error).__name__}")
    assert imread(tmp_path / "pam_stages.png").shape[0] > 100  # pictures of no network


def test_training_that_does_not_fit_leaves_the_rest_of_its_row(monkeypatch, tmp_path):
    monkeypatch.setattr(made, "measure_training", failing(torch.OutOfMemoryError("CUDA out of memory. Tried it.")))
    arguments = ["--models", "unet3d_xs", *SMALL, "--device", "cpu", "--repeats", 1, "--out", tmp_path]
    assert run(monkeypatch, pam, *arguments) == 1
    (row,) = json.loads((tmp_path / "pam.json").read_text(encoding="utf-8"))["rows"]
    assert row["status"] == "failed: CUDA out of memory"
    assert row["macs"] > 0
    assert row["peak_stage"]
    assert row["pam_train_mib"] is None
    assert row["pam_inference_mib"] > 0
    assert 0 < row["min_ms"] <= row["median_ms"] <= row["p90_ms"]


def test_what_the_machine_has_no_memory_for_is_not_tried(monkeypatch, tmp_path):
    monkeypatch.setattr(made, "free_memory", lambda: 2**20)
    monkeypatch.setattr(made, "measure_training", failing(AssertionError("tried")))
    assert run(monkeypatch, pam, "--models", "unet3d_xs", *SMALL, "--device", "cpu", "--out", tmp_path) == 1
    (row,) = read(tmp_path / "pam.csv")
    assert row["status"] == "failed: needs 0.1 GiB, 0.0 are free"
    assert row["peak_stage"]


def test_rows_that_are_made_outlive_the_program(monkeypatch, tmp_path):
    (first,) = choose(["unet3d_xs"], Input(patch=(32, 32, 32)))

    def ended():
        yield Row(first, Request())
        raise KeyboardInterrupt

    tables = {tmp_path / "pam.csv": lambda row: [row.record()], tmp_path / "latency.csv": lambda row: [{"ms": 1}] * 2}
    written = report.recorded(ended(), tables, 2)
    next(written)
    assert [row["size"] for row in read(tmp_path / "pam.csv")] == ["XS"]
    assert [row["ms"] for row in read(tmp_path / "latency.csv")] == ["1", "1"]
    with pytest.raises(KeyboardInterrupt):
        next(written)


def test_a_process_that_ends_is_a_row():
    (model,) = choose(["unet3d_xs"], Input(patch=(32, 32, 32)))
    future: Future = Future()
    future.set_exception(BrokenProcessPool("A process in the process pool was terminated abruptly."))
    row = made._received(future, Row(model, Request()))
    assert row.status == "failed: A process in the process pool was terminated abruptly."


@pytest.mark.parametrize("theirs", [0, 1, 2, 4])
def test_two_processes_work_from_both_ends_and_rows_keep_their_order(theirs):
    models = choose(["unet3d_xs", "unet3d_s", "unet3d_m", "unet3d_l"], Input(patch=(32, 32, 32)))
    empty, futures = [Row(model, Request()) for model in models], [Future() for _ in models]
    for row, future in list(zip(empty, futures, strict=True))[:theirs]:
        future.set_running_or_notify_cancel()
        future.set_result(replace(row, status="theirs"))
    rows = made._from_both_ends(lambda model: Row(model, Request(), status="ours"), empty, futures)
    assert [(row.model.size, row.status) for row in rows] == [
        (model.size, "theirs" if number < theirs else "ours") for number, model in enumerate(models)
    ]


def test_rows_of_the_other_process_are_not_kept_back():
    models = choose(["unet3d_xs", "unet3d_s", "unet3d_m"], Input(patch=(32, 32, 32)))
    futures, own = [Future() for _ in models], []
    futures[0].set_result(Row(models[0], Request()))
    rows = made._from_both_ends(
        lambda model: own.append(model) or Row(model, Request()), [Row(model, Request()) for model in models], futures
    )
    assert next(rows).model == models[0]
    assert own == models[2:]  # the second one is still to be made


def test_when_the_other_process_breaks_down_its_rows_say_so():
    models = choose(["unet3d_xs", "unet3d_s", "unet3d_m"], Input(patch=(32, 32, 32)))
    futures: list[Future] = [Future() for _ in models]
    for future in futures[:2]:
        future.set_exception(BrokenProcessPool("A process in the process pool was terminated abruptly."))
    rows = list(made._from_both_ends(lambda model: Row(model, Request()), [Row(m, Request()) for m in models], futures))
    assert [row.status == OK for row in rows] == [False, False, True]


@pytest.mark.slow
def test_every_network_on_two_processes(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, pam, *SMALL, "--out", tmp_path) == 0
    lines = (tmp_path / "pam.csv").read_text(encoding="utf-8").splitlines()
    rows = read(tmp_path / "pam.csv")
    assert len(lines) == 1 + len(rows)
    assert [r["registry_name"] for r in rows] == [s.name for s in registry.specs()]
    assert {r["input_shape"] for r in rows if r["registry_name"] == "mobile_unetr"} == {"4x32x32"}
    assert {r["status"] for r in rows if r["registry_name"] in ("unet3d", "mobile_unetr")} == {OK}
    printed = capsys.readouterr().out
    assert f"{len(rows)} rows in" in printed
    assert f"in {min(2, cpu_count())} processes" in printed


def test_accumulation_keeps_gradients_and_advice_is_for_any_number(monkeypatch, tmp_path, capsys):
    totals = []
    for passes in (1, 2):
        options = ["--accumulation", passes, "--advise", "--out", tmp_path]
        assert run(monkeypatch, pam, "--models", "unet3d_xs", *SMALL, *options) == 0
        (row,) = json.loads((tmp_path / "pam.json").read_text(encoding="utf-8"))["rows"]
        assert row["accumulation"] == passes
        assert all(total < row["predicted"]["training_total"] for total in row["remedies"].values())
        totals.append(row["predicted"]["training_total"])
    assert totals[1] > totals[0]
    assert run(monkeypatch, pam, "--models", "unet3d_xs", "--device", "cpu", "--accumulation", 2) == 2
    assert "--accumulation is for predictions" in capsys.readouterr().err


@pytest.mark.parametrize("flag", [[], ["--advise"]])
def test_advice_for_many_is_a_flag(monkeypatch, tmp_path, flag):
    seen = []

    def noted(models, request):
        seen.append(request)
        return (Row(model, request, status="failed: not tried") for model in models)

    monkeypatch.setattr(made, "rows", noted)
    assert run(monkeypatch, pam, *SMALL, *flag, "--out", tmp_path) == 1
    assert seen[0].advise == bool(flag)


def test_a_plan_is_for_networks_with_its_axes(monkeypatch, tmp_path, plans_file):
    arguments = ["--models", "mobile_unetr", "unet3d_xs", "--plans", plans_file, "--patch", 32, 32, 64]
    assert run(monkeypatch, pam, *arguments, "--out", tmp_path) == 0
    shapes = {row["registry_name"]: (row["input_shape"], row["status"]) for row in read(tmp_path / "pam.csv")}
    assert shapes == {"mobile_unetr": ("4x32x64", OK), "unet3d": ("4x32x32x64", OK)}


def test_a_patch_that_the_plans_strides_do_not_divide_is_refused(monkeypatch, capsys, plans_file):
    # strides 1x2x2, 2x2x2, 2x2x2
    arguments = ["--models", "unet3d_xs", "--plans", plans_file, "--patch", 33, 32, 36]
    assert run(monkeypatch, pam, *arguments) == 2
    assert "the next legal patch is [36, 32, 40]" in capsys.readouterr().err


def test_an_axis_too_short_to_be_halved_is_left_as_it_is():
    (model,) = choose(["unet3d_xs"], Input(patch=(4, 64, 64)))
    assert {steps[0] for steps in model.plan["strides"]} == {1}
    with torch.device("meta"):
        network = model.build()
    assert predict(network, model.input_shape).macs > 0


def test_plans_file_gives_strides_patch_and_batch(monkeypatch, tmp_path, plans_file):
    arguments = ["--models", "unet3d_xs", "--plans", plans_file, "-c", "3d_fullres", "--out", tmp_path]
    assert run(monkeypatch, pam, *arguments) == 0
    (row,) = read(tmp_path / "pam.csv")
    assert (row["input_shape"], row["batch"]) == ("4x16x32x32", "3")


@pytest.fixture
def plans_file(tmp_path):
    from nnunet_ext.networks.stock_plan import stock_plan

    arguments = {**stock_plan(3, 4), "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]]}
    needed = ["conv_op", "norm_op", "dropout_op", "nonlin"]
    configuration = {
        "patch_size": [16, 32, 32],
        "batch_size": 3,
        "architecture": {"network_class_name": "x", "arch_kwargs": arguments, "_kw_requires_import": needed},
    }
    path = tmp_path / "plans.json"
    path.write_text(json.dumps({"configurations": {"3d_fullres": configuration}}), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--models", "unet3dd"], "There is no network 'unet3dd'; nearest: unet3d"),
        (["--models", "nnunet_plan"], "nearest: nnunet_plain"),
        (["--models", "unet3d", "--patch", "33", "32", "32"], "the next legal patch is [40, 32, 32]"),
        (["--models", "monai_unetr", "--patch", "40", "32", "32"], "the next legal patch is [48, 32, 32]"),
        (["--models", "unet3d", "--patch", "4", "4", "4"], "one edge must be at least 8"),
        (["--models", "unet3d", "--patch", "32"], "--patch [32] is no size of an image"),
        (["--models", "unet3d", "--patch", "0", "32", "32"], "is no size of an image"),
        (["--models", "unet3d", "--device", "cpu", "--advise"], "--advise is for predictions"),
        (["--models", "unet3d", "--batch", "0"], "it must be at least 1"),
        (["--models", "unet3d", "--device", "cpu", "--precision", "amp"], "CUDA's autocast"),
        (["--models", "unet3d", "--out", "/proc/version/x"], "cannot be written to"),
        (["--models", "unet3d", "--plans", "missing.json"], "is no readable plans file"),
    ],
)
def test_bad_input_ends_in_one_sentence(monkeypatch, capsys, arguments, sentence):
    assert run(monkeypatch, pam, *arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.splitlines()) == 1


def test_an_earlier_file_that_cannot_be_overwritten_is_told_first(monkeypatch, tmp_path, capsys):
    table = tmp_path / "pam.csv"
    table.mkdir()  # whoever runs the test cannot write to it
    assert run(monkeypatch, pam, "--models", "unet3d_xs", *SMALL, "--out", tmp_path) == 2
    assert f"{table} cannot be written to" in capsys.readouterr().err


def test_cuda_that_is_not_there_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert run(monkeypatch, pam, "--models", "unet3d", "--device", "cuda") == 2
    assert "no CUDA device" in capsys.readouterr().err


def test_measured_on_a_cpu_agrees_with_the_prediction(monkeypatch, tmp_path):
    arguments = ["--models", "dualbranch_14_ghostnet_xs", *SMALL, "--device", "cpu", "--repeats", 2, "--out", tmp_path]
    assert run(monkeypatch, pam, *arguments) == 0
    (row,) = json.loads((tmp_path / "pam.json").read_text(encoding="utf-8"))["rows"]
    predicted = row["predicted"]["training"]["pam"] / 2**20
    assert row["pam_train_mib"] == pytest.approx(predicted, rel=0.01)
    assert row["pam_sd_mib"] is not None
    assert row["precision"] == "fp32"


def test_flops_and_latency_write_their_tables(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, flops, "--models", "unet3d_xs", *SMALL, "--out", tmp_path) == 0
    assert run(monkeypatch, latency, "--models", "unet3d_xs", *SMALL, "--repeats", 2, "--out", tmp_path) == 0
    (counts,), (times,) = read(tmp_path / "flops.csv"), read(tmp_path / "latency.csv")
    (model,) = choose(["unet3d_xs"], Input(patch=(32, 32, 32)))
    stages = read(tmp_path / "stage_wise_flops.csv")
    for column in ("parameters", "macs", "flops"):
        assert sum(int(stage[column]) for stage in stages) == int(counts[column])
    with torch.device("meta"):
        assert int(counts["macs"]) == predict(model.build(), model.input_shape).macs
    assert 0 < float(times["min_ms"]) <= float(times["median_ms"]) <= float(times["p90_ms"])
    assert times["batch"] == "1"
    monkeypatch.setattr(made, "measure_latency", failing(torch.OutOfMemoryError("CUDA out of memory.")))
    assert run(monkeypatch, latency, "--models", "unet3d_xs", *SMALL, "--out", tmp_path) == 1
    assert read(tmp_path / "latency.csv")[0]["status"] == "failed: CUDA out of memory."
    assert "GMACs" in capsys.readouterr().out


def test_runs_as_a_script_from_anywhere(tmp_path):
    script = ROOT / "benchmarks" / "pam.py"
    done = subprocess.run([sys.executable, script, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "--models" in done.stdout
