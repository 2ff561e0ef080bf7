"""What a command needs: seconds by the clock and of the processors, and the memory of all its processes. Linux only."""

import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

INTERVAL = 0.02
Memory = Callable[[int], int]


def resident(pid: int) -> int:
    """Resident bytes of a process; pages that processes share count for each."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def proportional(pid: int) -> int:
    """Resident bytes of a process, with its part of the pages that it shares (PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def tree_memory(pid: int, memory: Memory = resident) -> int:
    """Bytes of a process and all below it."""
    try:
        own = memory(pid)
        threads = [path.read_text(encoding="ascii") for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except (FileNotFoundError, ProcessLookupError):  # it ended while we looked
        return 0
    children = (int(child) for text in threads for child in text.split())
    return own + sum(tree_memory(child, memory) for child in children)


class MemoryPeak(threading.Thread):
    """Watches a process, and all below it, until it ends; then ``peak`` is what they held at most, in bytes."""

    def __init__(self, process: subprocess.Popen[bytes], memory: Memory = resident) -> None:
        super().__init__()
        self.process, self.memory, self.peak = process, memory, 0

    def run(self) -> None:
        """Looks again and again."""
        while self.process.returncode is None:
            self.peak = max(self.peak, tree_memory(self.process.pid, self.memory))
            time.sleep(INTERVAL)


def measure(
    command: Sequence[str], environment: Mapping[str, str], memory: Memory | None = resident
) -> dict[str, float]:
    """Runs a command to its end, whose output is shown only if it fails, which ends this process as well.

    Args:
        command: the words.
        environment: variables that differ from this process's.
        memory: how to count a process's memory; None where only time is measured. Reading the PSS of large processes
            takes tens of milliseconds each, so it is no way to measure time as well.

    Returns:
        ``seconds``, ``cpu`` seconds and, where it is measured, ``memory`` in bytes.
    """
    with tempfile.TemporaryFile() as output:
        before, start = os.times(), time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **environment})
        watch = MemoryPeak(process, memory) if memory else None
        if watch:
            watch.start()
        process.wait()
        seconds, after = time.perf_counter() - start, os.times()
        if watch:
            watch.join()
        output.seek(0)
        if process.returncode:
            sys.exit(f"{shlex.join(command)} failed:\n{output.read().decode()}")
    cpu_seconds = sum(after[2:4]) - sum(before[2:4])  # of all children that have ended, and of theirs
    return {"seconds": seconds, "cpu": cpu_seconds, **({"memory": watch.peak} if watch else {})}
