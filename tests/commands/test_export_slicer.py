"""Files for 3D Slicer, read back by slicerio and SimpleITK."""

import numpy as np
import pytest
import SimpleITK
import slicerio

from nnunet_ext.cli import main
from tests.evaluation.files import save, tumour

TURNED = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


@pytest.fixture
def prediction(tmp_path):
    image = {"spacing": (1.0, 2.0, 3.0), "origin": (-5.0, 7.0, 11.0), "direction": TURNED}
    save(tmp_path / "given/BraTS2021_00001.nii.gz", tumour(enhancing=4), **image)
    return tmp_path / "given"


def export(folder, *options):
    return main(["export-slicer", str(folder), "-o", str(folder.parent / "out"), *options])


def test_names_colours_and_voxels(prediction):
    assert export(prediction) == 0
    path = prediction.parent / "out/BraTS2021_00001.seg.nrrd"
    found = slicerio.read_segmentation(str(path))
    assert slicerio.segment_names(found) == ["Necrotic tumor core (NCR)", "Edema (ED)", "Enhancing tumor (ET)"]
    assert [(s["labelValue"], s["color"]) for s in found["segments"]] == [
        (1, [1, 0, 0]),
        (2, [0, 1, 0]),
        (4, [1, 1, 0]),
    ]
    assert np.array_equal(found["voxels"].T, tumour(enhancing=4))
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_place_is_the_images(prediction):
    assert export(prediction) == 0
    given = SimpleITK.ReadImage(str(prediction / "BraTS2021_00001.nii.gz"))
    written = SimpleITK.ReadImage(str(prediction.parent / "out/BraTS2021_00001.seg.nrrd"))
    assert np.array_equal(SimpleITK.GetArrayFromImage(written), SimpleITK.GetArrayFromImage(given))
    for index in ((0, 0, 0), (3, 5, 7), (15, 13, 11)):
        theirs = given.TransformIndexToPhysicalPoint(index)
        assert written.TransformIndexToPhysicalPoint(index) == pytest.approx(theirs, abs=1e-4)


def test_what_is_there_is_left_out(prediction):
    assert export(prediction) == 0
    path = prediction.parent / "out/BraTS2021_00001.seg.nrrd"
    path.write_bytes(b"mine")
    assert export(prediction) == 0
    assert path.read_bytes() == b"mine"
    assert export(prediction, "--overwrite") == 0
    assert path.read_bytes() != b"mine"


def test_bad_input(prediction, capsys):
    save(prediction / "BraTS2021_00002.nii.gz", tumour(enhancing=7))
    (prediction / "BraTS2021_00003.nii.gz").write_bytes(b"nothing")
    assert export(prediction, "--edition", "2021") == 1
    told = capsys.readouterr().out
    assert "BraTS2021_00002 has the label 7" in told
    assert "BraTS2021_00003.nii.gz cannot be read" in told
    assert "1 of 3 cases" in told
    assert len(list((prediction.parent / "out").iterdir())) == 1
    assert export(prediction.parent / "nowhere") == 2
    assert "does not exist" in capsys.readouterr().err


def test_labels_that_may_be_two_things(tmp_path, capsys):
    save(tmp_path / "given/a.nii.gz", tumour())
    assert export(tmp_path / "given") == 2
    assert "--edition" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
