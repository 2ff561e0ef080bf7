"""What a cascade refuses, and what it allows but says."""

import json
import logging
import re
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from nnunet_ext.cascade.predictor import nnUNetCascadePredictor
from tests.cascade import models
from tests.cascade.models import mask, predictor, volume

SHAPE = (40, 36, 44)
TUMOR = ((10, 16), (12, 20), (5, 9))


def refusal(segmentation, detector, **options):
    with pytest.raises(ValueError, match=r"\.") as refused:
        predictor(segmentation, detector, **options)
    return str(refused.value)


def test_a_detector_that_gives_nan(folders):
    made = predictor(*folders)
    for weights in made.detector.list_of_parameters:
        weights.update({k: v * torch.nan for k, v in weights.items() if v.is_floating_point()})
    with pytest.raises(ValueError, match=r"ROIMobileUNETR3D_Tiny gives NaN or infinite values for the image"):
        made.predict_logits_from_preprocessed_data(volume(SHAPE))


def test_folds_in_nnunets_other_forms(folders, tmp_path):
    made = predictor(*folders, folds=None)
    assert len(made.list_of_parameters) == 2
    everything = models.write(tmp_path, models.SEGMENTATION, "3d_fullres", folds=("all",))
    assert len(predictor(everything, folders[1], folds="all").list_of_parameters) == 1
    assert "has no checkpoint_final.pth; those with it: all" in refusal(everything, folders[1], folds=None)


@pytest.mark.skipif(not Path("/proc/self/io").is_file(), reason="needs Linux")
def test_the_optimisers_state_is_not_read(folders, tmp_path):
    """What is read of a checkpoint by system calls, and by pages of a file that is mapped."""
    folder = models.write(tmp_path, models.SEGMENTATION, "3d_fullres")
    path = folder / "fold_0" / "checkpoint_final.pth"
    small = path.stat().st_size
    saved = torch.load(path, weights_only=False)
    torch.save({**saved, "optimizer_state": {"momentum": torch.zeros(2**24)}}, path)  # 64 MiB
    pages, calls = resource.getrusage(resource.RUSAGE_SELF), calls_read()
    made = predictor(folder, folders[1])
    assert calls_read() - calls < 2**23 > small
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - pages.ru_maxrss < 2**15  # KiB
    kept = {t.untyped_storage().nbytes() for t in made.list_of_parameters[0].values()}
    assert max(kept) < small, "tensors of their own, off the mapped file"


def calls_read():
    """Bytes that this process has read by system calls."""
    return int(re.search(r"rchar: (\d+)", Path("/proc/self/io").read_text())[1])


def test_a_checkpoint_that_is_cut_short(folders, tmp_path):
    folder = models.write(tmp_path, models.SEGMENTATION, "3d_fullres")
    path = folder / "fold_0" / "checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:-100])
    assert "checkpoint_final.pth is no checkpoint that torch saved, or is cut short" in refusal(folder, folders[1])


def test_weights_that_read_other_coordinates(folders, tmp_path):
    """Before 0.2.0 they ran from -1 to 1; names and shapes of the weights are the same."""
    folder = models.write(tmp_path, models.SEGMENTATION, "3d_fullres")
    path = folder / "fold_0" / "checkpoint_final.pth"
    saved = torch.load(path, weights_only=False)
    saved["network_weights"]._metadata[""]["version"] = 1
    torch.save(saved, path)
    assert "reads coordinates of a version before 0.2.0" in refusal(folder, folders[1])
    plain = models.write(tmp_path / "plain", models.PLAIN, "3d_fullres")  # without coordinates nothing has changed
    predictor(plain, folders[1])


def test_datasets_of_nnunets_older_key(folders, tmp_path):
    """``modality`` in place of ``channel_names``, which nnU-Net reads first."""
    both = [tmp_path / "results" / folder.parent.name / folder.name for folder in folders]
    shutil.copytree(folders[0].parent, both[0].parent)
    for folder in both:
        described = json.loads((folder / "dataset.json").read_text())
        described["modality"] = described.pop("channel_names")
        (folder / "dataset.json").write_text(json.dumps(described))
    made = predictor(*both, roi=mask(SHAPE, TUMOR))
    assert made.predict_logits_from_preprocessed_data(volume(SHAPE)).shape == (3, *SHAPE)
    with pytest.raises(ValueError, match="3 channels; expected are 4, in this order: T1, T1ce, T2, FLAIR"):
        made.predict_logits_from_preprocessed_data(volume(SHAPE)[1:])


def test_without_a_detector(folders):
    made = nnUNetCascadePredictor(device=models.CPU)
    made.initialize_from_trained_model_folder(str(folders[0]), (0,))
    with pytest.raises(ValueError, match="There is no detector"):
        made.predict_logits_from_preprocessed_data(volume(SHAPE))


def test_a_detector_of_another_dataset(folders, tmp_path):
    other = models.write(tmp_path, models.DETECTOR, "3d_roi", changes={"dataset_name": "Dataset502_Other"})
    assert "train a detector on Dataset999_Tiny" in refusal(folders[0], other)


def test_a_detector_of_other_plans(folders, tmp_path):
    changes = {"transpose_forward": [1, 0, 2], "transpose_backward": [1, 0, 2]}
    other = models.write(tmp_path, models.DETECTOR, "3d_roi", changes=changes)
    assert "differ in transpose_forward" in refusal(folders[0], other)


def test_missing_folds_and_models(folders, tmp_path):
    assert "for fold 3; those with it: 0 1" in refusal(*folders, folds=(0, 3))
    assert "nothing is trained there" in refusal(tmp_path / "Nobody__nnUNetPlans__3d_fullres", folders[1])
    assert models.DETECTOR in refusal(folders[0].parent / "Nobody__nnUNetPlans__3d_fullres", folders[1])
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "has no dataset.json" in refusal(empty, folders[1])


def test_an_impossible_crop(folders):
    assert "--crop_size 20 16 24" in refusal(*folders, crop_size=(18, 16, 23))


def test_a_family_of_one_input_size(folders, monkeypatch):
    from dataclasses import replace

    from nnunet_ext.cascade import checks

    parsed = checks.parse(models.SEGMENTATION)
    fixed = replace(parsed, spec=replace(parsed.spec, input_size=(16, 16, 16)))
    monkeypatch.setattr(checks, "parse", lambda name: fixed)
    assert "reads images of 16x16x16 voxels only" in refusal(*folders, crop_size=(32, 32, 32))


def test_a_segmentation_model_without_coordinates_is_allowed_and_said(tmp_path, folders, caplog):
    segmentation = models.write(tmp_path, models.PLAIN, "3d_fullres")
    with caplog.at_level(logging.WARNING):
        made = predictor(segmentation, folders[1], roi=mask(SHAPE, TUMOR))
    assert "reads no coordinates" in caplog.text
    logits = made.predict_logits_from_preprocessed_data(volume(SHAPE, coordinates=False))
    assert logits.shape == (3, *SHAPE)


def test_a_wrong_number_of_channels(folders):
    made = predictor(*folders, roi=mask(SHAPE, TUMOR))
    with pytest.raises(ValueError, match="3 channels; expected are 4, in this order: T1, T1ce, T2, FLAIR"):
        made.predict_logits_from_preprocessed_data(volume(SHAPE)[1:])
    with pytest.raises(ValueError, match="5 channels; expected are 4"):
        made.predict_logits_from_preprocessed_data(torch.cat([volume(SHAPE)[:1], volume(SHAPE)]))
    with pytest.raises(ValueError, match="5 channels; expected are 4"):
        made.predict_single_npy_array(np.ones((5, *SHAPE), np.float32), {"spacing": [1, 1, 1]})
    with pytest.raises(ValueError, match="2 channels; expected are 4"):
        made.predict_from_list_of_npy_arrays([np.ones((2, *SHAPE), np.float32)], None, [{"spacing": [1, 1, 1]}], None)
