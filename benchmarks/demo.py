"""The main job from a BraTS folder to measured predictions, with the commands that a user would type.

    python benchmarks/demo.py --root demo [--data /path/to/BraTS]

Without ``--data`` it makes phantoms. It prints each command, then the Dice of the untrained and of the trained network
on the held-out cases (nnU-Net's convention: a region that is empty in truth and prediction does not count), and saves
a picture. Exit codes: 0 done, 1 the phantoms were not learned (less than 0.8/0.6/0.6 for WT/TC/ET, or more than 0.1
before training), 2 bad arguments, otherwise that of the command that failed.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script's own package is not on the path

from benchmarks.overlay import patches, show_labels  # noqa: E402 - needs the path above
from benchmarks.progress import EpochLines  # noqa: E402 - see above

DATASET = 501
CONFIGURATION = "3d_fullres"
PLANS = "nnUNetPlans_cpu"
REGIONS = {"WT": "(1, 2, 3)", "TC": "(1, 3)", "ET": "(3,)"}
LABELS_SHOWN = (1, 2, 3)
GOAL = {"WT": 0.8, "TC": 0.6, "ET": 0.6}  # on phantoms; on real cases an answer in minutes promises nothing
MOST_BEFORE = 0.1
# nnU-Net's SGD is made for 250,000 steps; AdamW, a word like the others, has learned phantoms after some hundred
TRAINER = "nnUNetTrainer_DualBranchStride_XS_AdamW5en3_Cosine_14epochs_iter40_seed1"
OURS = ".nnunet_ext_demo"  # marks a folder that may be made anew
PHANTOMS = ["--cases", "20", "--shape", "56", "56", "56", "--seed", "1"]


def say(text: str) -> None:
    """Prints one line at once, also into a pipe."""
    print(text, flush=True)


def run(*words: str | Path, log: Path, tell: Callable[[str], Iterable[str]] = lambda _: ()) -> None:
    """Prints a command and runs it; its output goes to the log, and to the terminal if it fails.

    ``tell`` makes of each line that the command prints what is shown of it meanwhile.
    """
    command = [str(w) for w in words]
    say(f"$ {shlex.join(command)}")
    start = time.monotonic()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}
    pipe = partial(subprocess.Popen, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    with (
        log.open("a", encoding="utf-8") as file,
        pipe(command, env=environment, cwd=ROOT) as process,
    ):
        file.write(f"$ {shlex.join(command)}\n")
        for line in process.stdout or ():
            file.write(line)
            for text in tell(line):
                say(text)
    if process.returncode:
        tail = "\n".join(log.read_text(encoding="utf-8").splitlines()[-30:])
        say(f"{tail}\nThis command failed with exit code {process.returncode}; the whole output is in {log}.")
        sys.exit(process.returncode)
    say(f"  {time.monotonic() - start:.0f} s")


def set_environment(root: Path, device: str) -> None:
    """Takes nnU-Net's variables from ``nnunet_ext env``, all below ``root``, and few processes."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ.pop(name, None)
    say(f'$ eval "$(nnunet_ext env --root {shlex.quote(str(root))})"')
    command = [sys.executable, "-m", "nnunet_ext", "env", "--root", str(root)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    for line in lines:
        name, _, value = shlex.split(line)[1].partition("=")
        os.environ[name] = value
    os.environ.setdefault("nnUNet_def_n_proc", "2")
    os.environ.setdefault("nnUNet_n_proc_DA", "1" if device == "cpu" else "4")


def predict_untrained(trainer: str, images: Path, out: Path, device: str) -> None:
    """Segments with the network as initialised: what the training has to beat."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_ext.trainers import trainer_class

    say("# the same network before training")
    folder = next(Path(os.environ["nnUNet_preprocessed"]).glob(f"Dataset{DATASET}_*"))
    dataset = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    plans = PlansManager(str(folder / f"{PLANS}.json"))
    configuration = plans.get_configuration(CONFIGURATION)
    torch.manual_seed(1)
    outputs = plans.get_label_manager(dataset).num_segmentation_heads
    channels = len(dataset["channel_names"])
    cls = trainer_class(trainer)
    network = cls.build_network_architecture(plans, configuration, channels, outputs, enable_deep_supervision=False)
    predictor = nnUNetPredictor(device=torch.device(device), use_mirroring=False, allow_tqdm=False)
    predictor.manual_initialization(network, plans, configuration, [network.state_dict()], dataset, trainer, None)
    out.mkdir()
    predictor.predict_from_files_sequential(str(images), str(out))


def train(trainer: str, model: list[str], log: Path) -> None:
    """Trains with a line for each epoch."""
    from nnunet_ext.trainers import trainer_class

    epochs = trainer_class(trainer).recipe.epochs
    say(f"# {epochs} epochs; then the held-out cases are segmented, measured and drawn, which takes a minute")
    run("nnUNetv2_train", *model, log=log, tell=EpochLines(epochs, list(REGIONS)).feed)


def dice(truth: Path, prediction: Path, log: Path) -> dict[str, float]:
    """Mean Dice of each region over the cases, as ``nnUNetv2_evaluate_folder`` gives it."""
    summary = prediction / "summary.json"
    djfile, pfile = prediction / "dataset.json", prediction / "plans.json"
    run("nnUNetv2_evaluate_folder", truth, prediction, "-djfile", djfile, "-pfile", pfile, "-o", summary, log=log)
    means = json.loads(summary.read_text(encoding="utf-8"))["mean"]
    return {name: float(means[key]["Dice"]) for name, key in REGIONS.items()}


def file_ending(folder: Path) -> str:
    """Ending of the files in a folder of the converted dataset."""
    return str(json.loads((folder.parent / "dataset.json").read_text(encoding="utf-8"))["file_ending"])


def learned(before: dict[str, float], after: dict[str, float]) -> bool:
    """Whether the training reached what the demo promises on phantoms; a NaN has not."""
    return all(after[r] >= goal and before[r] <= MOST_BEFORE for r, goal in GOAL.items())


def most_telling(labels: np.ndarray) -> tuple[int, int, int]:
    """The slice (last axis) that shows most of each label: voxels of its rarest label, of all labels, its number."""
    counts = [np.count_nonzero(labels == label, axis=(0, 1)) for label in LABELS_SHOWN]
    rarest, every = np.min(counts, axis=0), np.sum(counts, axis=0)
    best = max(range(labels.shape[-1]), key=lambda z: (rarest[z], every[z]))
    return int(rarest[best]), int(every[best]), best


def draw(images: Path, truth: Path, prediction: Path, out: Path) -> None:
    """Saves FLAIR, T1ce, the truth and the prediction of the case and slice that show most of all labels."""
    import matplotlib as mpl
    import nibabel as nib

    mpl.use("agg")
    import matplotlib.pyplot as plt

    def read(path: Path) -> np.ndarray:
        return np.asarray(nib.load(path).dataobj)

    ending = file_ending(truth)
    labels = {p: read(p) for p in sorted(truth.glob(f"*{ending}"))}
    shown = {p: most_telling(volume) for p, volume in labels.items()}
    case = max(shown, key=lambda p: shown[p])
    z = shown[case][2]
    stem = case.name.removesuffix(ending)
    flair, t1ce = (read(images / f"{stem}_{c:04d}{ending}")[..., z].T for c in (3, 1))
    masks = [labels[case][..., z].T, read(prediction / case.name)[..., z].T]
    figure, axes = plt.subplots(1, 4, figsize=(12, 3.6), layout="constrained")
    pictures = [
        (flair, None, "FLAIR"),
        (t1ce, None, "T1ce"),
        (flair, masks[0], "truth"),
        (flair, masks[1], "prediction"),
    ]
    for axis, (image, mask, title) in zip(axes, pictures, strict=True):
        axis.imshow(image, cmap="gray", origin="lower", interpolation="bilinear")
        if mask is not None:
            show_labels(axis, mask)
        axis.set_title(title)
        axis.set_axis_off()
    figure.legend(handles=patches(), loc="outside lower center", ncols=3)
    figure.suptitle(f"{stem}, held out, axial slice {z}")
    figure.savefig(out, dpi=100)


def prepare(args: argparse.Namespace, log: Path) -> Path:
    """Phantoms or the user's folder -> a converted, planned and preprocessed dataset; returns its raw folder."""
    source = args.data
    if source is None:
        source = args.root / "phantoms"
        run(sys.executable, "dataset_conversion/phantom_brats.py", source, *PHANTOMS, log=log)
    convert = "dataset_conversion/convert_brats.py"
    name = ["--name", "Demo", "--test-fraction", str(args.test_fraction)]
    run(sys.executable, convert, source, "--dataset-id", str(DATASET), *name, log=log)
    plan = ["-c", CONFIGURATION, "-gpu_memory_target", "1", "-overwrite_plans_name", PLANS]
    run("nnUNetv2_plan_and_preprocess", "-d", str(DATASET), *plan, "-np", "2", "-npfp", "2", log=log)
    return next(Path(os.environ["nnUNet_raw"]).glob(f"Dataset{DATASET}_*"))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--root", type=lambda p: Path(p).resolve(), required=True, help="folder for everything it makes"
    )
    parser.add_argument("--data", type=lambda p: Path(p).resolve(), help="a BraTS folder; phantoms if left out")
    parser.add_argument("--trainer", default=TRAINER)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda", "mps"])
    parser.add_argument("--test-fraction", type=float, default=0.2, help="share of the patients held out")
    args = parser.parse_args()

    start = time.monotonic()
    log = args.root / "log.txt"
    mark = args.root / OURS
    if args.root.exists() and not mark.exists() and any(args.root.iterdir()):
        parser.error(f"--root {args.root} holds files that are not from an earlier demo; choose an empty folder")
    shutil.rmtree(args.root, ignore_errors=True)
    args.root.mkdir(parents=True)
    mark.touch()
    set_environment(args.root, args.device)
    raw = prepare(args, log)
    images, truth = raw / "imagesTs", raw / "labelsTs"
    before, after = args.root / "before", args.root / "after"
    predict_untrained(args.trainer, images, before, args.device)
    model = [str(DATASET), CONFIGURATION, "0", "-p", PLANS, "-tr", args.trainer, "-device", args.device]
    train(args.trainer, model, log)
    options = ["-d", DATASET, "-c", CONFIGURATION, "-f", 0, "-p", PLANS, "-tr", args.trainer, "-device", args.device]
    run("nnUNetv2_predict", "-i", images, "-o", after, *map(str, options), log=log)
    untrained, trained = dice(truth, before, log), dice(truth, after, log)
    draw(images, truth, after, args.root / "overlay.png")
    say(f"\nDice on {len(list(truth.glob(f'*{file_ending(truth)}')))} held-out cases, {args.trainer}:")
    for when, score in {"before training": untrained, "after training": trained}.items():
        say(f"  {when:<16} " + "  ".join(f"{region} {value:.3f}" for region, value in score.items()))
    say(f"Picture: {args.root / 'overlay.png'}\nAll output: {log}\n{time.monotonic() - start:.0f} s in all")
    if args.data is None and not learned(untrained, trained):
        say(f"The phantoms were not learned: at least {GOAL} was expected, and at most {MOST_BEFORE} before training.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
