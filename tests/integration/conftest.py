"""One dataset of phantoms, converted, planned and trained on by the commands of the README: it takes a minute."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
TRAINER = "nnUNetTrainer_DualBranchGhost_XS_1epochs_iter2_seed1"
PLANS = "nnUNetPlans_cpu"
MODEL = ["-p", PLANS, "-tr", TRAINER]


class Workspace:
    """nnU-Net's folders below ``root``, as ``nnunet_ext env`` sets them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        clean = {k: v for k, v in os.environ.items() if not k.startswith("nnUNet_")}
        self.environment = clean | {"PATH": f"{BIN}{os.pathsep}{clean['PATH']}", "nnUNet_def_n_proc": "1"}
        lines = self.run("nnunet_ext", "env", "--root", root).splitlines()
        exports = [line.removeprefix("export ").partition("=") for line in lines if line.startswith("export ")]
        self.environment |= {name: value.strip("'") for name, _, value in exports} | {"nnUNet_n_proc_DA": "1"}

    def run(self, *words) -> str:
        done = subprocess.run(
            [str(w) for w in words], env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def folder(self, name: str) -> Path:
        return next(Path(self.environment[name]).glob("Dataset501_*"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory, worker_id):
    """Phantoms of BraTS 2021, converted, planned, trained and validated; processes of one run of the tests share them.

    xdist's groups do not keep these tests in one process (pytest 9.2, xdist 3.8), so the others wait for the first.
    """
    own = tmp_path_factory.getbasetemp()
    root = (own if worker_id == "master" else own.parent) / "pipeline"
    root.mkdir(exist_ok=True)
    with FileLock(root.with_suffix(".lock")):
        space = Workspace(root)
        if not (root / "done").exists():
            make(space)
            (root / "done").touch()
    return space


def make(space: Workspace) -> None:
    tree = space.root / "brats"
    phantoms = ["--cases", 6, "--shape", 40, 40, 40, "--seed", 1, "--edition", 2021]
    space.run(sys.executable, "dataset_conversion/phantom_brats.py", tree, *phantoms)
    space.run(sys.executable, "dataset_conversion/convert_brats.py", tree, "--dataset-id", 501, "--test-fraction", 0.2)
    options = [
        "-gpu_memory_target",
        1,
        "-overwrite_plans_name",
        PLANS,
        "-np",
        1,
        "-npfp",
        1,
        "--verify_dataset_integrity",
    ]
    space.run("nnUNetv2_plan_and_preprocess", "-d", 501, "-c", "3d_fullres", *options)
    space.run("nnUNetv2_train", 501, "3d_fullres", 0, *MODEL, "-device", "cpu", "--npz")
