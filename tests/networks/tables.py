"""``python -m tests.networks.tables [PYTEST ARGUMENT ...]`` tests the networks and renews their tables.

Oracles: the largest deviation from each independent implementation. Contract: how many checks each network passes. Both
are written into benchmarks/results, and from there into docs/networks.md. Nothing is written unless all tests pass.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree as ET

from benchmarks import documents, record

ROOT = Path(__file__).resolve().parents[2]
ORACLES = ("family", "held against", "comparisons", "largest deviation")
CONTRACT = ("network", "checks passed in 2D", "in 3D", "does not apply")


def run(folder, arguments):
    """Runs the tests; their rows and their report land in the folder."""
    report = f"--junitxml={folder / 'report.xml'}"
    command = [sys.executable, "-m", "pytest", "tests/networks", report, *arguments]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "NNUNET_EXT_TABLES": str(folder)}, check=True)


def oracles(rows):
    """Of each family and oracle the number of comparisons and the largest deviation."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["family"], row["oracle"]].append(row)
    return [
        [family, oracle, str(len({row["what"] for row in found})), f"{max(row['deviation'] for row in found):.1e}"]
        for (family, oracle), found in sorted(groups.items())
    ]


def contract(report):
    """Of each network the checks passed in 2D and in 3D, and why others do not apply."""
    passed, reasons = defaultdict(lambda: {"2d": 0, "3d": 0}), defaultdict(set)
    for case in ET.parse(report).iter("testcase"):
        found = re.search(r"\[(\w+)-([23]d)", case.get("name"))
        if not (case.get("classname").endswith("test_contract") and found):
            continue
        network, dims = found.groups()
        skipped = case.find("skipped")
        if skipped is None:
            passed[network][dims] += 1
        else:
            reasons[network].add(skipped.get("message").removeprefix(f"{network} "))
    return [
        [network, *(str(n or "") for n in counts.values()), "; ".join(sorted(reasons[network]))]
        for network, counts in passed.items()
    ]


def save(name, header, lines):
    """The table as JSON and as Markdown."""
    path = record.RESULTS / f"{name}.json"
    record.write_json(path, [dict(zip(header, line, strict=True)) for line in lines])
    path.with_suffix(".md").write_text(record.markdown(header, lines) + "\n", encoding="utf-8")


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(folder, sys.argv[1:])
        rows = [json.loads(line) for line in (folder / "oracles.jsonl").read_text().splitlines()]
        save("oracles", ORACLES, oracles(rows))
        save("contract", CONTRACT, contract(folder / "report.xml"))
    documents.write()


if __name__ == "__main__":
    main()
