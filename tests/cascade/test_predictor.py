"""The cascade's logits against nnU-Net's own and against slow twins."""

import json
import logging
import weakref

import numpy as np
import pytest
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from scipy.ndimage import gaussian_filter

from nnunet_ext.cascade.predictor import nnUNetCascadePredictor
from nnunet_ext.cascade.settings import CascadeSettings
from nnunet_ext.trainers.building import network_builder
from tests.cascade import models
from tests.cascade.models import mask, predictor, volume

SHAPE, SMALL = (40, 36, 44), (24, 20, 20)
FULL = ((0, 40), (0, 36), (0, 44))
TUMOR = ((10, 16), (12, 20), (5, 9))
FAR = ((33, 40), (30, 36), (38, 44))  # at the volume's edge


def plain(segmentation, *, mirroring=False, folds=(0,)):
    """nnU-Net's predictor with its own reading of the model."""
    made = nnUNetPredictor(use_mirroring=mirroring, device=models.CPU, allow_tqdm=False)
    made.initialize_from_trained_model_folder(str(segmentation), folds)
    return made


@pytest.fixture(autouse=True)
def _hook(monkeypatch):
    from nnunet_ext.discovery import hook_folder

    monkeypatch.setenv("nnUNet_extTrainer", str(hook_folder()))


class Counted:
    """Counts the crops, and how often nnU-Net's own positions are asked for."""

    def __init__(self, monkeypatch):
        self.own, self.crops = 0, []
        slicers = nnUNetPredictor._internal_get_sliding_window_slicers
        predict = nnUNetPredictor._internal_predict_sliding_window_return_logits

        def own(made, size):
            self.own += 1
            return slicers(made, size)

        def crops(made, data, slicers, do_on_device=True):
            self.crops.append(len(slicers))
            return predict(made, data, slicers, do_on_device)

        monkeypatch.setattr(nnUNetPredictor, "_internal_get_sliding_window_slicers", own)
        monkeypatch.setattr(nnUNetPredictor, "_internal_predict_sliding_window_return_logits", crops)


@pytest.mark.parametrize(
    ("shape", "count"), [(SMALL, 8), ((9, 36, 16), 4), ((9, 10, 11), 1)], ids=["tiled", "padded", "one tile"]
)
@pytest.mark.parametrize(("mirroring", "folds"), [(False, (0,)), (True, (0, 1))], ids=["plain", "mirrored, two folds"])
def test_a_roi_that_fills_the_volume_is_nnunets_prediction_bit_for_bit(
    folders, monkeypatch, shape, count, mirroring, folds
):
    if mirroring and shape == SMALL:
        shape, count = (20, 16, 20), 4
    expected = plain(folders[0], mirroring=mirroring, folds=folds).predict_logits_from_preprocessed_data(volume(shape))
    options = {"roi": np.ones(shape, bool), "mirroring": mirroring, "folds": folds, "merge": "gaussian"}
    made = predictor(*folders, **options)
    seen = Counted(monkeypatch)
    found = made.predict_logits_from_preprocessed_data(volume(shape))
    assert torch.equal(found, expected)
    assert (seen.own, seen.crops) == (0, [count] * len(folds))
    assert made.reports[0].facts["crops"] == count


@pytest.mark.parametrize("crop", [(16, 16, 16), (24, 16, 32)], ids=str)
def test_max_is_the_maximum_of_single_tiles(folders, crop):
    """The twin: each crop through the network by hand, the largest logit of each voxel kept."""
    roi = mask(SHAPE, ((3, 30), (5, 30), (8, 40)), FAR)
    made = predictor(*folders, roi=roi, crop_size=crop)
    found = made.predict_logits_from_preprocessed_data(volume(SHAPE))
    network = plain(folders[0]).network.eval()
    expected = torch.full((3, *SHAPE), -torch.inf)
    for ends in made.reports[0].facts["crop_boxes"]:
        box = (slice(None), *(slice(*e) for e in ends))
        with torch.no_grad():
            tile = network(volume(SHAPE)[box][None])[0]
        expected[box] = torch.maximum(expected[box], tile)
    inside = expected.isfinite()
    torch.testing.assert_close(found[inside], expected[inside], rtol=1e-4, atol=1e-4)
    assert inside[:, roi].all()
    assert torch.equal(found[~inside], torch.full_like(found[~inside], made.background_logits()[0]))


def test_outside_the_crops_is_background_and_resampling_keeps_it_there(folders):
    made = predictor(*folders, roi=mask(SHAPE, TUMOR))
    logits = made.predict_logits_from_preprocessed_data(volume(SHAPE))
    (ends,) = made.reports[0].facts["crop_boxes"]
    outside = torch.ones(SHAPE, dtype=torch.bool)
    outside[tuple(slice(*e) for e in ends)] = False
    assert logits.isfinite().all()
    assert (torch.sigmoid(logits.float())[:, outside] < 1e-4).all()
    # twice as fine: a voxel one away from the crop's faces is what the crop alone, with its edge repeated, gives
    resample = made.configuration_manager.resampling_fn_probabilities
    fine = resample(logits.float(), [2 * n for n in SHAPE], [1, 1, 1], [0.5, 0.5, 0.5])
    crop = logits.float()[(slice(None), *(slice(*e) for e in ends))]
    alone = resample(crop, [32] * 3, [1, 1, 1], [0.5, 0.5, 0.5])
    inner = (slice(None), *(slice(2 * a + 1, 2 * b - 1) for a, b in ends))
    np.testing.assert_allclose(fine[inner], alone[:, 1:-1, 1:-1, 1:-1], atol=1e-5)


def test_far_tumours_and_one_at_the_edge_are_both_segmented(folders):
    made = predictor(*folders, roi=mask(SHAPE, TUMOR, FAR))
    logits = made.predict_logits_from_preprocessed_data(volume(SHAPE))
    background = made.background_logits()[0]
    for ends in (TUMOR, FAR):
        box = (slice(None), *(slice(*e) for e in ends))
        assert (logits[box] != np.float32(background)).all()
    assert made.reports[0].facts["crops"] == 2


def test_nothing_found_is_the_plain_sliding_window_and_says_so(folders, monkeypatch, caplog):
    expected = plain(folders[0]).predict_logits_from_preprocessed_data(volume(SMALL))
    made = predictor(*folders, roi=np.zeros(SMALL, bool), crop_size=(32, 32, 32))
    seen = Counted(monkeypatch)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(made.predict_logits_from_preprocessed_data(volume(SMALL)), expected)
    assert seen.own == 1
    facts = made.reports[0].facts
    assert (facts["crops"], facts["voxels_computed"]) == (0, facts["voxels_sliding_window"])
    assert "finds no tumour" in facts["fallback"]
    assert "finds no tumour" in caplog.text


def test_only_small_components_are_the_plain_sliding_window_too(folders):
    made = predictor(*folders, roi=mask(SMALL, TUMOR), min_component_ml=5)
    made.predict_logits_from_preprocessed_data(volume(SMALL))
    assert made.reports[0].facts["fallback"].endswith("are all smaller than min_component_ml")


def test_what_is_dropped_is_said(folders, caplog):
    made = predictor(*folders, roi=mask(SHAPE, TUMOR, FAR), max_components=1)
    with caplog.at_level(logging.WARNING):
        made.predict_logits_from_preprocessed_data(volume(SHAPE))
    assert "the image: 1 components, together 0.192 ml, get no crop: beyond max_components" in caplog.text
    kept, dropped = made.reports[0].facts["components"]
    assert (kept["crops"], dropped["dropped"]) == ([0], "beyond max_components")


def test_a_network_that_finds_nothing_gives_an_empty_mask(folders):
    made = predictor(*folders, roi=mask(SHAPE, TUMOR))
    with torch.no_grad():
        for key, value in made.list_of_parameters[0].items():
            if "seg_layers" in key:
                value.fill_(-20.0 if key.endswith("bias") else 0.0)
    logits = made.predict_logits_from_preprocessed_data(volume(SHAPE))
    assert not made.label_manager.convert_logits_to_segmentation(logits).any()


def test_a_crop_larger_than_the_volume_is_padded(folders):
    shape = (20, 12, 18)
    made = predictor(*folders, roi=np.ones(shape, bool), crop_size=(32, 32, 32))
    seen = []
    made.network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    found = made.predict_logits_from_preprocessed_data(volume(shape))
    padded, inner = pad_nd_image(volume(shape), (32, 32, 32), "constant", {"value": 0}, True)
    with torch.no_grad():
        expected = plain(folders[0]).network.eval()(padded[None])[0][(slice(None), *inner[1:])]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert made.reports[0].facts["crop_boxes"] == [[[-6, 26], [-10, 22], [-7, 25]]]
    (crop,) = seen
    where = crop[0, models.CHANNELS :]
    assert (where[(slice(None), *inner[1:])] >= 1).all(), "inside the volume"
    assert int((where != 0).sum()) == 3 * np.prod(shape), "outside, which differs from every place inside"


@pytest.mark.parametrize("regions", [True, False], ids=["regions", "labels"])
def test_probabilities_outside_for_regions_and_labels(tmp_path, regions):
    labels = None if regions else models.LABELS
    segmentation = models.write(tmp_path, models.SEGMENTATION, "3d_fullres", labels=labels)
    detector = models.write(tmp_path, models.DETECTOR, "3d_roi", labels=labels)
    made = predictor(segmentation, detector, roi=mask(SHAPE, TUMOR))
    logits = made.predict_logits_from_preprocessed_data(volume(SHAPE)).float()
    probabilities = made.label_manager.apply_inference_nonlin(logits)[:, 0, 0, 0]
    tumor = probabilities if regions else probabilities[1:].sum()
    assert (tumor < 1e-4).all()


def test_models_are_read_as_nnunet_reads_them(folders):
    ours, theirs = predictor(*folders, folds=(0, 1)), plain(folders[0], folds=(0, 1))
    assert str(ours.network) == str(theirs.network)
    for key, value in theirs.network.state_dict().items():
        assert torch.equal(ours.network.state_dict()[key], value)
    for one, other in zip(ours.list_of_parameters, theirs.list_of_parameters, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in other)
    for name in ("dataset_json", "trainer_name", "allowed_mirroring_axes"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert type(ours.configuration_manager) is type(theirs.configuration_manager)


def test_the_detector_sees_the_volume_as_its_own_preprocessing_would(folders):
    """Twin: the mask is nnU-Net's prediction with the detector alone, brought to the volume's size."""
    made = predictor(*folders)
    image = volume(SHAPE)[: models.CHANNELS]
    found = made.tumor_probability(volume(SHAPE))
    detector = plain(folders[1])
    plan = detector.configuration_manager
    small = torch.nn.functional.interpolate(image[None], plan.patch_size, mode="trilinear")[0]
    assert max(plan.spacing) == pytest.approx(44 / 16)
    sizes = [round(n / plan.spacing[0]) for n in SHAPE]
    small = torch.nn.functional.interpolate(image[None], sizes, mode="trilinear")[0]
    axes = [torch.linspace(1, 3, n) for n in sizes]
    small = torch.cat([small, torch.stack(torch.meshgrid(*axes, indexing="ij"))])
    made.detector.use_mirroring = detector.use_mirroring = False
    logits = detector.predict_logits_from_preprocessed_data(small)
    expected = torch.sigmoid(torch.nn.functional.interpolate(logits[None].float(), SHAPE, mode="trilinear"))[0, 0]
    torch.testing.assert_close(found.float(), expected, rtol=2e-3, atol=2e-3)


def test_max_with_mirroring_and_folds(folders):
    """The mean over the folds of each fold's maximum, each pass the mean over the mirrored forms."""
    shape = (20, 16, 16)
    made = predictor(*folders, roi=np.ones(shape, bool), mirroring=True, folds=(0, 1))
    found = made.predict_logits_from_preprocessed_data(volume(shape))
    stock = plain(folders[0], mirroring=True, folds=(0, 1))
    expected = torch.zeros(3, *shape)
    for weights in stock.list_of_parameters:
        stock.network.load_state_dict(weights)
        tiles = [stock._internal_maybe_mirror_and_predict(volume(shape)[None, :, a : a + 16])[0] for a in (0, 4)]
        expected[:, :4] += tiles[0][:, :4]
        expected[:, 4:16] += torch.maximum(tiles[0][:, 4:], tiles[1][:, :12])
        expected[:, 16:] += tiles[1][:, 12:]
    torch.testing.assert_close(found.float(), expected / 2, rtol=5e-3, atol=5e-3)
    assert made.reports[0].facts["network_passes"] == 2 * 8 * 2


@pytest.mark.parametrize(
    ("merge", "factor"),
    [
        ("max", torch.nan),
        ("max", torch.inf),
        ("gaussian", torch.nan),
        ("gaussian", torch.inf),
        ("nothing found", torch.nan),
        ("nothing found", 1e9),  # more than nnU-Net's half precision holds
    ],
)
def test_logits_that_are_no_numbers_name_network_and_case(folders, merge, factor):
    """No RuntimeError, which nnU-Net takes for a full GPU."""
    roi = mask(SMALL, *[TUMOR] * (merge != "nothing found"))
    made = predictor(*folders, roi=roi, merge="max" if merge == "nothing found" else merge)
    made.case = "case 7"
    for weights in made.list_of_parameters:
        weights.update({k: v * factor for k, v in weights.items() if "seg_layers" in k})
    with pytest.raises(ValueError, match=f"{models.SEGMENTATION} gives NaN or infinite values for case 7"):
        made.predict_logits_from_preprocessed_data(volume(SMALL))


def test_gaussian_is_the_weighted_mean_in_double_precision(folders):
    """The twin: each crop through the network by hand, weights and sums in double precision."""
    made = predictor(*folders, roi=mask(SHAPE, ((3, 30), (5, 30), (8, 40)), FAR), merge="gaussian")
    found = made.predict_logits_from_preprocessed_data(volume(SHAPE))
    network = plain(folders[0]).network.eval()
    peak = np.zeros(models.PATCH)
    peak[tuple(n // 2 for n in models.PATCH)] = 1
    weights = torch.from_numpy(gaussian_filter(peak, [n / 8 for n in models.PATCH], mode="constant"))
    weights[weights == 0] = weights[weights > 0].min()
    total, weight = (torch.zeros(n, *SHAPE, dtype=torch.double) for n in (3, 1))
    for ends in made.reports[0].facts["crop_boxes"]:
        box = (slice(None), *(slice(*e) for e in ends))
        with torch.no_grad():
            total[box] += network(volume(SHAPE)[box][None])[0] * weights
        weight[box] += weights
    inside = (weight > 0).expand_as(total)
    difference = (found - total / weight)[inside].abs()
    assert difference.max() < 0.01
    assert difference.numel() > 3 * 16**3


def test_what_failed_leaves_nothing_in_the_memory_or_in_the_next_report(folders, monkeypatch):
    """nnU-Net tries again on the CPU while it handles the error, so the first attempt's arrays must be gone by then."""
    made = predictor(*folders, roi=mask(SHAPE, TUMOR))
    arrays, full = [], torch.full

    def watched(*size, **options):
        arrays.append(weakref.ref(made_array := full(*size, **options)))
        return made_array

    def fails(tile):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(torch, "full", watched)
    monkeypatch.setattr(made, "_internal_maybe_mirror_and_predict", fails)
    try:
        made.predict_logits_from_preprocessed_data(volume(SHAPE))
    except RuntimeError:
        assert arrays[0]() is None
    monkeypatch.undo()
    made.roi = np.zeros(SHAPE, bool)
    made.predict_logits_from_preprocessed_data(volume(SHAPE))
    assert made.reports[-1].facts["crops"] == 0
    assert made.reports[-1].facts["fallback"]


def test_a_detector_of_labels_in_place_of_regions(tmp_path):
    """One label alone: a softmax over background and tumour."""
    segmentation = models.write(tmp_path, models.SEGMENTATION, "3d_fullres", labels=models.ONE_LABEL)
    detector = models.write(tmp_path, models.DETECTOR, "3d_roi", labels=models.ONE_LABEL)
    made = predictor(segmentation, detector)
    assert not made.detector.label_manager.has_regions
    found = made.tumor_probability(volume(SHAPE))
    assert found.shape == SHAPE
    assert 0 <= found.min() < found.max() <= 1
    background = torch.tensor([5.0, 0.0])[:, None, None, None]
    made.detector.predict_logits_from_preprocessed_data = lambda data: background.expand(2, *data.shape[1:]).clone()
    assert made.tumor_probability(volume(SHAPE)).max() == pytest.approx(1 / (1 + np.exp(5)), rel=1e-3)


def test_boxes_in_a_transposed_image_of_another_spacing(folders):
    """By hand: axes (z, y, x) of the volume are (x, z, y) of the image; two image voxels a voxel along the first."""
    made = predictor(*folders, roi=mask(SHAPE, TUMOR))
    made.predict_logits_from_preprocessed_data(volume(SHAPE))
    report = made.reports[0]
    report.order = (1, 2, 0)
    cropped = (80, 36, 44)
    report.locate(
        {
            "shape_after_cropping_and_before_resampling": cropped,
            "shape_before_cropping": (100, 50, 60),
            "bbox_used_for_cropping": [[7, 87], [3, 39], [1, 45]],
        }
    )
    assert report.facts["components"][0]["image_box"] == [[15, 23], [6, 10], [27, 39]]


def test_arrays_in_segmentations_out(folders, tmp_path):
    """The Python example of docs/cascade.md."""
    image = models.write_case(tmp_path)
    made = predictor(*folders)
    one = made.predict_single_npy_array(image, {"spacing": [1.0, 1.0, 1.0]})
    (many,) = made.predict_from_list_of_npy_arrays([image], None, [{"spacing": [1.0, 1.0, 1.0]}], None, 1)
    np.testing.assert_array_equal(one, many)
    assert one.shape == image.shape[1:]
    assert len(made.reports) == 2
    stuff = {"spacing": (1.0, 1.0, 1.0), "origin": (0.0, 0.0, 0.0), "direction": tuple(np.eye(3).ravel())}
    properties = {"spacing": [1.0, 1.0, 1.0], "sitk_stuff": stuff}
    made.predict_single_npy_array(image, properties, output_file_truncated=str(tmp_path / "one"))
    assert json.loads((tmp_path / "cascade" / "one.json").read_text())["case"] == "one"


def test_threads_or_not_the_files_are_the_same(folders, tmp_path):
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        models.write_case(tmp_path / "in", name, seed=seed)
    made = predictor(*folders)
    made.predict_from_files(str(tmp_path / "in"), str(tmp_path / "threads"), True)
    made.predict_from_files_sequential(str(tmp_path / "in"), str(tmp_path / "in turn"), True)
    for name in "abc":
        one, other = ((tmp_path / where / f"{name}.nii.gz").read_bytes() for where in ("threads", "in turn"))
        assert one == other
        assert (tmp_path / "threads" / f"{name}.npz").is_file()
        report = json.loads((tmp_path / "threads" / "cascade" / f"{name}.json").read_text())
        assert report["case"] == name
        assert set(report["seconds"]) == {"preprocessing", "detector", "segmentation", "export"}
    summary = json.loads((tmp_path / "threads" / "cascade_summary.json").read_text())
    assert summary["cases"] == 3


def test_the_builder_is_the_trainers(folders):
    from nnunet_ext.trainers import trainer_class

    made = predictor(*folders)
    arguments = (made.plans_manager, made.plans_manager.get_configuration("3d_fullres"), 4, 3)
    torch.manual_seed(0)
    ours = network_builder(models.SEGMENTATION)(*arguments[1:], deep_supervision=False)
    torch.manual_seed(0)
    theirs = trainer_class(models.SEGMENTATION).build_network_architecture(*arguments, False)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert network_builder("nnUNetTrainer") is None


def test_the_default_settings_are_the_documented_start():
    assert CascadeSettings() == CascadeSettings((96, 96, 96), 5, 0.1, 0.3, 10.0, "max")
    assert issubclass(nnUNetCascadePredictor, nnUNetPredictor)
