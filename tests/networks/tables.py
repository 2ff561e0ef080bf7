"""``python -m tests.networks.tables [PYTEST ARGUMENT ...]`` tests the networks and fills docs/networks.md.

Oracles: the largest deviation from each independent implementation. Contract: how many checks each network passes.
Learning: the results that ``make learn`` keeps. Nothing is written unless all tests pass.
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

from benchmarks import learn

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "networks.md"
LEARNED = ROOT / "benchmarks" / "results" / "learn.json"


def run(folder, arguments):
    """Runs the tests; their rows and their report land in the folder."""
    report = f"--junitxml={folder / 'report.xml'}"
    command = [sys.executable, "-m", "pytest", "tests/networks", report, *arguments]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "NNUNET_EXT_TABLES": str(folder)}, check=True)


def oracles(rows):
    """Markdown: family and oracle, number of comparisons, largest deviation."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["family"], row["oracle"]].append(row)
    lines = ["| family | held against | comparisons | largest deviation |", "|---|---|---:|---:|"]
    for (family, oracle), found in sorted(groups.items()):
        compared = len({row["what"] for row in found})
        lines.append(f"| {family} | {oracle} | {compared} | {max(row['deviation'] for row in found):.1e} |")
    return "\n".join(lines)


def contract(report):
    """Markdown: network, checks passed in 2D and in 3D, why others do not apply."""
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
    lines = ["| network | checks passed in 2D | in 3D | does not apply |", "|---|---:|---:|---|"]
    for network, counts in passed.items():
        cells = [str(n or "") for n in counts.values()]
        lines.append(f"| {network} | {' | '.join(cells)} | {'; '.join(sorted(reasons[network]))} |")
    return "\n".join(lines)


def put(name, table):
    """Puts a table between its markers in the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
    before, rest = text.split(begin)
    DOCUMENT.write_text(f"{before}{begin}{table}{end}{rest.split(end)[1]}", encoding="utf-8")


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(folder, sys.argv[1:])
        rows = [json.loads(line) for line in (folder / "oracles.jsonl").read_text().splitlines()]
        put("oracles", oracles(rows))
        put("contract", contract(folder / "report.xml"))
    if LEARNED.exists():
        put("learning", learn.markdown(json.loads(LEARNED.read_text())["results"]))


if __name__ == "__main__":
    main()
