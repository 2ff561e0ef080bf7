"""A dataset of phantoms that is planned, and sweeps on it, each with results of its own."""

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DATASET, PLANS = 501, "nnUNetPlans_cpu"
FEW = {"nnUNet_def_n_proc": "1", "nnUNet_n_proc_DA": "1", "OMP_NUM_THREADS": "1"}


def environment_of(root: Path) -> dict[str, str]:
    """nnU-Net's variables for folders below ``root``, as ``nnunet_ext env`` gives them, and few processes."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("nnUNet_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{clean['PATH']}"
    command = [sys.executable, "-m", "nnunet_ext", "env", "--root", str(root)]
    lines = subprocess.run(command, env=clean, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    pairs = (shlex.split(line)[1].partition("=") for line in lines if line.startswith("export "))
    return {**clean, "PATH": path, **{name: value for name, _, value in pairs}, **FEW}


def run(words: list[Any], environment: dict[str, str]) -> None:
    """A command; its output is shown where it fails, which is an error."""
    done = subprocess.run(
        [str(word) for word in words], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        told = f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        raise RuntimeError(f"{shlex.join(map(str, words))} ended with {done.returncode}:\n{told}")


def make(root: Path, cases: int, edge: int) -> dict[str, str]:
    """Phantoms of ``edge`` voxels an axis, a fifth of them held out, converted and planned; gives the variables."""
    environment = environment_of(root)
    size = ["--shape", edge, edge, edge, "--seed", 1, "--edition", 2021]
    run([sys.executable, "dataset_conversion/phantom_brats.py", root / "brats", "--cases", cases, *size], environment)
    convert = ["dataset_conversion/convert_brats.py", root / "brats", "--dataset-id", DATASET, "--test-fraction", 0.2]
    run([sys.executable, *convert, "--name", "Phantoms"], environment)
    options = ["-c", "3d_fullres", "-gpu_memory_target", 1, "-overwrite_plans_name", PLANS, "-np", 1, "-npfp", 1]
    run(["nnUNetv2_plan_and_preprocess", "-d", DATASET, *options], environment)
    return environment


@dataclass(frozen=True)
class Experiment:
    """A sweep with results of its own.

    Attributes:
        root: holds results, reports and logs.
        file: the YAML.
        environment: nnU-Net's variables.
    """

    root: Path
    file: Path
    environment: dict[str, str]

    @property
    def results(self) -> Path:
        """The dataset's folder in nnUNet_results."""
        return self.root / "results" / "Dataset501_Phantoms"

    def start(self) -> "subprocess.Popen[bytes]":
        """The command, with a session of its own."""
        self.root.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "nnunet_ext", "sweep", str(self.file), "--out", str(self.root / "reports")]
        variables = {**self.environment, "nnUNet_results": str(self.root / "results")}
        with (self.root / "output.txt").open("ab") as log:
            return subprocess.Popen(
                command, env=variables, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def reports(self) -> list[Path]:
        """Folders of finished reports, the oldest first."""
        return sorted((self.root / "reports").glob("integrated_experiment_results_*"))
