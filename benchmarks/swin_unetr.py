"""SwinUNETR here against MONAI's: the same function, time of a training step, peak activation memory.

    python benchmarks/swin_unetr.py [--sizes S ...] [--patch 96] [--repeats 3] [--device cpu] [--threads 1]

Both networks have the same weights and the same operators (norms without parameters, no deep supervision), see the same
image (4 channels, batch 1, fp32) and take the same step: forward, Dice and cross-entropy on three regions, backward,
SGD. Steps of both alternate in one process. Time: on the CPU the processor time of the process, which other processes
do not add to; on a GPU wall time between synchronisations. Memory: the peak of all tensors alive in a step, without
parameters, gradients, optimiser state and image, from the allocator's own events. Writes a JSON file and a table.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from monai.networks import nets
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script's own package is not on the path

from benchmarks import record
from nnunet_ext.networks import registry
from nnunet_ext.networks.interop import import_monai
from nnunet_ext.networks.stock_plan import INPUT_CHANNELS, OUTPUT_CHANNELS, stock_plan
from nnunet_ext.profiling.measure import measure_training, prepare

SPEC = registry.find("SwinUNETR")[0]
STAGES = 6
MIB = 2**20


@dataclass(frozen=True)
class Row:
    """One size: the figures of MONAI's network and ours, and ours divided by MONAI's.

    Attributes:
        size, width: name here, MONAI's feature size.
        deviation: largest difference of the logits, as a part of the largest logit.
        seconds_monai, seconds_ours: median of a training step.
        time: median of the ratios of neighbouring steps.
        mib_monai, mib_ours: peak activation memory of a training step.
        memory: their ratio.
    """

    size: str
    width: int
    deviation: float
    seconds_monai: float
    seconds_ours: float
    time: float
    mib_monai: float
    mib_ours: float
    memory: float


def twins(size: str, patch: int) -> tuple[nn.Module, nn.Module]:
    """MONAI's network and ours with its weights."""
    width = SPEC.widths[size]
    theirs = nets.SwinUNETR(INPUT_CHANNELS, OUTPUT_CHANNELS, feature_size=width)
    plan = {**stock_plan(3, STAGES), "conv_bias": False, "norm_op_kwargs": {"affine": False}}
    ours = registry.build(SPEC, INPUT_CHANNELS, OUTPUT_CHANNELS, plan, size=size, patch_size=(patch,) * 3)
    ours.load_state_dict(import_monai(ours, theirs.state_dict()).weights)
    return theirs, ours


@torch.no_grad()
def deviation(theirs: nn.Module, ours: nn.Module, image: Tensor) -> float:
    """Largest difference of the logits, as a part of MONAI's largest."""
    expected = theirs(image)
    return ((ours(image) - expected).abs().max() / expected.abs().max()).item()


def stopwatch(device: torch.device) -> Callable[[], float]:
    """A clock in seconds, see the module's docstring."""
    if device.type == "cpu":
        return time.process_time

    def now() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return now


def compare(size: str, patch: int, repeats: int, device: torch.device) -> Row:
    """Measures one size; memory first, which warms both up."""
    image = torch.randn((1, INPUT_CHANNELS, *(patch,) * 3), generator=torch.Generator().manual_seed(0)).to(device)
    networks = [network.to(device) for network in twins(size, patch)]
    differ = deviation(networks[0], networks[1], image)
    trainings = [prepare(network, image) for network in networks]
    mib = [measure_training(training, 1).activations[0] / MIB for training in trainings]
    now, seconds = stopwatch(device), []
    for _ in range(repeats):
        pair = []
        for training in trainings:
            start = now()
            training.step()
            pair.append(now() - start)
            training.reset()
        seconds.append(pair)
    theirs, ours = (median(s) for s in zip(*seconds, strict=True))
    ratio = median(b / a for a, b in seconds)
    return Row(size, SPEC.widths[size], differ, theirs, ours, ratio, mib[0], mib[1], mib[1] / mib[0])


def markdown(rows: list[Row]) -> str:
    """The table."""
    figures = ("step MONAI (s)", "step here (s)", "ratio", "PAM MONAI (MiB)", "PAM here (MiB)", "ratio")
    lines = []
    for r in rows:
        cells = [r.size, str(r.width), f"{r.deviation:.0e}", f"{r.seconds_monai:.2f}", f"{r.seconds_ours:.2f}"]
        lines.append([*cells, f"{r.time:.2f}", f"{r.mib_monai:.0f}", f"{r.mib_ours:.0f}", f"{r.memory:.2f}"])
    return record.markdown(["size", "feature size", "deviation", *figures], lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SPEC.sizes, default=["S"])
    parser.add_argument("--patch", type=int, default=96, help="edge in voxels, a multiple of 32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=record.RESULTS, help="folder of the results")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = [compare(size, args.patch, args.repeats, torch.device(args.device)) for size in args.sizes]
    args.out.mkdir(parents=True, exist_ok=True)
    stem = args.out / f"swin_unetr_{args.device}"
    facts = {"patch": [args.patch] * 3, "repeats": args.repeats}
    record.write_json(stem.with_suffix(".json"), [asdict(row) for row in rows], **facts)
    text = f"`{record.command()}`\n\n{markdown(rows)}\n"
    stem.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
