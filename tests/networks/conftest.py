"""Fixtures of the network tests, among them the rows of the tables in docs/networks.md."""

import json
import os
from pathlib import Path

import pytest


@pytest.fixture
def table_row():
    """``table_row(table, **row)`` adds a line of JSON to ``<table>.jsonl`` in the folder $NNUNET_EXT_TABLES, if set.

    The folder exists and is empty at the start; a test that runs again adds its row again.
    """

    def add(table, **row):
        if folder := os.environ.get("NNUNET_EXT_TABLES"):
            # one write in append mode: workers of xdist share the file
            with (Path(folder) / f"{table}.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")

    return add


@pytest.fixture
def oracle_record(table_row):
    """``oracle_record(family, oracle, what, found, expected)`` demands equality and notes the largest deviation."""

    def record(family, oracle, what, found, expected, tolerance=1e-5):
        assert found.shape == expected.shape
        assert found.numel()
        deviation = (found - expected).abs().max().item()
        table_row("oracles", family=family, oracle=oracle, what=what, deviation=deviation)
        assert deviation <= tolerance, f"{what}: differs from {oracle} by {deviation:.1e}"

    return record
