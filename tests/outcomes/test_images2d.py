"""Datasets of plain images: what is written, what nnU-Net makes of it, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nnunet_ext.cli import main
from nnunet_ext.outcomes.pixels import stand_in
from nnunet_ext.outcomes.targets import load_targets
from tests.outcomes.pictures import picture


def run(folder: Path, *options: str) -> int:
    return main(["targets", "-d", "601", "--images", str(folder), "--name", "Photos", *options])


def dataset(roots: Path) -> Path:
    return roots / "raw" / "Dataset601_Photos"


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_folders_of_classes(photos, roots, capsys):
    assert run(photos, "--levels", "ok", "defect", "--folds", "3") == 0
    raw, targets = dataset(roots), load_targets(dataset(roots))
    assert targets.columns["class"].levels == ("ok", "defect")
    assert [*targets.rows] == [*(f"defect_deep-im{i}" for i in range(6)), *(f"ok_im-{i}" for i in range(6))]
    assert targets.encoded("class", "defect_deep-im0") == 1
    np.testing.assert_array_equal(read(raw / "imagesTr" / "ok_im-2_0000.png"), read(photos / "ok" / "im 2.png"))
    np.testing.assert_array_equal(read(raw / "labelsTr" / "ok_im-2.png"), np.ones((12, 10)))
    assert json.loads((raw / "dataset.json").read_text()) == {
        "name": "Dataset601_Photos",
        "channel_names": {"0": "rgb_to_0_1", "1": "rgb_to_0_1", "2": "rgb_to_0_1"},
        "labels": {"background": 0, "image": 1},
        "numTraining": 12,
        "file_ending": ".png",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
    }
    assert load_targets(roots / "preprocessed" / "Dataset601_Photos") == targets
    out = capsys.readouterr().out
    assert "1 files are no images and left out, such as" in out
    assert "The positive class is defect, the second of ok, defect; --levels decides." in out
    assert "class   class  12     0        ok 6, defect 6" in out
    assert sorted(path.name for path in raw.parent.iterdir()) == ["Dataset601_Photos"]
    assert run(photos) == 2
    assert "is there already; remove it" in capsys.readouterr().err


def test_a_table_of_pairs(pairs, roots):
    assert run(pairs, "--folds", "3", "--size", "6", "8") == 0
    raw, targets = dataset(roots), load_targets(dataset(roots))
    assert targets.schema.inputs == {"frontal": (0, 1, 2), "lateral": (3, 4, 5)}
    assert targets.test_cases == ("c6", "c7")
    assert sorted(path.name for path in (raw / "imagesTs").iterdir()) == [
        f"c{i}_000{j}.png" for i in (6, 7) for j in (0, 1)
    ]
    assert len(list((raw / "labelsTr").iterdir())) == 6
    assert read(raw / "imagesTr" / "c0_0001.png").shape == (6, 8, 3)
    assert json.loads((raw / "dataset.json").read_text())["image_size"] == [6, 8]
    assert list(targets.rows["c3"]) == ["set", "patient", "value", "age"]
    from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO

    images, _ = NaturalImage2DIO().read_images([str(raw / "imagesTr" / f"c0_000{j}.png") for j in (0, 1)])
    assert images.shape == (6, 1, 6, 8)
    resized = np.asarray(Image.open(pairs / "l" / "0.png").resize((8, 6), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(images[3:, 0], resized.transpose(2, 0, 1))


def test_one_input_of_a_table_makes_a_dataset_with_the_same_folds(pairs, roots):
    assert run(pairs, "--folds", "3") == 0
    assert (
        main(["targets", "-d", "602", "--images", str(pairs), "--name", "One", "--folds", "3", "--only", "lateral"])
        == 0
    )
    both, one = dataset(roots), roots / "raw" / "Dataset602_One"
    targets = load_targets(one)
    assert targets.schema.inputs == {"lateral": (0, 1, 2)}
    assert targets.rows == load_targets(both).rows
    np.testing.assert_array_equal(read(one / "imagesTr" / "c0_0000.png"), read(both / "imagesTr" / "c0_0001.png"))
    assert not list(one.rglob("*_0001.png"))
    splits = [(roots / "preprocessed" / raw.name / "splits_final.json").read_text() for raw in (both, one)]
    assert splits[0] == splits[1]


@pytest.mark.parametrize(
    ("shape", "dtype", "names"),
    [
        ((12, 10), np.uint8, ["rgb_to_0_1"]),
        ((12, 10), np.uint16, ["grey"]),
        ((12, 10, 4), np.uint8, ["rgb_to_0_1"] * 3),
    ],
)
def test_kinds_of_images(shape, dtype, names, roots):
    made = {
        name: picture(roots / "photos" / name[0] / f"{name}.png", i, shape, dtype)
        for i, name in enumerate(["a0", "a1", "b0", "b1"])
    }
    assert run(roots / "photos", "--folds", "2") == 0
    assert list(json.loads((dataset(roots) / "dataset.json").read_text())["channel_names"].values()) == names
    written = read(dataset(roots) / "imagesTr" / "a_a0_0000.png")
    np.testing.assert_array_equal(written, made["a0"][..., :3] if len(shape) == 3 else made["a0"])
    assert written.dtype == dtype


def test_a_photograph_lies_as_its_camera_noted(roots):
    for name in ("a0", "a1", "b0", "b1"):
        pixels = picture(roots / "photos" / name[0] / f"{name}.png", 2 * ord(name[0]) + int(name[1]))
        image, exif = Image.fromarray(pixels), Image.Exif()
        exif[0x0112] = 6  # turned by 90 degrees
        image.save(roots / "photos" / name[0] / f"{name}.png", exif=exif)
    assert run(roots / "photos", "--folds", "2") == 0
    np.testing.assert_array_equal(read(dataset(roots) / "imagesTr" / "b_b1_0000.png"), np.rot90(pixels, -1))


def test_equal_images_are_never_parted(photos, roots, capsys):
    for i in range(3):
        Image.open(photos / "ok" / f"im {i}.png").save(photos / "ok" / f"copy{i}.png")
    assert run(photos, "--folds", "3") == 0
    targets = load_targets(dataset(roots))
    assert targets.schema.groups == ("same_image",)
    assert targets.groups["ok_im-1"] == targets.groups["ok_copy1"] != targets.groups["ok_im-3"]
    assert "3 cases share an image with another" in capsys.readouterr().out
    for split in json.loads((roots / "preprocessed" / "Dataset601_Photos" / "splits_final.json").read_text()):
        assert all((f"ok_im-{i}" in split["val"]) == (f"ok_copy{i}" in split["val"]) for i in range(3))


def test_the_box_of_what_is_not_zero():
    inside = np.zeros((5, 6), bool)
    inside[1, 2] = inside[3, 4] = True
    expected = np.zeros((5, 6))
    expected[1:4, 2:5] = 1
    np.testing.assert_array_equal(stand_in(inside, "box"), expected)
    np.testing.assert_array_equal(stand_in(inside, "image"), np.ones((5, 6)))
    np.testing.assert_array_equal(stand_in(np.array([[[False, True]]]), "box"), [[[0, 1]]])


def test_the_box_stands_in(photos, roots):
    for path in photos.rglob("*.*g"):
        pixels = np.zeros((12, 10, 3), np.uint8)
        if path.name[0] != ".":
            pixels[4:9, 2, 0], pixels[5, 3, 2] = 1, int(path.stem[-1]) + 1
            Image.fromarray(pixels).save(path)
    assert run(photos, "--stand-in", "box", "--folds", "2") == 0
    mask = read(dataset(roots) / "labelsTr" / "ok_im-0.png")
    assert mask.sum() == 10
    assert mask[4:9, 2:4].all()


def nifti(raw: Path, labels: bool = False) -> np.ndarray:
    """A raw 3D dataset of six cases without segmentations, and the image of the first."""
    import SimpleITK

    (raw / "imagesTr").mkdir(parents=True)
    for i in range(6):
        voxels = np.zeros((5, 6, 7), np.float32)
        voxels[1:4, 2, 3:6] = i - 2.5
        image = SimpleITK.GetImageFromArray(voxels)
        image.SetSpacing((1, 2, 3))
        SimpleITK.WriteImage(image, str(raw / "imagesTr" / f"c{i}_0000.nii.gz"))
    rows = "".join(f"c{i},{'ab'[i % 2]}\n" for i in range(6))
    (raw / "targets.csv").write_text("case,grade\n" + rows)
    (raw / "targets.json").write_text(json.dumps({"columns": {"grade": {"kind": "class", "levels": ["a", "b"]}}}))
    content = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "x": [1]}, "numTraining": 6}
    (raw / "dataset.json").write_text(
        json.dumps({**content, "file_ending": ".nii.gz", "regions_class_order": [1], "edition": "x"})
    )
    if labels:
        (raw / "labelsTr").mkdir()
    return voxels != 0


def test_a_volume_without_a_segmentation_gets_a_stand_in(roots, capsys):
    import SimpleITK

    inside = nifti(dataset(roots))
    assert main(["targets", "-d", "601", "--folds", "3"]) == 2
    assert "has no labelsTr, without which nnU-Net preprocesses nothing; give --stand-in" in capsys.readouterr().err
    assert main(["targets", "-d", "601", "--folds", "3", "--stand-in", "box"]) == 0
    label = SimpleITK.ReadImage(str(dataset(roots) / "labelsTr" / "c4.nii.gz"))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(label), inside)  # it is a box itself
    assert label.GetSpacing() == (1, 2, 3)
    assert len(list((dataset(roots) / "labelsTr").iterdir())) == 6
    found = json.loads((dataset(roots) / "dataset.json").read_text())
    assert found["labels"] == {"background": 0, "image": 1}
    assert "regions_class_order" not in found
    assert found["edition"] == "x"


def test_segmentations_are_never_replaced(roots, capsys):
    nifti(dataset(roots), labels=True)
    assert main(["targets", "-d", "601", "--folds", "3", "--stand-in", "box"]) == 2
    assert "has segmentations; leave it out" in capsys.readouterr().err


def test_a_volume_that_cannot_be_read_leaves_no_stand_in(roots, capsys):
    nifti(dataset(roots))
    (dataset(roots) / "imagesTr" / "c5_0000.nii.gz").write_bytes(b"x")
    assert main(["targets", "-d", "601", "--folds", "3", "--stand-in", "image"]) == 2
    assert "c5_0000.nii.gz or another channel of it cannot be read" in capsys.readouterr().err
    assert sorted(path.name for path in dataset(roots).iterdir()) == [
        "dataset.json",
        "imagesTr",
        "targets.csv",
        "targets.json",
    ]


def inputs(folder: Path, out: Path) -> int:
    return main(["targets", "-d", "601", "--images", str(folder), "--input", str(out)])


def test_images_to_be_predicted_are_written_as_those_of_the_dataset(photos, roots):
    assert run(photos, "--size", "6", "8") == 0
    new = roots / "new"
    grey = picture(new / "a b.jpeg", 5, (30, 20))
    picture(new / "deep" / "c.png", 6)
    assert inputs(new, roots / "out") == 0
    assert sorted(path.name for path in (roots / "out").iterdir()) == ["a-b_0000.png", "deep-c_0000.png"]
    found = read(roots / "out" / "a-b_0000.png")
    assert found.shape == (6, 8, 3)
    assert (found[..., 0] == found[..., 2]).all()
    assert grey.shape == (30, 20)
    same = read(dataset(roots) / "imagesTr" / "ok_im-1_0000.png")
    (roots / "again").mkdir()
    assert inputs(photos / "ok", roots / "again") == 0  # an empty folder will do
    np.testing.assert_array_equal(read(roots / "again" / "im-1_0000.png"), same)


def test_pairs_to_be_predicted_need_their_table(pairs, roots, capsys):
    assert run(pairs, "--folds", "3") == 0
    (pairs / "targets.json").unlink()
    assert inputs(pairs, roots / "out") == 0
    for name in ("c6_0000.png", "c6_0001.png"):
        assert (roots / "out" / name).read_bytes() == (dataset(roots) / "imagesTs" / name).read_bytes()
    assert inputs(pairs, roots / "out") == 2
    assert "is no empty folder" in capsys.readouterr().err
    (pairs / "targets.csv").unlink()
    assert inputs(pairs, roots / "other") == 2
    assert "a case has the images frontal, lateral; write one" in capsys.readouterr().err


@pytest.mark.parametrize(("shape", "dtype"), [((12, 10, 3), np.uint8), ((12, 10), np.uint16)])
def test_images_of_another_kind_are_not_predicted(shape, dtype, roots, capsys):
    for i, name in enumerate(["a0", "a1", "b0", "b1"]):
        picture(roots / "photos" / name[0] / f"{name}.png", i, (12, 10))
    assert run(roots / "photos", "--folds", "2") == 0
    picture(roots / "new" / "x.png", 0, shape, dtype)
    assert inputs(roots / "new", roots / "out") == 2
    assert "x.png is of another kind" in capsys.readouterr().err
    assert not (roots / "out").exists()


def test_no_image_to_be_predicted(photos, roots, capsys):
    assert run(photos) == 0
    (roots / "new").mkdir()
    assert inputs(roots / "new", roots / "out") == 2
    assert "has no image" in capsys.readouterr().err
    nifti(roots / "raw" / "Dataset602_Volumes", labels=True)
    assert main(["targets", "-d", "602", "--images", str(photos), "--input", str(roots / "out")]) == 2
    assert "is no dataset of plain images" in capsys.readouterr().err


def test_what_a_killed_run_left_is_swept(photos, roots):
    left = roots / "raw" / ".Dataset601_Photos.partial"
    left.mkdir(parents=True)
    (left / "x").touch()
    assert run(photos) == 0
    assert not left.exists()
    assert not (dataset(roots) / "x").exists()


def test_a_number_that_is_taken(photos, roots, capsys):
    (roots / "results" / "Dataset601_Other").mkdir(parents=True)
    assert run(photos) == 2
    assert "The number 601 is taken by" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"), [("--name", "X"), ("--size", "3"), ("--levels", "a"), ("--input", "x"), ("--only", "x")]
)
def test_options_of_images_without_images(option, value, roots, capsys):
    values = [value, value] if option == "--size" else [value]
    assert main(["targets", "-d", "601", option, *values]) == 2
    assert f"{option} is for --images FOLDER" in capsys.readouterr().err


def test_nnunet_plans_and_preprocesses_it(photos, roots):
    """The parts of nnUNetv2_plan_and_preprocess -d 601 -c 2d --verify_dataset_integrity, without its processes."""
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
    from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments
    from nnunetv2.experiment_planning.verify_dataset_integrity import check_cases
    from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    assert run(photos, "--folds", "3") == 0
    raw, folder = dataset(roots), roots / "preprocessed" / "Dataset601_Photos"
    image, label = str(raw / "imagesTr" / "ok_im-3_0000.png"), str(raw / "labelsTr" / "ok_im-3.png")
    assert check_cases([image], label, 3, NaturalImage2DIO)
    shape, spacing, *_ = DatasetFingerprintExtractor.analyze_case([image], label, NaturalImage2DIO, 10)
    fingerprint = {
        "spacings": [spacing] * 12,
        "shapes_after_crop": [shape] * 12,
        "foreground_intensity_properties_per_channel": {str(i): {} for i in range(3)},
        "median_relative_size_after_cropping": 1,
    }
    (folder / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    plan_experiments([601])
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    assert set(plans["configurations"]) == {"2d"}
    assert plans["configurations"]["2d"]["normalization_schemes"] == ["RGBTo01Normalization"] * 3
    assert len(json.loads((folder / "splits_final.json").read_text())) == 3
    manager = PlansManager(plans)
    data, seg, _ = DefaultPreprocessor(verbose=False).run_case(
        [image], label, manager, manager.get_configuration("2d"), str(folder / "dataset.json")
    )
    np.testing.assert_allclose(data[:, 0], read(photos / "ok" / "im 3.png").transpose(2, 0, 1) / 255, atol=1e-6)
    assert set(np.unique(seg)) == {1}
