"""Pictures of costs: PAM by stage as stacked bars, PAM against multiply-accumulates and parameters as scatters."""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path

import matplotlib as mpl
from adjustText import adjust_text
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.costs.rows import Row
from nnunet_ext.profiling.cost import MIB

SIZE_MARKERS = {"XS": "v", "S": "o", "M": "s", "L": "D", "Tiny": "v", "Small": "o", "": "*"}
# colour maps by the half of the network a stage belongs to, strong at full resolution
SHADES = {
    "encoder": "Blues_r",
    "branches": "Greens_r",
    "fusion": "Purples_r",
    "skip": "Wistia",
    "decoder": "Oranges_r",
}
LEVELS = 6
SECONDS = 2  # for labels to make room
SINGLE = {
    "patch embedding": "#40b0c0",
    "transformer": "#205060",
    "heads": "#c05080",
    "loss": "#806040",
}
REST = "#b0b0b0"


def stage_bars(rows: Sequence[Row], path: Path) -> None:
    """One bar a network: its training PAM by stage; the branches of a level are one piece."""
    rows = [row for row in rows if row.cost is not None]
    figure = Figure(figsize=(13, 2.6 + 0.32 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    seen: dict[str, str] = {}
    for y, row in enumerate(rows):
        pieces = {group: nbytes / MIB for group, nbytes in _grouped(row).items()}
        seen |= {group: _colour(group) for group in pieces}
        ends = list(accumulate(pieces.values(), initial=0.0))
        colours = [seen[group] for group in pieces]
        # a bar is one artist: with one for each piece 116 bars take seconds
        spans = list(zip(ends, pieces.values(), strict=False))
        axes.broken_barh(spans, (y - 0.4, 0.8), facecolors=colours, edgecolor="white", linewidth=0.4)
        axes.text(ends[-1], y, f" {ends[-1]:,.0f}", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [row.model.label for row in rows], fontsize=8)
    axes.set(xlabel="predicted training PAM (MiB), by the stage that made it", ylim=(len(rows) - 0.4, -0.6))
    axes.margins(x=0.08)
    axes.set_xlim(left=0)
    axes.grid(visible=True, axis="x", alpha=0.25)
    axes.set_title(_title(rows), fontsize=10)
    handles = [mpl.patches.Patch(color=seen[g], label=g) for g in sorted(seen, key=_order)]
    figure.legend(handles=handles, loc="outside right upper", fontsize=8, frameon=False)
    figure.savefig(path, dpi=130)


def scatters(rows: Sequence[Row], path: Path) -> None:
    """PAM against GMACs and against parameters; a number for each network, a marker for each size.

    Only the networks with the most frequent input are drawn: what others need for another input compares with nothing.
    """
    rows = _comparable([row for row in rows if row.cost is not None and row.pam_train])
    names = list(dict.fromkeys(row.model.name for row in rows))
    figure = Figure(figsize=(15, max(6.5, 0.19 * len(names) + 2)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _points(left, [(row.cost.macs / 1e9, row) for row in rows if row.cost], names)
    _points(right, [(row.cost.parameters / 1e6, row) for row in rows if row.cost], names)
    left.set_xlabel("GMACs, one sample")
    right.set_xlabel("parameters (millions)")
    left.set_ylabel(f"training PAM (MiB), {_origin(rows)}")
    figure.suptitle(_title(rows), fontsize=11)
    marks = {row.model.size: SIZE_MARKERS.get(row.model.size, "o") for row in rows}
    handles = [
        mpl.lines.Line2D([], [], ls="", marker=m, color="grey", label=f"size {s}" if s else "peer")
        for s, m in marks.items()
    ]
    handles += [mpl.lines.Line2D([], [], ls="", label=f"{i + 1}  {name}") for i, name in enumerate(names)]
    figure.legend(handles=handles, loc="outside right upper", fontsize=8, frameon=False, handlelength=1)
    figure.savefig(path, dpi=130)


def _comparable(rows: Sequence[Row]) -> list[Row]:
    shapes = Counter(row.model.input_shape for row in rows)
    return [row for row in rows if row.model.input_shape == shapes.most_common(1)[0][0]]


def _points(axes: Axes, points: Sequence[tuple[float, Row]], names: Sequence[str]) -> None:
    """A marker and a number for each row; numbers make room for each other."""
    texts = []
    for value, row in points:
        assert row.pam_train is not None
        number, height = names.index(row.model.name), row.pam_train / MIB
        marker = SIZE_MARKERS.get(row.model.size, "o")
        axes.scatter(value, height, marker=marker, color=mpl.colormaps["tab20"](number % 20), s=34, alpha=0.8)
        texts.append(axes.text(value, height, str(number + 1), fontsize=8))
    axes.set(xscale="log", yscale="log")
    axes.grid(visible=True, which="both", alpha=0.25)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:,g}"))
        axis.set_minor_formatter(mpl.ticker.NullFormatter())
    if texts:
        line = {"arrowstyle": "-", "color": "grey", "linewidth": 0.5}
        adjust_text(texts, ax=axes, time_lim=SECONDS, arrowprops=line)


def _grouped(row: Row) -> dict[str, int]:
    assert row.cost is not None
    groups: dict[str, int] = {}
    for stage in row.cost.stages:
        group = _group(stage.stage)
        groups[group] = groups.get(group, 0) + stage.training
    return {group: nbytes for group, nbytes in groups.items() if nbytes}


def _group(stage: str) -> str:
    if re.fullmatch(r"(encoder|decoder) stage \d+|(fusion|skip) \d+|bottleneck", stage) or stage in SINGLE:
        return stage
    if match := re.fullmatch(r"gate (\d+)", stage):
        return f"fusion {match[1]}"
    if match := re.fullmatch(r".* (stage \d+)", stage):
        return f"branches {match[1]}"
    return "other stages"


@cache
def _colour(group: str) -> str:
    kind = group.split(maxsplit=1)[0]
    if group in SINGLE or group == "other stages":
        return SINGLE.get(group, REST)
    level = LEVELS if group == "bottleneck" else int(group.rsplit(maxsplit=1)[-1])
    shades = mpl.colormaps[SHADES.get(kind, SHADES["encoder"])]
    return mpl.colors.to_hex(shades(0.1 + 0.75 * min(level - 1, LEVELS) / LEVELS))


def _order(group: str) -> tuple[int, str]:
    kinds = ["branches", "fusion", "patch", "encoder", "transformer", "bottleneck", "skip", "decoder"]
    kinds += ["heads", "loss", "other"]
    return kinds.index(group.split(maxsplit=1)[0]), group


def _origin(rows: Sequence[Row]) -> str:
    devices = {row.request.device for row in rows}
    return "predicted for CUDA" if devices <= {"meta"} else f"measured on {', '.join(sorted(devices))}"


def _title(rows: Sequence[Row]) -> str:
    """Input and precision; inputs of few networks that have their own are named as exceptions."""
    shapes = [row.model.input_shape for row in rows]
    if not shapes:
        return "no network"
    usual = max(shapes, key=shapes.count)
    others = "" if len(set(shapes)) == 1 else " (some networks have an input of their own, see pam.csv)"
    extent = " x ".join(map(str, usual[2:]))
    precision = rows[0].request.precision
    return f"input {usual[1]} channels, {extent} voxels, batch {usual[0]}, precision {precision}{others}"
