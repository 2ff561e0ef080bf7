"""A whole comparison by one command, on phantoms: 3 networks x 2 seeds x 2 folds to the report; then killed half-way.

    python benchmarks/sweep.py --out benchmarks/results/sweep.json

The same sweep runs twice, each time from nothing: once undisturbed, and once killed by SIGKILL when half of its
trainings are finished, then started again. Told are the files of both reports, and whether checkpoints (but for the
clock), validations and predictions are the same, byte by byte, and no run that was finished was touched again. Writes
OUT and a table beside it. Exit codes: 0 as it should be, 1 not, 2 bad input.
"""

import argparse
import hashlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script's own package is not on the path

from benchmarks.experiments.phantoms import PLANS, Experiment, make  # noqa: E402 - needs the path above
from benchmarks.interruptions.fingerprint import fingerprint  # noqa: E402 - see above
from benchmarks.record import environment, markdown, origin, write_json  # noqa: E402 - see above

NETWORKS = ("UNet3D", "UNet3DStride", "DualBranchGhost")
WORDS = ("XS", "NoMirror", "1epochs", "iter2")
PACKAGES = ("nnunet_ext", "nnunetv2", "torch", "ray", "numpy")
REPORTED = (
    *("integrated_experiment_results.csv", "all_epochs_results.csv", "model_comparison.csv", "comparisons.csv"),
    *("ranking.csv", "stage_wise_pam_results.csv", "runs.csv", "learning_curves.png", "model_comparison_chart.png"),
    *("parameter_efficiency.png", "interactive_3d_analysis.html", "fair_comparison.md", "sweep.json"),
    *("test_results.csv", "test_model_comparison.csv", "test_comparisons.csv"),
)
LONGEST = 3600.0  # seconds that anything may take before it is an error
POLL = 0.2


def yaml_of(networks: tuple[str, ...], seeds: int, folds: int) -> str:
    """The file of the sweep."""
    listed = {
        "trainers": networks,
        "words": WORDS,
        "seeds": range(1, seeds + 1),
        "folds": range(folds),
    }
    lines = [f"{key}: [{', '.join(map(str, values))}]" for key, values in listed.items()]
    return "\n".join(["dataset: 501", f"plans: {PLANS}", "device: cpu", *lines]) + "\n"


def finished(results: Path) -> list[Path]:
    """Folds whose training and validation are through."""
    return [path.parents[1] for path in sorted(results.glob("*__*/fold_*/validation/summary.json"))]


def signature(results: Path) -> dict[str, Any]:
    """What must be the same: checkpoints without the clock, validations, predictions of held-out images."""
    found: dict[str, Any] = {}
    for path in sorted(results.glob("*__*/fold_*/checkpoint_final.pth")):
        found[str(path.relative_to(results))] = fingerprint(path)
    for path in sorted(results.glob("*__*/**/*.nii.gz")):
        found[str(path.relative_to(results))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def untouched(folds: list[Path]) -> dict[str, tuple[int, str]]:
    """Time of change and SHA-256 of the files of finished folds that a repetition would write."""
    paths = [path for fold in folds for path in (fold / "checkpoint_final.pth", fold / "validation" / "summary.json")]
    return {str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths}


def undisturbed(experiment: Experiment) -> dict[str, Any]:
    """From nothing to the report."""
    began = time.monotonic()
    code = experiment.start().wait(LONGEST)
    return {"what": "undisturbed", "exit code": code, "seconds": time.monotonic() - began, **_told(experiment)}


def killed(experiment: Experiment, half: int) -> dict[str, Any]:
    """Killed when so many trainings are finished, then started again; tells what the kill found done as well."""
    began = time.monotonic()
    driver = experiment.start()
    _wait(lambda: len(finished(experiment.results)) >= half or driver.poll() is not None)
    before_end = driver.poll() is None
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    _wait(lambda: not _at_work(experiment))  # what it had started ends by itself
    done = finished(experiment.results)
    before = untouched(done)
    code = experiment.start().wait(LONGEST)
    same = before == untouched(done)
    found = {"what": "killed and restarted", "exit code": code, "seconds": time.monotonic() - began}
    return {**found, **_told(experiment), "finished at the kill": len(done), "untouched": same and before_end}


def _wait(done: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not done():
        if time.monotonic() - began > LONGEST:
            raise TimeoutError("What was waited for did not come; the logs tell why.")
        time.sleep(POLL)


def _at_work(experiment: Experiment) -> bool:
    """Whether a run that the killed driver has started is still there."""
    mark = f"nnUNet_results={experiment.root / 'results'}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes():
                return True
        except OSError:  # it has ended, or is not ours
            continue
    return False


def _told(experiment: Experiment) -> dict[str, Any]:
    """The last report: which files it lacks, and how often the runs were started."""
    reports = experiment.reports()
    if not reports:
        return {"runs": 0, "repeated": 0, "missing files": list(REPORTED)}
    runs = json.loads((reports[-1] / "sweep.json").read_text(encoding="utf-8"))["runs"]
    missing = [name for name in REPORTED if not (reports[-1] / name).is_file()]
    return {"runs": len(runs), "started": sum(run["tries"] > 0 for run in runs), "missing files": missing}


def compare(root: Path, seeds: int, folds: int, networks: tuple[str, ...] = NETWORKS) -> list[dict[str, Any]]:
    """Both sweeps; each row has ``as it should be``."""
    variables = make(root, cases=10, edge=40)
    file = root / "sweep.yaml"
    file.write_text(yaml_of(networks, seeds, folds), encoding="utf-8")
    first, second = (Experiment(root / name, file, variables) for name in ("undisturbed", "killed"))
    trainings = len(networks) * seeds * folds
    rows = [undisturbed(first), killed(second, trainings // 2)]
    expected = signature(first.results)
    rows[1]["same"] = expected == signature(second.results)
    rows[1]["differs"] = sorted(key for key in expected if expected[key] != signature(second.results).get(key))
    for row in rows:
        row["as it should be"] = _right(row, trainings + len(networks) * seeds)
    return rows


def _right(row: dict[str, Any], runs: int) -> bool:
    whole = row["exit code"] == 0 and row["runs"] == runs and not row["missing files"]
    if "same" not in row:
        return bool(whole and row["started"] == runs)
    return bool(whole and row["same"] and row["untouched"] and row["started"] <= runs - row["finished at the kill"])


def table(rows: list[dict[str, Any]]) -> str:
    """For a document."""
    header = ["sweep", "runs", "started in the last go", "finished at the kill", "results", "minutes"]
    lines = []
    for row in rows:
        same = "the same, byte by byte" if row.get("same") else "differ" if "same" in row else "as reference"
        at_kill = str(row.get("finished at the kill", ""))
        lines.append([row["what"], str(row["runs"]), str(row["started"]), at_kill, same, f"{row['seconds'] / 60:.1f}"])
    return markdown(header, lines)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON; a table is written beside it")
    parser.add_argument("--root", type=Path, help="keeps everything there (default: a temporary folder)")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--folds", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = args.root or Path(folder)
        root.mkdir(parents=True, exist_ok=True)
        rows = compare(root.resolve(), args.seeds, args.folds)
    write_json(args.out, rows)
    text = f"{table(rows)}\n\n{origin(environment(PACKAGES))}\n"
    args.out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)
    return 0 if all(row["as it should be"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
