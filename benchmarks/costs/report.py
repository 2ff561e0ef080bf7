"""Tables of costs: Markdown for the terminal, CSV and records for files."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.costs.rows import CARDS, Row, milliseconds
from benchmarks.record import markdown
from nnunet_ext.profiling.cost import MIB, Memory
from nnunet_ext.profiling.measure import Measured


def pam_table(rows: Sequence[Row]) -> str:
    """The table on the terminal."""
    header = ["network", "input", "batch", "params M", "GMACs", "PAM train MiB", "PAM inference MiB", "total train MiB"]
    return markdown([*header, f"fits {'/'.join(map(str, CARDS))} GB", "peak stage", "status"], map(_cells, rows))


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
        _number(row.total_train, MIB, 0),
        "/".join("yes" if card in row.fits else "no" for card in CARDS) if row.total_train is not None else "-",
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


def latency_table(records: Iterable[Mapping[str, Any]]) -> str:
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
            for r in records
        ),
    )


def memory_records(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows of ``pam_memory.csv``: what a total consists of, predicted, and the total that was measured, in MiB.

    What is not measured is empty. Reserved and workspace: see :class:`nnunet_ext.profiling.measure.Peaks`.
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
    predicted = {kind: nbytes for kind, nbytes in asdict(memory).items() if kind != "stage"}
    seen = asdict(measured) if measured else {}
    return {
        **{name: value for name, value in row.record().items() if name in kept},
        "step": step,
        **{f"{'pam' if kind == 'activations' else kind}_mib": nbytes / MIB for kind, nbytes in predicted.items()},
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


def write_csv(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """One line a record; None is an empty cell."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(records[0]) if records else [])
        writer.writeheader()
        writer.writerows(records)


def recorded(rows: Iterable[Row], path: Path) -> Iterator[Row]:
    """Passes the rows on and writes each to ``pam.csv`` when it comes, so that what ends the program loses none."""
    with path.open("w", newline="", encoding="utf-8", buffering=1) as file:
        for number, row in enumerate(rows):
            writer = csv.DictWriter(file, list(record := row.record()))
            if number == 0:
                writer.writeheader()
            writer.writerow(record)
            yield row


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
