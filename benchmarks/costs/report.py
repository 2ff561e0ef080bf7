"""Tables of costs: Markdown for the terminal, CSV and records for files."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from benchmarks.costs.rows import OK, Row, latency_record, milliseconds
from benchmarks.record import markdown
from nnunet_ext.profiling.cost import GIB, MIB, Memory
from nnunet_ext.profiling.measure import Measured


def pam_table(rows: Sequence[Row]) -> str:
    """The table on the terminal."""
    header = [
        "network",
        "input",
        "batch",
        "params M",
        "GMACs",
        "PAM train MiB",
        "PAM inference MiB",
        "weight copies MiB",
    ]
    header += ["optimiser temporaries MiB", "total train MiB", "card GB", "peak stage", "status"]
    return markdown(header, map(_cells, rows))


def _cells(row: Row) -> list[str]:
    cost = row.cost
    return [
        row.model.label,
        "x".join(map(str, row.model.input_shape[1:])),
        str(row.model.input_shape[0]),
        _number(cost.parameters if cost else None, 1e6, 2),
        _number(cost.macs if cost else None, 1e9, 1),
        _number(row.pam_train, MIB, 0) + (f" ± {row.training.activations[1] / MIB:.0f}" if row.training else ""),
        _number(row.pam_inference, MIB, 0),
        _number(cost.training.most_copies if cost else None, MIB, 0),
        _number(cost.training.most_temporaries if cost else None, MIB, 0),
        _number(row.total_train, MIB, 0),
        _number(row.card, GIB, 1),
        cost.training.stage if cost else "-",
        row.status,
    ]


def remedy_lines(rows: Iterable[Row]) -> list[str]:
    """What would lower the peaks, one line a remedy."""
    return [
        f"{row.model.label}: {remedy} lowers the total to {total / MIB:.0f} MiB"
        for row in rows
        for remedy, total in (row.remedies or {}).items()
    ]


def _number(value: float | None, unit: float, digits: int) -> str:
    return "-" if value is None else f"{value / unit:.{digits}f}"


def flops_table(rows: Iterable[Row]) -> str:
    """Counts on the terminal."""
    header = ["network", "input", "batch", "params M", "GMACs", "GFLOPs", "step GMACs", "status"]
    return markdown(
        header,
        (
            [
                row.model.label,
                "x".join(map(str, row.model.input_shape[1:])),
                str(row.model.input_shape[0]),
                _number(row.cost.parameters if row.cost else None, 1e6, 3),
                _number(row.cost.macs if row.cost else None, 1e9, 2),
                _number(row.cost.flops if row.cost else None, 1e9, 2),
                _number(row.cost.macs_step if row.cost else None, 1e9, 1),
                row.status,
            ]
            for row in rows
        ),
    )


def flops_records(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Counts, exactly."""
    kept = ("registry_name", "trainer", "size", "input_shape", "batch", "parameters", "macs", "flops", "status")
    return [
        {**{k: v for k, v in row.record().items() if k in kept}, "macs_step": row.cost.macs_step if row.cost else None}
        for row in rows
    ]


def latency_table(rows: Iterable[Row]) -> str:
    """Latencies on the terminal."""
    header = ["network", "input", "precision", "device", "min ms", "median ms", "p90 ms", "status"]
    return markdown(
        header,
        (
            [
                f"{r['registry_name']} {r['size']}".strip(),
                *(str(r[k]) for k in ("input_shape", "precision", "device")),
                *(_number(r[k], 1, 1) for k in ("min_ms", "median_ms", "p90_ms")),
                r["status"],
            ]
            for r in map(latency_record, rows)
        ),
    )


def memory_records(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows of ``pam_memory.csv``: the PAM, what the total consists of, and the total that was measured, in MiB.

    The total is that of another moment than the PAM. What is not measured is empty. Reserved and workspace: see
    :class:`nnunet_ext.profiling.measure.Peaks`.
    """
    return [
        _memory_record(row, step, memory, measured)
        for row in rows
        if row.cost is not None
        for step, memory, measured in (
            ("training", row.cost.training, row.training),
            ("inference", row.cost.inference, row.inference),
        )
    ]


def _memory_record(row: Row, step: str, memory: Memory, measured: Measured | None) -> dict[str, Any]:
    kept = ("registry_name", "size", "input_shape", "batch", "precision", "device")
    seen = asdict(measured) if measured else {}
    return {
        **{name: value for name, value in row.record().items() if name in kept},
        "step": step,
        "pam_mib": memory.pam / MIB,
        **{f"{kind}_mib": nbytes / MIB for kind, nbytes in memory.parts.items()},
        "total_mib": memory.total / MIB,
        **{f"measured_{k}_mib": seen[k][0] / MIB if seen else None for k in ("total", "reserved", "workspace")},
    }


def stage_counts(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows of ``stage_wise_flops.csv``; they add up to those of ``flops.csv``."""
    return [
        {
            "registry_name": row.model.name,
            "size": row.model.size,
            "stage": stage.stage,
            "parameters": stage.parameters,
            "macs": stage.macs,
            "flops": 2 * stage.macs,
        }
        for row in rows
        if row.cost is not None
        for stage in row.cost.stages
    ]


def stage_records(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows of ``stage_wise_pam_results.csv``; predicted, memory in MiB without rounding, so that they add up."""
    return [
        {
            "registry_name": row.model.name,
            "size": row.model.size,
            "stage": stage.stage,
            "parameters": stage.parameters,
            "macs": stage.macs,
            "pam_train_mib": stage.training / MIB,
            "pam_inference_mib": stage.inference / MIB,
            "own_peak_train_mib": stage.training_peak / MIB,
            "own_peak_inference_mib": stage.inference_peak / MIB,
        }
        for row in rows
        if row.cost is not None
        for stage in row.cost.stages
    ]


Records = Callable[[Row], Sequence[Mapping[str, Any]]]


def recorded(rows: Iterable[Row], tables: Mapping[Path, Records], count: int) -> Iterator[Row]:
    """Passes the rows on and writes each to its tables when it comes, so that what ends the program loses none.

    Args:
        rows: with a progress bar on stderr.
        tables: file -> its lines for a row.
        count: of the rows.
    """
    with ExitStack() as stack:
        files = {
            path: stack.enter_context(path.open("w", newline="", encoding="utf-8", buffering=1)) for path in tables
        }
        for row in tqdm(rows, total=count, unit="network"):
            for path, lines in tables.items():
                _append(files[path], lines(row))
            yield row


def _append(file: TextIO, records: Sequence[Mapping[str, Any]]) -> None:
    if records:
        writer = csv.DictWriter(file, list(records[0]))
        if not file.tell():
            writer.writeheader()
        writer.writerows(records)


def exit_code(rows: Iterable[Row]) -> int:
    """0, or 1 if a row has failed."""
    return 0 if all(row.status == OK for row in rows) else 1


def cost_records(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Everything that is known of each row; memory in bytes but for the columns of the CSV."""
    return [
        {
            **row.record(),
            "accumulation": row.request.accumulation,
            **milliseconds(row.latency),
            "fits_gb": row.fits,
            "predicted": row.cost.as_dict() if row.cost else None,
            "measured_training": asdict(row.training) if row.training else None,
            "measured_inference": asdict(row.inference) if row.inference else None,
            "remedies": row.remedies,
        }
        for row in rows
    ]
