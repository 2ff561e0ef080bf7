"""nnUNetv2_predict_cascade as it is called, in this process."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_ext.cli import run_command
from nnunet_ext.commands import predict_cascade
from nnunet_ext.discovery import hook_folder
from tests.cascade import models

AFFINE = np.array([[0, -1, 0, 5], [1, 0, 0, -7], [0, 0, 1, 3], [0, 0, 0, 1.0]])


@pytest.fixture
def images(tmp_path, results, monkeypatch):
    monkeypatch.setenv("nnUNet_results", str(results))
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_folder()))
    for name, seed in (("a", 1), ("b", 2)):
        models.write_case(tmp_path / "in", name, seed=seed, affine=AFFINE)
    return tmp_path / "in"


def call(images, *options, out=None, folds=("-f", "0", "-roi_f", "0"), mirroring=False, **changes):
    flags = {"-d": "999", "-c": "3d_fullres", "-tr": models.SEGMENTATION, "-device": "cpu", **changes}
    words = ["-i", str(images), "-o", str(out or images.parent / "out"), *folds, "--disable_progress_bar"]
    words += [] if mirroring else ["--disable_tta"]
    words += [w for pair in flags.items() for w in pair]
    return run_command("nnUNetv2_predict_cascade", predict_cascade, [*words, "--crop_size", "16", "16", "16", *options])


def segmentation(folder, name="a"):
    return np.asarray(nib.load(folder / f"{name}.nii.gz").dataobj)


def reports(folder):
    return {p.stem: json.loads(p.read_text()) for p in (folder / "cascade").glob("*.json")}


def summary(folder):
    return json.loads((folder / "cascade_summary.json").read_text())


def test_every_flag_of_the_installed_command():
    """The options of both helps, with the number of values that they take."""

    def options(command):
        code = f"import sys; sys.argv[1:] = ['-h']; {command}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        usage = re.sub(r"\s+", " ", done.stdout[done.stdout.index("usage:") :].split("\n\n")[0])
        found = re.findall(r"\[?(--?\w+)((?: [^\[\]\s-][^\[\]\s]*)?)((?: \[[^\[\]]+ \.\.\.\])?)", usage)
        return {flag: (bool(value), bool(more)) for flag, value, more in found}

    stock = options("from nnunetv2.inference.predict_from_raw_data import predict_entry_point as e; e()")
    ours = options("from nnunet_ext.commands.predict_cascade import main; main()")
    assert len(stock) > 15
    assert {flag: ours.get(flag) for flag in stock} == stock


def test_the_documents_python_example(images, folders, capsys):
    text = (Path(__file__).parents[2] / "docs" / "cascade.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = ("SEGMENTATION_MODEL_FOLDER", "DETECTOR_MODEL_FOLDER", "INPUT_FOLDER", "OUTPUT_FOLDER")
    out = images.parent / "example"
    for path in images.glob("b_*"):
        path.unlink()
    exec(code, dict(zip(names, map(str, (*folders, images, out)), strict=True)))
    assert capsys.readouterr().out.splitlines()[-1].isdecimal()
    assert (out / "a.nii.gz").is_file()


def test_files_geometry_probabilities_and_reports(images, capsys):
    assert call(images, "--save_probabilities", "--margin_mm", "2") == 0
    out = images.parent / "out"
    for name in "ab":
        made = nib.load(out / f"{name}.nii.gz")
        np.testing.assert_array_equal(made.affine, nib.load(images / f"{name}_0000.nii.gz").affine)
        assert made.shape == nib.load(images / f"{name}_0000.nii.gz").shape
        assert set(np.unique(segmentation(out, name))) <= {0, 1, 2, 3}
        assert np.load(out / f"{name}.npz")["probabilities"].shape == (3, *made.shape[::-1])
    found = reports(out)
    assert set(found) == {"a", "b"}
    keys = {"components", "crop_boxes", "network_passes", "voxels_computed", "voxels_sliding_window", "seconds"}
    assert keys | {"fallback", "crops", "roi_ml"} <= set(found["a"])
    assert summary(out)["network_passes"] == found["a"]["network_passes"] + found["b"]["network_passes"]
    assert "2 cases," in capsys.readouterr().out


def test_mirroring_and_folds_multiply_the_passes(images):
    assert call(images, out=images.parent / "one") == 0
    assert call(images, folds=("-f", "0", "1", "-roi_f", "0"), mirroring=True, out=images.parent / "many") == 0
    one, many = (reports(images.parent / name)["a"] for name in ("one", "many"))
    assert one["network_passes"] == max(1, one["crops"])
    assert many["network_passes"] == 16 * many["crops"]


def test_the_roi_is_nnunets_prediction_with_the_detector_voxel_for_voxel(images, folders):
    """At 1 mm, the spacing of BraTS: stock prediction of the files with -c 3d_roi, and the cascade's mask."""
    out = images.parent / "stock"
    out.mkdir()
    stock = nnUNetPredictor(device=models.CPU, allow_tqdm=False)
    stock.initialize_from_trained_model_folder(str(folders[1]), (0,))
    stock.predict_from_files_sequential(str(images), str(out))
    made = models.predictor(*folders, mirroring=True, roi_threshold=0.5)
    masks = []
    probability = made.tumor_probability

    def kept(data):
        masks.append((probability(data) > 0.5).numpy())
        return probability(data)

    made.tumor_probability = kept
    made.predict_from_files_sequential(str(images), str(images.parent / "ours"))
    for name, mask in zip("ab", masks, strict=True):
        whole = segmentation(out, name).transpose(2, 1, 0)
        brain = tuple(slice(n.min(), n.max() + 1) for n in np.nonzero(nib_brain(images, name)))
        np.testing.assert_array_equal(whole[brain], mask)
        assert 0 < mask.mean() < 1
        assert whole.sum() == mask.sum()


def nib_brain(images, name):
    return np.asarray(nib.load(images / f"{name}_0000.nii.gz").dataobj).transpose(2, 1, 0) != 0


def test_boxes_are_told_in_the_image(images):
    assert call(images, "--margin_mm", "0") == 0
    report = reports(images.parent / "out")["a"]
    assert report["components"]
    brain = np.nonzero(nib_brain(images, "a"))
    for component in report["components"]:
        for inner, outer, n in zip(component["box"], component["image_box"], brain, strict=True):
            assert outer == [e + n.min() for e in inner]
    for inner, outer in zip(report["crop_boxes"], report["crop_image_boxes"], strict=True):
        ends = zip(inner, brain, strict=True)
        assert outer == [[max(a, 0) + n.min(), min(b, n.max() + 1 - n.min()) + n.min()] for (a, b), n in ends]


def test_a_prediction_is_continued(images):
    out = images.parent / "out"
    assert call(images) == 0
    before = {p.name: p.stat().st_mtime_ns for p in out.glob("*.nii.gz")}
    (out / "b.nii.gz").unlink()
    assert call(images, "--continue_prediction") == 0
    after = {p.name: p.stat().st_mtime_ns for p in out.glob("*.nii.gz")}
    assert after["a.nii.gz"] == before["a.nii.gz"]
    assert set(after) == set(before)
    assert summary(out)["cases"] == 2


def test_parts_share_the_cases(images):
    whole, parts = images.parent / "out", images.parent / "parts"
    assert call(images) == 0
    assert call(images, "-num_parts", "2", "-part_id", "0", out=parts) == 0
    assert {p.name for p in parts.glob("*.nii.gz")} == {"a.nii.gz"}
    assert call(images, "-num_parts", "2", "-part_id", "1", out=parts) == 0
    for name in "ab":
        np.testing.assert_array_equal(segmentation(parts, name), segmentation(whole, name))
    assert summary(parts)["cases"] == 2


@pytest.mark.parametrize("merge", ["max", "gaussian"])
def test_labels_in_place_of_regions(tmp_path, merge, monkeypatch):
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    models.write(tmp_path / "results", models.SEGMENTATION, "3d_fullres", labels=models.LABELS)
    models.write(tmp_path / "results", models.DETECTOR, "3d_roi", labels=models.LABELS)
    models.write_case(tmp_path / "in", "a")
    assert call(tmp_path / "in", "--merge", merge) == 0
    found = set(np.unique(segmentation(tmp_path / "out")))
    assert {0} < found <= {0, 1, 2}


def test_the_previous_stage_of_nnunets_own_cascade(tmp_path, images, capsys, monkeypatch):
    """With a ROI that fills the volume and nnU-Net's weights the files are those of nnUNetv2_predict."""
    planned = models.plans()
    planned["configurations"] |= {
        "3d_lowres": {"inherits_from": "3d_fullres", "next_stage": "3d_cascade_fullres"},
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    }
    name = "3d_cascade_fullres"
    segmentation_model = models.write(tmp_path / "two", models.SEGMENTATION, name, changes=planned)
    models.write(tmp_path / "two", models.DETECTOR, "3d_roi", changes=planned)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "two"))
    assert call(images, **{"-c": name}) == 2
    assert "give -prev_stage_predictions FOLDER" in capsys.readouterr().err
    previous = tmp_path / "previous"
    previous.mkdir()
    for case in "ab":
        image = nib.load(images / f"{case}_0000.nii.gz")
        labels = np.random.default_rng(1).integers(0, 4, image.shape).astype(np.uint8)
        nib.save(nib.Nifti1Image(labels, image.affine), previous / f"{case}.nii.gz")
    stock = nnUNetPredictor(device=models.CPU, use_mirroring=False, allow_tqdm=False)
    stock.initialize_from_trained_model_folder(str(segmentation_model), (0,))
    expected = tmp_path / "expected"
    expected.mkdir()
    stock.predict_from_files_sequential(str(images), str(expected), folder_with_segs_from_prev_stage=str(previous))
    options = ["-prev_stage_predictions", str(previous), "--merge", "gaussian", "--margin_mm", "99"]
    assert call(images, *options, "--roi_threshold", "0", "--min_component_ml", "0", **{"-c": name}) == 0
    for case in "ab":
        np.testing.assert_array_equal(segmentation(images.parent / "out", case), segmentation(expected, case))
    (previous / "b.nii.gz").unlink()
    assert call(images, *options, **{"-c": name}) == 1
    assert "b: The segmentation of the previous stage" in capsys.readouterr().err


def test_stock_trainers_segment_too(tmp_path, folders, monkeypatch, images):
    """nnU-Net's own network, read by nnU-Net itself; it has no coordinates."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    folder = models.write(tmp_path / "results", models.PLAIN, "3d_fullres").rename(
        folders[0].parent / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    )
    configuration = PlansManager(models.plans()).get_configuration("3d_fullres")
    network = nnUNetTrainer.build_network_architecture(None, configuration, 4, 3, False)
    path = folder / "fold_0" / "checkpoint_final.pth"
    saved = torch.load(path, weights_only=False)
    torch.save({**saved, "network_weights": network.state_dict(), "trainer_name": "nnUNetTrainer"}, path)
    assert call(images, **{"-tr": "nnUNetTrainer"}) == 0
    assert segmentation(images.parent / "out").shape == nib.load(images / "a_0000.nii.gz").shape


@pytest.mark.parametrize(
    ("options", "changes", "said"),
    [
        ([], {"-d": "998"}, "holds 0 datasets 998"),
        ([], {"-tr": "nnUNetTrainer_Nobody"}, "There is no model"),
        ([], {"-c": "3d_lowres"}, "trained models there"),
        (["-roi_tr", "nnUNetTrainer_Nobody"], {}, "Choose with -roi_tr, -roi_p and -roi_c"),
        (["-roi_f", "3"], {}, "for fold 3; those with it: 0"),
        (["-f", "0", "7"], {}, "for fold 7; those with it: 0 1"),
        (["-chk", "checkpoint_best.pth"], {}, "no checkpoint_best.pth for fold 0; no fold has it"),
        (["--crop_size", "20", "16", "18"], {}, "the next legal one is --crop_size 20 16 20"),
        (["-step_size", "0"], {}, "-step_size must be above 0"),
        (["-part_id", "1"], {}, "counts from 0"),
        (["-npp", "-1"], {}, "must not be negative"),
        (["--roi_threshold", "2"], {}, "probability"),
        (["-f", "first"], {}, "a fold is a number or 'all', not 'first'"),
        (["-num_parts", "0"], {}, "-num_parts must be at least 1"),
        (["-prev_stage_predictions", "somewhere"], {}, "reads no previous stage"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(images, capsys, options, changes, said):
    try:
        code = call(images, *options, **changes)
    except SystemExit as end:  # from argparse
        code = end.code
    assert code == 2
    error = capsys.readouterr().err
    assert said in error
    assert not (images.parent / "out").exists()


def test_folders_without_images(images, capsys):
    assert call(images.parent / "nowhere") == 2
    assert "There is no folder" in capsys.readouterr().err
    empty = images.parent / "empty"
    empty.mkdir()
    assert call(empty) == 2
    assert "holds no image CASE_0000.nii.gz" in capsys.readouterr().err


def without_channel(images):
    (images / "b_0003.nii.gz").unlink()


def with_a_wrong_number(images):
    (images / "b_0003.nii.gz").rename(images / "b_0007.nii.gz")


def of_another_shape(images):
    path = images / "b_0002.nii.gz"
    nib.save(nib.load(path).slicer[:-1], path)


def cut_short(images):
    path = images / "b_0001.nii.gz"
    path.write_bytes(path.read_bytes()[:-3000])


def no_image(images):
    (images / "b_0002.nii.gz").write_bytes(b"nothing")


def four_axes(images):
    path = images / "b_0002.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.stack([image.get_fdata()] * 2, -1), image.affine), path)


def beyond_numbers(images):
    """Their mean is infinite, and what is normalised by it is NaN; NaN in a file is 0 for ITK."""
    path = images / "b_0002.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.full(image.shape, 3e38, np.float32), image.affine), path)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without_channel, "b_0000.nii.gz has 3 channels; expected are 4"),
        (with_a_wrong_number, "have the numbers 0000, 0001, 0002, 0007"),
        (of_another_shape, "they differ in shape, spacing or orientation"),
        (cut_short, "b_0001.nii.gz is damaged"),
        (no_image, "b_0002.nii.gz is damaged or no NIfTI file"),
        (four_axes, "b_0002.nii.gz is 4D (18x20x22x2); split it"),
        (beyond_numbers, "gives NaN or infinite values for b"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_case_that_cannot_be_segmented_is_told_and_the_others_are_done(images, capsys, spoil, said):
    spoil(images)
    assert call(images) == 1
    error = capsys.readouterr().err
    assert "1 cases failed and have no segmentation:\n  b: " in error
    assert said in error
    out = images.parent / "out"
    assert {p.name for p in out.glob("*.nii.gz")} == {"a.nii.gz"}
    assert set(reports(out)) == {"a"}
    assert summary(out)["cases"] == 1


def test_files_that_are_no_images_are_left_out_and_named(images, caplog):
    for name in ("a_seg.nii.gz", "._a_0000.nii.gz", "x.nii.gz", "._.nii.gz"):
        (images / name).write_bytes(b"not to be read")
    assert call(images) == 0
    assert {p.name for p in (images.parent / "out").glob("*.nii.gz")} == {"a.nii.gz", "b.nii.gz"}
    assert "so left out: ._.nii.gz, ._a_0000.nii.gz, a_seg.nii.gz, x.nii.gz" in caplog.text


def test_the_output_is_no_input(images, capsys):
    assert call(images, out=images) == 2
    assert "-o names the folder of the images" in capsys.readouterr().err
    assert all(path.name.endswith(".nii.gz") for path in images.iterdir())


def test_others_files_beside_the_reports_and_a_case_named_summary(images, caplog):
    for path in images.glob("b_*"):
        path.rename(path.with_name(path.name.replace("b_", "summary_")))
    folder = images.parent / "out" / "cascade"
    folder.mkdir(parents=True)
    (folder / "mine.json").write_text('["not a report"]')
    (folder / "half.json").write_text('{"case": ')
    assert call(images) == 0
    assert "so left out of the summary: half.json, mine.json" in caplog.text
    assert summary(images.parent / "out")["cases"] == 2
    assert json.loads((folder / "summary.json").read_text())["case"] == "summary"


def test_an_output_that_is_a_file(images, capsys):
    (images.parent / "out").write_text("mine")
    assert call(images) == 2
    assert "-o names a folder" in capsys.readouterr().err
    assert (images.parent / "out").read_text() == "mine"


def test_no_gpu(images, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert call(images, **{"-device": "cuda"}) == 2
    assert "give -device cpu" in capsys.readouterr().err


def test_without_results(images, capsys, monkeypatch):
    monkeypatch.delenv("nnUNet_results")
    assert call(images) == 2
    assert "nnUNet_results is not set" in capsys.readouterr().err
