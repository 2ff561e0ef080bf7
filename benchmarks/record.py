"""What the files of results have in common: where they are, what made them and on what, and how a table looks."""

import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("nnunet_ext", "torch", "nnunetv2", "dynamic-network-architectures", "monai", "numpy")


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table whose columns are aligned, so that it reads on a terminal as well."""
    cells = [list(header), *map(list, lines)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = [
        [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        for row in cells
    ]
    rule = ["-" * w if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [padded[0], rule, *padded[1:]])


def command() -> str:
    """The words that started this script, as they can be typed again; of the machine's folders only the last part."""
    script, *words = sys.argv
    path = Path(script).resolve()
    if path.is_relative_to(ROOT):
        name = path.relative_to(ROOT)
        start = ["-m", ".".join(name.with_suffix("").parts)] if name.parts[0] == "tests" else [name.as_posix()]
    else:
        start = [path.name]
    return shlex.join(["python", *start, *(Path(word).name if Path(word).is_absolute() else word for word in words)])


def commit() -> str | None:
    """The commit of the working tree, with ``+`` where tracked sources differ from it; None outside a clone."""
    if not (ROOT / ".git").exists():
        return None
    found = _git("rev-parse", "HEAD")
    # results are what a run changes; they do not make the sources another state
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results", ":!docs")
    return found + ("+" if changed else "")


def environment(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """Commit, versions and hardware; with torch among the packages its threads, CUDA and GPU as well."""
    found: dict[str, Any] = {
        "commit": commit(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in packages}},
        "hardware": {"machine": platform.machine(), "processor": _processor()},
    }
    return {**found, **_of_torch(found["hardware"])} if "torch" in packages else found


def origin(found: Mapping[str, Any]) -> str:
    """One line on what made a result: the command, and the commit, versions and processor of :func:`environment`."""
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items() if number)
    return f"`{command()}` at {(found['commit'] or 'no commit')[:12]}; {versions}; {found['hardware']['processor']}."


def write_json(path: Path, records: Sequence[Mapping[str, Any]], **further: Any) -> None:
    """The records with what they were made with and on, and what else is told of all of them."""
    written = {"command": command(), **environment(), **further, "rows": list(records)}
    path.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def _of_torch(hardware: Mapping[str, Any]) -> dict[str, Any]:
    import torch  # conversions are measured without it

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "hardware": {**hardware, "gpu": gpu},
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "threads": torch.get_num_threads(),
    }


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S607 - the git of the user


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:  # an optional package
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} threads" if names else platform.processor()
