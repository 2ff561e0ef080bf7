"""``python -m tests.mutants [--jobs N] [--only TEXT]`` plants faults and looks whether the tests see them.

``mutants.json`` is the table: a file, a text that occurs once in it, what to put in its place, and the tests that must
fail then. Each fault is planted in a copy of the repository, one at a time; in the end the tests that failed must pass
in a copy without one. ``--only`` takes the faults whose file or reason holds the text, and writes no results;
``--missed`` plants again what the results do not have as caught, and keeps their other rows.
Exit codes: 0 all were caught, 1 one was missed, 2 bad arguments or a table out of date.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from benchmarks import record

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "tests" / "mutants.json"
PASSED, FAILED = 0, 1  # pytest's exit codes; the others say that it could not run the tests
LIMIT = 300  # seconds for one test, which a fault may have made endless
LONGEST = 2 * LIMIT  # for all tests of a fault, where pytest itself does not come back
OPTIONS = ("-q", "-rfE", "--durations=0", "-p", "no:cacheprovider", f"--timeout={LIMIT}")
# cached bytecode may be that of the file without the fault
OWN = {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Mutant:
    """A planted fault.

    Attributes:
        file: relative to the repository.
        old: occurs once in the file.
        new: stands there instead.
        tests: pytest's names of the tests that must fail; one of them is enough.
        why: what would go wrong, in a clause.
    """

    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    why: str

    def plant(self, root: Path) -> None:
        """Changes the file below the root.

        Raises:
            ValueError: the text does not occur exactly once.
        """
        path = root / self.file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"{TABLE.name}: {self.old!r} occurs {count} times in {self.file}, not once; renew it.")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


@dataclass(frozen=True)
class Outcome:
    """What pytest said: its exit code, the tests that failed, and the end of its output."""

    code: int
    failed: tuple[str, ...]
    tail: str

    @property
    def verdict(self) -> str:
        """One word; ``broken`` where pytest could not run the tests."""
        return {FAILED: "caught", PASSED: "missed"}.get(self.code, "broken")


def load() -> list[Mutant]:
    """The table."""
    return [Mutant(**{**row, "tests": tuple(row["tests"])}) for row in json.loads(TABLE.read_text(encoding="utf-8"))]


def copy(target: Path) -> None:
    """Copies what git knows, as it stands in the working tree."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        source = ROOT / name
        if source.is_file():  # one that is deleted and not yet committed is still listed
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / name)


def examine(tests: Sequence[str], mutant: Mutant | None = None) -> Outcome:
    """Runs tests in a copy, with a fault until the first fails; the copy hides the package that is installed."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        copy(root)
        if mutant:
            mutant.plant(root)
        code, text = pytest_in(root, [*tests, *OPTIONS, *(["-x"] if mutant else [])])
    failed = re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", text, re.MULTILINE)
    return Outcome(code, tuple(failed), text[-4000:])


def pytest_in(root: Path, words: list[str]) -> tuple[int, str]:
    """Exit code and output of pytest in a copy; what a fault keeps from ending is ended with it.

    The output goes to a file: a process that is left behind would keep a pipe open.
    """
    with (root / "pytest.log").open("w+", encoding="utf-8") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", "pytest", *words],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root), **OWN},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = started.wait(LONGEST)
        except subprocess.TimeoutExpired:
            code = FAILED  # to hang is to be seen
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()
        log.seek(0)
        return code, log.read()


def plant_all(mutants: list[Mutant], jobs: int) -> Iterator[tuple[Mutant, Outcome]]:
    """Each fault with what the tests said of it, as they come."""
    with ThreadPoolExecutor(jobs) as pool:
        tasks = {pool.submit(examine, mutant.tests, mutant): mutant for mutant in mutants}
        try:
            for task in as_completed(tasks):
                yield tasks[task], task.result()
        finally:
            pool.shutdown(cancel_futures=True)


def failing_anyway(tests: Iterable[str], jobs: int) -> set[str]:
    """Those of the tests that fail without a fault, and so say nothing about one."""
    different = sorted(set(tests))
    groups = [different[part::jobs] for part in range(min(jobs, len(different)))]
    with ThreadPoolExecutor(jobs) as pool:
        outcomes = list(tqdm(pool.map(examine, groups), "without faults", len(groups)))
    return {test for outcome in outcomes for test in outcome.failed}


def table(rows: list[dict]) -> str:
    """Markdown: fault, file, verdict, the test that saw it."""
    header = ["fault", "file", "verdict", "first test that failed"]
    return record.markdown(header, ([r["why"], f"`{r['file']}`", r["verdict"], f"`{r['by']}`"] for r in rows))


def write(rows: list[dict], planted: int, minutes: float, jobs: int) -> None:
    """The results as JSON and as Markdown."""
    path = record.RESULTS / "mutants.json"
    record.write_json(path, rows, planted=planted, minutes=round(minutes, 1), jobs=jobs)
    caught = sum(r["verdict"] == "caught" for r in rows)
    text = f"{caught} of {len(rows)} planted faults are caught (`make mutants`). "
    text += f"The last run planted {planted} of them, in {minutes:.1f} minutes.\n\n"
    path.with_suffix(".md").write_text(f"{text}{table(rows)}\n", encoding="utf-8")


def run(mutants: list[Mutant], jobs: int) -> list[dict]:
    """All rows in the table's order; each is printed when it comes."""
    found = {}
    for mutant, outcome in tqdm(plant_all(mutants, jobs), "faults", len(mutants)):
        found[mutant] = {**asdict(mutant), "verdict": outcome.verdict, "by": next(iter(outcome.failed), "")}
        tqdm.write(f"{outcome.verdict}: {mutant.file}: {mutant.why}", file=sys.stdout)
        if outcome.verdict == "broken":
            tqdm.write(outcome.tail, file=sys.stderr)
    anyway = failing_anyway((row["by"] for row in found.values() if row["by"]), jobs)
    rows = [found[mutant] for mutant in mutants]
    return [{**row, "verdict": "fails anyway"} if row["by"] in anyway else row for row in rows]


def caught_earlier(mutants: list[Mutant]) -> dict[Mutant, dict]:
    """Rows of the committed results that are of these faults and have them as caught."""
    rows = json.loads((record.RESULTS / "mutants.json").read_text(encoding="utf-8"))["rows"]
    known = {(r["file"], r["old"], r["new"], tuple(r["tests"])): r for r in rows if r["verdict"] == "caught"}
    keys = {mutant: (mutant.file, mutant.old, mutant.new, mutant.tests) for mutant in mutants}
    return {mutant: known[key] for mutant, key in keys.items() if key in known}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, help="faults at a time, each on one core (default: 1)")
    parser.add_argument("--only", metavar="TEXT", help="those whose file or reason holds the text; writes no results")
    parser.add_argument("--missed", action="store_true", help="those that the results do not have as caught")
    args = parser.parse_args()
    start, mutants = time.monotonic(), load()
    earlier = caught_earlier(mutants) if args.missed else {}
    if args.only:
        mutants = [m for m in mutants if args.only in m.file or args.only in m.why]
    try:
        again = [mutant for mutant in mutants if mutant not in earlier]
        found = {**earlier, **dict(zip(again, run(again, args.jobs), strict=True))}
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    rows = [found[mutant] for mutant in mutants]
    if not args.only:
        write(rows, len(again), (time.monotonic() - start) / 60, args.jobs)
    missed = [r for r in rows if r["verdict"] != "caught"]
    print(f"{len(rows) - len(missed)} of {len(rows)} caught")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
