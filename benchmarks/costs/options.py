"""Command-line options of the cost benchmarks, and how they end on bad input: one sentence, exit code 2."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.costs.models import ALL, ALL_PEERS, Input, Model, choose, read_plans
from benchmarks.costs.rows import Request

BAD_INPUT = 2
PRECISIONS = ("amp", "fp32", "bf16")


def add_model_options(parser: argparse.ArgumentParser, *, batch: bool = True) -> None:
    """Which models and which input."""
    names = f"registry, trainer and peer names; `{ALL}`: every network in every size; `{ALL_PEERS}`: other projects'"
    parser.add_argument("--models", nargs="+", default=[], metavar="NAME", help=f"{names} (default: each in size S)")
    parser.add_argument("--patch", nargs="+", type=int, metavar="VOXELS", help="z y x (default: 128 128 128)")
    if batch:
        parser.add_argument("--batch", type=int, help="samples (default: 2)")
    parser.add_argument("--channels", type=int, default=4, help="input channels (default: 4)")
    parser.add_argument("--outputs", type=int, default=3, help="output channels (default: 3)")
    parser.add_argument("--plans", type=Path, metavar="FILE", help="plans file for strides, patch and batch")
    parser.add_argument("-c", dest="configuration", default="3d_fullres", help="its configuration (3d_fullres)")
    folder = Path(f"{Path(parser.prog).stem}_results")
    parser.add_argument("--out", type=Path, default=folder, metavar="DIR", help=f"for the files (default: {folder})")


def add_device_options(parser: argparse.ArgumentParser, devices: tuple[str, ...], repeats: int) -> None:
    """Where and how often."""
    parser.add_argument("--device", choices=devices, default=devices[0], help=f"(default: {devices[0]})")
    parser.add_argument("--precision", choices=PRECISIONS, help="(default: amp, on a CPU fp32)")
    parser.add_argument("--repeats", type=int, default=repeats, help=f"measurements (default: {repeats})")


def add_step_options(parser: argparse.ArgumentParser) -> None:
    """What is predicted of a training step beyond nnU-Net's."""
    parser.add_argument("--accumulation", type=int, default=1, metavar="N", help="passes per predicted step (1)")
    parser.add_argument("--advise", action="store_true", help="say what would lower each peak; few models need no flag")


def models_of(args: argparse.Namespace) -> list[Model]:
    """The models that the options mean.

    Raises:
        ValueError: bad input.
    """
    for name in ("batch", "channels", "outputs", "repeats", "accumulation"):
        if (value := getattr(args, name, None)) is not None and value < 1:
            raise ValueError(f"--{name} is {value}; it must be at least 1.")
    if args.patch is not None and (len(args.patch) not in (2, 3) or min(args.patch) < 1):
        raise ValueError(f"--patch {args.patch} is no size of an image; give z y x, or y x for 2D, all above 0.")
    plan, patch, batch = None, tuple(args.patch) if args.patch else None, args.batch
    if args.plans is not None:
        plan, planned, samples = read_plans(args.plans, args.configuration)
        patch, batch = patch or planned, batch or samples
    return choose(args.models, Input(patch, batch, args.channels, args.outputs, plan))


def request_of(args: argparse.Namespace) -> Request:
    """How rows are to be made.

    Raises:
        ValueError: CUDA is wanted and absent, or its autocast on a CPU, or something measured that is only predicted.
    """
    advise, accumulation = getattr(args, "advise", False), getattr(args, "accumulation", 1)
    if args.device != "meta" and (advise or accumulation > 1):
        option = "--advise" if advise else "--accumulation"
        raise ValueError(f"{option} is for predictions, not for --device {args.device}; use --device meta.")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda, but torch finds no CUDA device here; use --device meta or cpu.")
    if args.device == "cpu" and args.precision == "amp":
        raise ValueError(
            "--precision amp means CUDA's autocast, which a CPU lacks; use fp32 or bf16, or --device meta."
        )
    precision = args.precision or ("fp32" if args.device == "cpu" else "amp")
    return Request(args.device, precision, args.repeats, advise, accumulation)


def writable(folder: Path, names: Sequence[str]) -> Path:
    """The folder, made if need be, in which files of these names can be written.

    Raises:
        ValueError: it cannot be written to, or an earlier file is in the way.
    """
    path = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
        for path in (folder / name for name in names if (folder / name).exists()):
            path.open("a").close()
    except OSError as error:
        raise ValueError(f"--out: {path} cannot be written to ({error.strerror}); name another folder.") from error
    return folder


def run_command(command: Callable[[argparse.Namespace], int], parser: argparse.ArgumentParser) -> int:
    """Parses the arguments and runs the command; bad input ends in one sentence."""
    args = parser.parse_args()
    try:
        return command(args)
    except ValueError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return BAD_INPUT
