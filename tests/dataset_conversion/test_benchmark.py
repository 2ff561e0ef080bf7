import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "convert_brats.py"


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads the process table of Linux")
def test_benchmark_measures_each_way(phantoms: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--source", phantoms / "2018", "--cases", "4", "--repeats", "1", "--jobs", "1", "--out", out]
    subprocess.run([sys.executable, BENCHMARK, *options, "--scratch", tmp_path], check=True, capture_output=True)
    block = json.loads(out.with_suffix(".json").read_text())["results"]["4"]
    ways = block["ways"]
    assert list(ways) == ["peer", "audit alone (--dry-run)", "first run", "second run"]
    assert all(way["seconds"] > 0 and way["peak_mib"] > 5 for way in ways.values())
    images = sum(path.stat().st_size for path in phantoms.rglob("2018/**/*_[tf]*.nii.gz"))
    assert ways["peer"]["written_mib"] * 2**20 > images, "the peer copies"
    assert ways["first run"]["written_mib"] * 2**20 < images / 4, "we link"
    assert str(tmp_path) not in out.with_suffix(".md").read_text()
