"""A second run: nothing done twice, nothing left half done, nothing overwritten that is in use."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from dataset_conversion.brats import files, work
from dataset_conversion.brats.workers import in_threads
from tests.dataset_conversion.test_convert import SCRIPT, content, names, refuse, voxels

DATASET = "Dataset501_BraTS2018"


def test_a_complete_dataset_is_neither_decoded_nor_written(
    tree: Any, convert: Any, raw: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tree()
    assert convert(source) == 0
    before = {path: path.stat().st_mtime_ns for path in (raw / DATASET).rglob("*") if path.name != "conversion.json"}
    for worker in (work.Auditor, work.Writer):
        monkeypatch.setattr(worker, "__call__", refuse)
    assert convert(source) == 0
    assert "is complete" in capsys.readouterr().out
    after = {path: path.stat().st_mtime_ns for path in (raw / DATASET).rglob("*") if path.name != "conversion.json"}
    assert after == before


def test_a_complete_dataset_needs_no_numpy(tree: Any, convert: Any, raw: Path) -> None:
    source = tree()
    assert convert(source) == 0
    code = (
        "import sys; from dataset_conversion.commands.convert import main; "
        f"assert main([{str(source)!r}, '--dataset-id', '501']) == 0; "
        "assert not {'numpy', 'nibabel', 'tqdm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=SCRIPT.parents[1], check=True)


@pytest.mark.parametrize(
    "lost",
    [
        "imagesTr/Brats18_P01_1_1_0002.nii.gz",
        "labelsTr/Brats18_P03_3_1.nii.gz",
        "splits_final.json",
        "cases.csv",
        "dataset.json",
    ],
)
def test_a_lost_file_comes_back(lost: str, tree: Any, convert: Any, raw: Path) -> None:
    source = tree()
    assert convert(source) == 0
    before = content(raw / DATASET)
    (raw / DATASET / lost).unlink()
    assert convert(source) == 0
    assert content(raw / DATASET) == before


def test_a_changed_source_is_audited_and_written_again(tree: Any, convert: Any, raw: Path, capsys: Any) -> None:
    source = tree()
    assert convert(source) == 0
    path = next(source.rglob("Brats18_P01_1_1_seg.nii.gz"))
    image = nib.load(path)
    labels = np.asarray(image.dataobj).copy()
    labels[labels == 2] = 4
    path.unlink()
    nib.save(nib.Nifti1Image(labels, image.affine), path)
    before = (raw / DATASET / "cases.csv").read_text().splitlines()
    assert convert(source) == 0
    assert "1 sources had changed" in capsys.readouterr().out
    assert 2 not in voxels(raw / DATASET / "labelsTr" / "Brats18_P01_1_1.nii.gz")
    after = (raw / DATASET / "cases.csv").read_text().splitlines()
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True, True]


def test_stopped_after_a_change_it_still_writes_the_tables(
    tree: Any, convert: Any, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tree()
    assert convert(source) == 0
    before = (raw / DATASET / "cases.csv").read_text()
    path = next(source.rglob("Brats18_P01_1_1_t1.nii.gz"))
    image = nib.load(path)
    values = np.asarray(image.dataobj).copy() + 1
    path.unlink()
    nib.save(nib.Nifti1Image(values, image.affine), path)
    with monkeypatch.context() as patch:
        patch.setattr(work.Writer, "__call__", refuse)
        assert convert(source) == 2
    assert not (raw / DATASET / "dataset.json").exists()
    assert convert(source) == 0
    assert (raw / DATASET / "cases.csv").read_text() != before
    assert (raw / DATASET / "imagesTr" / "Brats18_P01_1_1_0000.nii.gz").samefile(path)


def test_a_source_that_changed_for_the_worse_changes_nothing(tree: Any, convert: Any, raw: Path) -> None:
    source = tree()
    assert convert(source) == 0
    before = content(raw / DATASET)
    path = next(source.rglob("Brats18_P01_1_1_seg.nii.gz"))
    path.unlink()
    path.write_bytes(b"broken")
    assert convert(source) == 1
    assert content(raw / DATASET) == before


def test_a_dry_run_writes_nothing(tree: Any, convert: Any, raw: Path, capsys: Any) -> None:
    assert convert(tree(), "--dry-run") == 0
    assert "Would write 3 + 0 cases" in capsys.readouterr().out
    assert not raw.exists()


# --- interruptions


@pytest.mark.parametrize("stop_after", range(0, 19, 3))
def test_stopped_at_any_file_it_finishes_the_rest(
    stop_after: int, tree: Any, convert: Any, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tree()
    assert convert(source, "--name", "Whole", dataset=502) == 0
    written = 0
    replace = Path.replace

    def stop(self: Path, target: Path) -> Path:
        nonlocal written
        written += 1
        if written > stop_after:
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stop)
        assert convert(source) == 130
    assert not (raw / DATASET / "dataset.json").exists()
    assert not [path for path in (raw / DATASET).rglob("*") if path.suffix == ".tmp"]
    assert convert(source) == 0
    whole, resumed = content(raw / "Dataset502_Whole"), content(raw / DATASET)
    assert whole.pop("dataset.json") != resumed.pop("dataset.json"), "the names differ"
    assert resumed == whole


def start(source: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(SCRIPT), str(source), "--dataset-id", "501", "--jobs", "2"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_source_that_is_spoilt_after_the_audit_is_told(
    tree: Any, convert: Any, raw: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tree()
    written = work.Writer.__call__

    def spoil_first(self: work.Writer, steps: Any) -> bool:
        for step in steps:
            if step.action == "relabel":
                step.source.write_bytes(step.source.read_bytes()[:100])
        return written(self, steps)

    monkeypatch.setattr(work.Writer, "__call__", spoil_first)
    assert convert(source) == 2
    message = capsys.readouterr().err
    assert "_seg.nii.gz" in message
    assert "mend it and start again" in message
    assert not (raw / DATASET / "dataset.json").exists()


def test_asked_for_copies_a_second_run_replaces_the_links(tree: Any, convert: Any, raw: Path) -> None:
    source = tree()
    assert convert(source) == 0
    image = next(source.rglob("Brats18_P01_1_1_t1.nii.gz"))
    copy = raw / DATASET / "imagesTr" / "Brats18_P01_1_1_0000.nii.gz"
    assert copy.samefile(image)
    assert convert(source, "--copy") == 0
    assert not copy.samefile(image)
    assert copy.read_bytes() == image.read_bytes()


@pytest.mark.parametrize("files", [0, 1, 3])
def test_killed_it_leaves_whole_files_only(files: int, tree: Any, convert: Any, raw: Path) -> None:
    source = tree()
    process = start(source)
    record = raw / DATASET / "conversion.json"
    while process.poll() is None and not (record.exists() and len(list(raw.rglob("labelsTr/*.nii.gz"))) >= files):
        time.sleep(0.001)
    process.kill()
    process.wait()
    for path in (raw / DATASET).rglob("*.nii.gz"):
        nib.load(path).get_fdata()
    assert convert(source) == 0
    assert len(names(raw / DATASET / "imagesTr")) == 12
    assert len(names(raw / DATASET / "labelsTr")) == 3


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_loop_begins_nothing_more(jobs: int) -> None:
    begun = []

    def work_on(item: int) -> int:
        begun.append(item)
        time.sleep(0.01)
        return item

    results = in_threads(work_on, range(100), jobs, "test")
    assert [next(results), next(results)] == [0, 1]
    results.close()
    seen = len(begun)
    time.sleep(0.05)
    assert len(begun) == seen < 50


def test_an_error_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def fail_half_way() -> None:
        with files.replacing(target) as temporary:
            temporary.write_bytes(b"ne")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail_half_way()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"old"}


# --- refusals


def remove_a_case(source: Path, _: Path) -> None:
    for path in source.rglob("Brats18_P02_2_1_*"):
        path.unlink()


def drop_record(_: Path, raw: Path) -> None:
    (raw / DATASET / "conversion.json").unlink()


def other_name(_: Path, raw: Path) -> None:
    (raw / DATASET).rename(raw / "Dataset501_Other")


def preprocessed_name(_: Path, raw: Path) -> None:
    (raw.parent / "nnUNet_preprocessed" / "Dataset501_Other").mkdir(parents=True)


def other_split(_: Path, raw: Path) -> None:
    folder = raw.parent / "nnUNet_preprocessed" / DATASET
    folder.mkdir(parents=True)
    (folder / "splits_final.json").write_text(json.dumps([{"train": ["a"], "val": ["b"]}]))


REFUSED = {
    "other cases": (remove_a_case, [], "has other cases (3) than the source (2), such as Brats18_P02_2_1; remove"),
    "labels": (None, ["--labels"], "was made with regions True, not False; remove"),
    "clipping": (None, ["--clip-percentiles", "1", "99"], "with clip_percentiles None, not [1.0, 99.0]; remove"),
    "test fraction": (None, ["--test-fraction", "0.4"], "with test_fraction 0.0, not 0.4; remove"),
    "foreign dataset": (drop_record, [], "was not made by this converter; remove"),
    "number taken": (other_name, [], "The number 501 is taken by Dataset501_Other"),
    "number taken elsewhere": (preprocessed_name, [], "nnUNet_preprocessed; choose another --dataset-id"),
    "other split in use": (other_split, [], "holds another split; choose another --dataset-id, or remove it"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_spoil_a_dataset_is_refused(kind: str, tree: Any, convert: Any, raw: Path, capsys: Any) -> None:
    spoil, options, message = REFUSED[kind]
    source = tree()
    assert convert(source) == 0
    if spoil:
        spoil(source, raw)
    before = content(raw)
    assert convert(source, *options) == 2
    assert message in capsys.readouterr().err
    assert content(raw) == before


def test_the_same_split_in_use_is_no_obstacle(tree: Any, convert: Any, raw: Path) -> None:
    source = tree()
    assert convert(source) == 0
    folder = raw.parent / "nnUNet_preprocessed" / DATASET
    folder.mkdir(parents=True)
    (folder / "splits_final.json").write_bytes((raw / DATASET / "splits_final.json").read_bytes())
    assert convert(source) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--clip-percentiles", "99", "1"], "give 0 <= LO < HI <= 100"),
        (["--test-fraction", "1"], "give a share from 0 to less than 1"),
        (["--test-fraction", "0.9"], "leaves no patient to train with"),
        (["--test-fraction", "0.1"], "is less than one; give more"),
        (["--name", "a__b"], "single underscores"),
        (["--name", "../up"], "use letters"),
        (["--jobs", "0"], "give at least 1"),
        (["--dataset-id", "1000"], "numbers from 1 to 999"),
    ],
)
def test_values_without_sense_are_explained(
    options: list[str], message: str, tree: Any, convert: Any, raw: Path, capsys: Any
) -> None:
    assert convert(tree(), *options) == 2
    assert message in capsys.readouterr().err
    assert not raw.exists()


def test_missing_folders_are_explained(
    tmp_path: Path, tree: Any, convert: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert convert(tmp_path / "nowhere") == 2
    assert "which is no folder" in capsys.readouterr().err
    monkeypatch.delenv("nnUNet_raw")
    assert convert(tree()) == 2
    assert "nnUNet_raw is not set" in capsys.readouterr().err
