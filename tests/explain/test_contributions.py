"""What the modalities carry of nnU-Net's prediction of a case."""

from math import isnan

import nibabel as nib
import numpy as np
import pytest
import torch
from captum.attr import ShapleyValues
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

from benchmarks import contributions as benchmark
from nnunet_ext.cascade.loading import load_model
from nnunet_ext.coordinates.field import AXES
from nnunet_ext.explain import attention, baselines, cases, choices
from nnunet_ext.explain import contributions as module
from nnunet_ext.explain.contributions import (
    FUNCTIONS,
    Prediction,
    channels_read,
    contributions,
    predicted,
    with_only,
)
from nnunet_ext.explain.regions import regions_of
from tests.explain import models
from tests.trainers import workspace

REGIONS = {"whole tumor": (1, 2, 3), "tumor core": (1, 3), "enhancing tumor": (3,)}  # of tests/trainers/workspace.py


def games(predictor, case, reference, values=choices.VALUES, **further):
    options = {"baselines": {"zero": baselines.zero}, **further}
    found = contributions(predictor, case, reference, regions=regions_of(predictor), values=values, **options)
    return {(g.baseline, g.value, g.region): g for g in found}


def test_every_choice_has_its_function():
    assert tuple(FUNCTIONS) == choices.VALUES


@pytest.mark.parametrize("channel", range(4))
def test_a_modality_that_alone_is_read_has_all_and_the_others_exactly_0(channel):
    predictor = models.predictor(models.Reads(channel))
    for game in games(predictor, *models.case(bright=channel)).values():
        found = game.shapley()
        assert found[channel] == pytest.approx(game.worth[-1] - game.worth[0], abs=1e-12)
        assert found[channel] > 0.3
        assert [phi for i, phi in enumerate(found) if i != channel] == [0, 0, 0]


def test_modalities_that_work_together_share_by_symmetry_and_add_up():
    case, reference = models.case()
    case.data[1] = case.data[0]  # the two that are multiplied are the same image
    for game in games(models.predictor(models.Together()), case, reference).values():
        found = game.shapley()
        assert found[0] == pytest.approx(found[1], abs=1e-12)
        assert min(found[:3]) > 0
        assert found[3] == 0
        assert abs(sum(found) - (game.worth[-1] - game.worth[0])) < 1e-9


def test_captum_has_the_same_for_the_whole_way():
    predictor, (case, reference) = models.predictor(models.Together()), models.case()
    region = regions_of(predictor)[0]

    def worth(x):
        found = predicted(predictor, case, x[0])
        return torch.tensor([FUNCTIONS["probability"](found, region, reference, np.ones_like(reference, bool))])

    mask = torch.arange(4).view(1, 4, 1, 1, 1)
    expected = ShapleyValues(worth).attribute(case.data[None].double(), feature_mask=mask)[0, :, 0, 0, 0]
    game = games(predictor, case, reference, values=["probability"])["zero", "probability", "tumor"]
    np.testing.assert_allclose(game.shapley(), expected.numpy(), atol=1e-6)


def test_worth_by_hand():
    reference = np.array([[[1, 1, 0, 2]]])
    found = Prediction(np.array([[[1, 0, 1, 1]]]), np.array([[[[0.0] * 4]], [[[0.5, 0.25, 0.1, 0.9]]]]))
    region = regions_of(models.predictor(models.Reads(0)))[0]
    counted = reference != 2  # an ignored voxel
    assert FUNCTIONS["dice"](found, region, reference, counted) == 2 * 1 / (2 + 2)
    assert FUNCTIONS["probability"](found, region, reference, counted) == 0.375
    assert all(isnan(f(found, region, 0 * reference, counted)) for f in FUNCTIONS.values())


def test_ignored_voxels_do_not_count():
    dataset = models.labelled("tumor")
    dataset["labels"]["ignore"] = 2
    case, reference = models.case(bright=0)
    part = reference.copy()
    part[reference > 0] = np.where(np.arange(reference.sum()) % 2, 1, 2)
    ours = games(models.predictor(models.Reads(0), dataset), case, part)
    assert ours["zero", "dice", "tumor"].worth[-1] > 0.8  # half of the box would be wrong
    assert len(regions_of(models.predictor(models.Reads(0), dataset))) == 1


def test_a_region_that_the_reference_has_not_has_no_game():
    predictor = models.predictor(models.Reads(0, 1), models.labelled("tumor", "cyst"))
    found = games(predictor, *models.case())
    assert found["zero", "dice", "tumor"].worth
    assert found["zero", "dice", "cyst"].worth == ()
    assert found["zero", "dice", "cyst"].shapley() == ()


def test_more_modalities_than_eight_are_refused_before_any_prediction(monkeypatch):
    names = [f"m{i}" for i in range(9)]
    predictor = models.predictor(models.Reads(0), models.labelled("tumor", channels=names))
    monkeypatch.setattr(predictor, "predict_logits_from_preprocessed_data", None)
    with pytest.raises(ValueError, match="has 9 image channels; expected are 1 to 8"):
        games(predictor, *models.case(channels=9))


def test_what_stays_and_what_is_replaced():
    data = torch.arange(6.0).view(6, 1, 1, 1) + 1
    changed = with_only(data, (1, 3), torch.full((4, 1, 1, 1), -1.0))
    assert changed.flatten().tolist() == [-1, 2, -1, 4, 5, 6]  # beyond the image's channels nothing
    assert data[0] == 1


def loaded(folder, folds=(0,)):
    predictor = models.predictor(torch.nn.Identity())
    load_model(predictor, folder, folds)
    return predictor


def test_coordinates_are_no_modality(folders, raw, monkeypatch):
    predictor = loaded(folders("UNet3D_XS_CoordConv"))
    case = cases.prepare(predictor, "first", sorted(raw[0].glob("first_*")))
    assert case.data.shape[0] == 4 + AXES
    assert cases.modalities_of(predictor) == workspace.FOUR
    seen = []
    monkeypatch.setattr(
        predictor,
        "predict_logits_from_preprocessed_data",
        lambda x: seen.append(x) or torch.zeros(3, *x.shape[1:]),
    )
    reference = cases.read_reference(predictor, raw[1] / "first.nii.gz", case)
    found = games(predictor, case, reference)
    assert {len(game.worth) for game in found.values()} == {16}
    assert len(seen) == 16
    assert all(torch.equal(x[4:], case.data[4:]) for x in seen)
    assert len({tuple(x[:4].flatten(1).any(1).tolist()) for x in seen}) == 16


def test_all_modalities_are_worth_what_nnunets_own_files_are(folders, raw, tmp_path):
    predictor = loaded(folders("UNet3D_XS", folds=(0, 1)), (0, 1))
    predictor.predict_from_files_sequential(str(raw[0]), str(tmp_path), save_probabilities=True)
    written = np.asarray(nib.load(tmp_path / "first.nii.gz").dataobj).transpose(2, 1, 0)
    probabilities = np.load(tmp_path / "first.npz")["probabilities"]
    case = cases.prepare(predictor, "first", sorted(raw[0].glob("first_*")))
    reference = cases.read_reference(predictor, raw[1] / "first.nii.gz", case)
    found = games(predictor, case, reference)
    for head, (name, labels) in enumerate(REGIONS.items()):
        a, b = np.isin(written, labels), np.isin(reference, labels)
        assert found["zero", "dice", name].worth[-1] == 2 * (a & b).sum() / (a.sum() + b.sum())
        mean = probabilities[head][b].mean(dtype=np.float64)
        assert found["zero", "probability", name].worth[-1] == pytest.approx(mean, abs=1e-9)


def test_the_regions_of_a_dataset_with_plain_labels():
    dataset = models.labelled("edema", "core")
    dataset["labels"]["ignore"] = 3
    found = regions_of(models.predictor(models.Reads(0, 1), dataset))
    assert [(r.name, r.head, r.labels, r.background) for r in found] == [("edema", 1, (1,), 0), ("core", 2, (2,), 0)]
    logits = torch.tensor([0.0, 1.0, 2.0]).view(3, 1, 1, 1)
    assert found[0].predicted(logits)  # whatever the core's are
    assert not found[0].predicted(-logits)


def test_channels_that_branches_do_not_read_are_not_predicted_apart_and_have_0(folders, raw, monkeypatch):
    predictor = loaded(folders("DualBranchStride_XS"))
    case = cases.prepare(predictor, "first", sorted(raw[0].glob("first_*")))
    reference = cases.read_reference(predictor, raw[1] / "first.nii.gz", case)
    seen, inner = [], predictor.predict_logits_from_preprocessed_data
    monkeypatch.setattr(predictor, "predict_logits_from_preprocessed_data", lambda x: seen.append(x) or inner(x))
    quick = games(predictor, case, reference)
    assert channels_read(predictor) == 0b1010  # T1ce and FLAIR
    assert len(seen) == 4
    monkeypatch.setattr(module, "channels_read", lambda _: 0b1111)
    assert games(predictor, case, reference) == quick
    assert len(seen) == 4 + 16
    assert all(game.shapley()[0] == game.shapley()[2] == 0 != game.shapley()[1] for game in quick.values())


@pytest.fixture
def preprocessed(tmp_path):
    rng = np.random.default_rng(0)
    images = {}
    for i in range(3):
        images[f"case{i}"] = rng.normal(size=(4, 6, 6, 6)).astype(np.float32)
        nnUNetDatasetBlosc2.save_case(
            images[f"case{i}"], np.zeros((1, 6, 6, 6), np.int8), {}, str(tmp_path / f"case{i}")
        )
    return tmp_path, images


def test_the_mean_is_that_of_the_other_cases(preprocessed):
    folder, images = preprocessed
    mean = baselines.Mean(folder, ["case1"], 4)
    assert mean.cases == ("case0", "case2")
    expected = (images["case0"] + images["case2"]) / 2
    np.testing.assert_allclose(mean((4, 6, 6, 6)), expected, atol=1e-6)
    assert mean((4, 12, 12, 12)).shape == (4, 12, 12, 12)
    assert mean((4, 12, 12, 12)).mean() == pytest.approx(expected.mean(), abs=0.02)


def test_without_another_case_there_is_no_mean(preprocessed, tmp_path):
    folder, images = preprocessed
    for where, without in ((folder, images), (tmp_path / "nowhere", ())):
        with pytest.raises(ValueError, match="preprocessed training cases other than those that are explained"):
            baselines.Mean(where, without, 4)


def test_many_cases_are_thinned_out_evenly(tmp_path):
    for i in range(120):
        (tmp_path / f"case{i:03d}.b2nd").touch()
        (tmp_path / f"case{i:03d}_seg.b2nd").touch()
    found = baselines.others(tmp_path, ["case000"])
    assert len(found) == 40
    assert len(found) <= baselines.MOST_CASES
    assert found[0] == "case001"
    assert found[-1] > "case115"


def test_the_attention_of_one_tile_is_the_networks_and_of_several_their_mean(folders):
    predictor = loaded(folders("QuadBranchAttention_XS"))
    shape = (16, 16, 24)
    data = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    found = attention.attention_weights(predictor, cases.Case("case", data, {}))
    with torch.no_grad():
        tiles = [predictor.network.modality_weights(data[None, ..., x : x + 16])[0] for x in (0, 8)]
    # the network's order is t1, t1ce, t2, flair, and so is this dataset's
    np.testing.assert_allclose(found, torch.stack(tiles).mean(0), rtol=1e-5)
    assert attention.attention_weights(loaded(folders("UNet3D_XS")), cases.Case("case", data, {})) == ()


def test_attention_follows_the_channels_names(folders):
    predictor = loaded(folders("QuadBranchAttention_XS"))
    data = torch.randn(4, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    plain = attention.attention_weights(predictor, cases.Case("case", data, {}))
    predictor.dataset_json["channel_names"] = {"0": "flair", "1": "t1gd", "2": "t2w", "3": "T1"}
    found = attention.attention_weights(predictor, cases.Case("case", data, {}))
    assert found == (plain[3], plain[1], plain[2], plain[0])


def test_agreement_by_hand():
    assert attention.agreement([1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4]) == pytest.approx(1)
    assert attention.agreement([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert attention.agreement([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx((5 - 1) / 6)
    assert attention.agreement([1, 2, 3], [3, float("nan"), 4]) == pytest.approx(1)
    assert isnan(attention.agreement([1, 2, 3, 4], [1, 1, 1, 1]))


@pytest.mark.parametrize("seed", range(3))
def test_after_training_the_planted_modality_comes_first(seed):
    found = benchmark.explained(seed)
    assert found.planted == seed % 4
    assert all(found.first(key) for key in found.means)
