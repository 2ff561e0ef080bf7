"""``nnunet_ext gradcam``: files in the image's space, pictures, going on, and what it refuses."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch

from nnunet_ext.cli import main
from nnunet_ext.explain import gradcam, nifti
from tests.cascade import models
from tests.explain.models import write_cases

REGIONS = ("whole_tumor", "tumor_core", "enhancing_tumor")
AFFINE = np.diag([-2.0, 1.5, 1.0, 1.0]) + np.array([[0, 0, 0, 30.0], [0] * 4, [0, 0, 0, -5.0], [0] * 4])


def command(model, images, out, *further):
    words = ["gradcam", "-m", model, "-i", images, "-o", out, "-device", "cpu", *further]
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two cases, one with large voxels of another orientation."""
    root = tmp_path_factory.mktemp("cases")
    folder, _ = write_cases(root, "first")
    models.write_case(folder, "second", shape=(20, 12, 10), affine=AFFINE)
    return folder


@pytest.fixture(scope="module")
def made(folders, images, tmp_path_factory):
    out = tmp_path_factory.mktemp("gradcam")
    assert command(folders("DualBranchStride_XS") / "fold_0", images, out, "--voxels", "all") == 0
    return out


def test_there_is_a_map_for_each_case_class_and_branch_in_the_images_space(made, images):
    wanted = {f"{c}__{r}__{b}.nii.gz" for c in ("first", "second") for r in REGIONS for b in ("t1ce", "flair")}
    assert {path.name for path in made.glob("*.nii.gz")} == wanted
    for name in wanted:
        image = nib.load(images / f"{name.partition('__')[0]}_0000.nii.gz")
        map_ = nib.load(made / name)
        assert map_.shape == image.shape
        np.testing.assert_allclose(map_.affine, image.affine, atol=1e-5)
        values = np.asarray(map_.dataobj)
        assert np.isfinite(values).all()
        assert values.min() >= 0
        assert values.max() <= 1
        outside = np.asarray(image.dataobj) == 0
        assert outside.any()
        brain = np.argwhere(~outside)
        cropped = np.ones(values.shape, bool)
        cropped[tuple(slice(a, b + 1) for a, b in zip(brain.min(0), brain.max(0), strict=True))] = False
        assert not values[cropped].any()
    for case in ("first", "second"):
        for region in REGIONS:
            branches = [np.asarray(nib.load(path).dataobj) for path in made.glob(f"{case}__{region}__*.nii.gz")]
            assert max(b.max() for b in branches) == pytest.approx(1)
            assert (made / f"{case}__{region}.png").read_bytes().startswith(b"\x89PNG")
    assert not list(made.glob(".*"))


def test_the_summary_says_how_the_maps_were_made(made):
    summary = json.loads((made / "gradcam.json").read_text())
    assert summary["layers"] == {"t1ce": "encoder.branches.0.1", "flair": "encoder.branches.1.1"}
    assert summary["voxels"] == "all"
    assert summary["method"] == "hirescam"
    assert summary["trainer"] == "nnUNetTrainer_DualBranchStride_XS"
    assert len(summary["cases"]["first"]["files"]) == 9


def test_a_map_lies_on_its_image_voxel_by_voxel(tmp_path):
    models.write_case(tmp_path, shape=(20, 12, 10), affine=AFFINE)
    image = nib.load(tmp_path / "case_0000.nii.gz")
    nifti.write_map(
        np.asarray(image.dataobj).transpose(2, 1, 0), tmp_path / "case_0000.nii.gz", tmp_path / "map.nii.gz"
    )
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "map.nii.gz").dataobj), np.asarray(image.dataobj))


def test_finished_cases_are_left_alone(made, folders, images, tmp_path, monkeypatch, capsys):
    out = shutil.copytree(made, tmp_path / "out")
    count, inner = [], gradcam.gradcam
    monkeypatch.setattr(gradcam, "gradcam", lambda *of, **how: count.append(of) or inner(*of, **how))
    model = folders("DualBranchStride_XS")
    (out / "first__tumor_core__t1ce.nii.gz").unlink()
    assert command(model, images, out, "--voxels", "all") == 0
    assert len(count) == 1
    again, before = (nib.load(folder / "first__tumor_core__t1ce.nii.gz") for folder in (out, made))
    np.testing.assert_array_equal(np.asarray(again.dataobj), np.asarray(before.dataobj))
    assert command(model, images, out, "--voxels", "predicted") == 2
    assert "is of a run with another voxels; choose another -o" in capsys.readouterr().err
    assert command(model, images, out, "--voxels", "all", "--overwrite") == 0
    assert len(count) == 3


def test_a_class_that_is_predicted_nowhere_has_no_map_and_is_told(folders, images, tmp_path, capsys):
    model = shutil.copytree(folders("UNet3D_XS"), tmp_path / "nnUNetTrainer_UNet3D_XS__nnUNetPlans__3d_fullres")
    path = model / "fold_0" / "checkpoint_final.pth"
    saved = torch.load(path, weights_only=True)
    bias = next(k for k in saved["network_weights"] if k.endswith("seg_layers.1.bias"))
    saved["network_weights"][bias][1] = -100
    torch.save(saved, path)
    options = ["--class", "tumor core", "whole tumor", "--layer", "decoder.stages.1"]
    assert command(model, images, tmp_path / "out", *options) == 0
    told = capsys.readouterr().out
    assert "first: no voxel was predicted as tumor core." in told
    assert "2 maps of 2 cases" in told
    names = {"first__whole_tumor.nii.gz", "second__whole_tumor.nii.gz"}
    assert {p.name for p in (tmp_path / "out").glob("*.nii.gz")} == names
    assert command(model, images, tmp_path / "all", *options, "--voxels", "all") == 0
    assert len(list((tmp_path / "all").glob("*.nii.gz"))) == 4


def test_the_layers_are_listed_with_their_shapes(folders, capsys):
    assert main(["gradcam", "-m", str(folders("DualBranchStride_XS")), "-device", "cpu", "--layers"]) == 0
    rows = [
        line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(("layer", "encoder.branch"))
    ]
    assert rows[0] == ["layer", "channels", "size", "default"]
    assert ["encoder.branches.0.1", "16", "8x8x8", "*"] in rows
    assert ["encoder.branches.0.0", "8", "16x16x16"] in rows


def test_what_is_wrong_is_said_in_a_sentence(folders, images, tmp_path, capsys):
    model, out = folders("UNet3D_XS"), tmp_path / "out"
    two = folders("UNet3D_XS", folds=(0, 1))
    empty = shutil.copytree(model, tmp_path / "empty")
    shutil.rmtree(empty / "fold_0")
    lacking = shutil.copytree(images, tmp_path / "images")
    (lacking / "first_0003.nii.gz").unlink()
    for arguments, sentence in (
        (
            (model, images, out, "--layer", "encoder.trunk.7"),
            "no map at a layer 'encoder.trunk.7'; nearest: encoder.trunk",
        ),
        ((model, images, out, "--class", "tumour core"), "no class 'tumour core'; nearest: 'tumor core'"),
        ((two, images, out), "has the folds 0, 1 with checkpoint_final.pth; choose one with -f"),
        ((empty, images, out), "has no checkpoint_final.pth; no fold has it"),
        ((model, lacking, out), "first lacks first_0003.nii.gz (FLAIR)"),
        ((model, tmp_path / "no", out), "There is no folder"),
    ):
        assert command(*arguments) == 2
        error = capsys.readouterr().err
        assert sentence in error
        assert len(error.strip().splitlines()) == 1
    assert main(["gradcam", "-m", str(model), "-device", "cpu"]) == 2
    assert "-i and -o name the folders" in capsys.readouterr().err
    assert not out.exists()
    assert command(two, images, out, "-f", "1", "--class", "whole tumor") == 0


def test_grad_cam_is_refused_where_it_is_rounding_noise(folders, images, tmp_path, capsys):
    options = ["--voxels", "all", "--method", "gradcam"]
    assert command(folders("DualBranchStride_XS"), images, tmp_path / "out", *options) == 2
    assert "At encoder.branches.0.1 the mean of the gradients vanishes, since instance" in capsys.readouterr().err


def test_a_reader_that_turns_the_image_is_refused(folders, images, tmp_path, capsys):
    model = shutil.copytree(folders("UNet3D_XS"), tmp_path / "turned")
    plans = json.loads((model / "plans.json").read_text())
    (model / "plans.json").write_text(json.dumps({**plans, "image_reader_writer": "NibabelIOWithReorient"}))
    assert command(model, images, tmp_path / "out") == 2
    assert "read by nnU-Net's NibabelIOWithReorient; maps can be laid on images" in capsys.readouterr().err
