"""Grad-CAM through the window: against pytorch-grad-cam, against a twin, and what its maps must and must not do."""

import copy

import numpy as np
import pytest
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from pytorch_grad_cam import GradCAM, HiResCAM
from scipy.stats import spearmanr
from torch import nn
from torch.nn.functional import interpolate

from benchmarks import contributions as benchmark
from nnunet_ext.explain.gradcam import Score, gradcam, logits_of, normalised, weighed_maps
from nnunet_ext.explain.layers import (
    DEFAULTS,
    chosen_layers,
    default_layers,
    default_method,
    input_channels,
    maps_of,
    matching,
)
from nnunet_ext.explain.regions import regions_of
from nnunet_ext.explain.watching import Watched
from nnunet_ext.explain.window import Window, tiles_in
from nnunet_ext.networks import registry
from nnunet_ext.trainers.building import network_builder
from tests.explain import models
from tests.networks.oracles import randomise
from tests.networks.plans import CASES, IDS, architecture
from tests.trainers import workspace

STAGES, PATCH = 4, 16
THEIRS = {"gradcam": GradCAM, "hirescam": HiResCAM}


def of_trainer(name, dims=3, dataset=None):
    """A predictor with an initialised network of this trainer, on a plan of four stages and a patch of 16."""
    plans = workspace.plans(4)
    configuration = plans["configurations"]["3d_fullres"]
    configuration["patch_size"] = [PATCH] * dims
    configuration["spacing"] = [1.0] * dims
    configuration["architecture"]["arch_kwargs"] = architecture([[1] * dims] + [[2] * dims] * (STAGES - 1))
    dataset = dataset or workspace.dataset_json(workspace.FOUR)
    manager = PlansManager(plans)
    heads = manager.get_label_manager(dataset).num_segmentation_heads
    planned = manager.get_configuration("3d_fullres")
    torch.manual_seed(0)
    network = network_builder(name)(planned, 4, heads, deep_supervision=False)
    predictor = models.predictor(nn.Identity(), dataset)
    predictor.manual_initialization(network, manager, planned, [network.state_dict()], dataset, name, None)
    return predictor


def volume(predictor, shape=(PATCH,) * 3, seed=1):
    return torch.randn((input_channels(predictor), *shape), generator=torch.Generator().manual_seed(seed))


def everywhere(predictor, data, part=0.5):
    """One score for each region, of some of the voxels."""
    chosen = torch.rand(data.shape[1:], generator=torch.Generator().manual_seed(7)) < part
    return [Score(region, chosen) for region in regions_of(predictor)]


# --- against pytorch-grad-cam


@pytest.mark.parametrize(
    ("name", "layer", "method"),
    [
        ("UNet3D_XS", "encoder.trunk.0", "gradcam"),
        ("UNet3D_XS", "encoder.trunk.3", "gradcam"),
        ("UNet3D_XS", "decoder.stages.2", "hirescam"),
        ("DualBranchGhost_XS", "encoder.branches.1.2", "hirescam"),
        ("SwinUNETR_XS", "encoder.skips.3", "gradcam"),
    ],
)
def test_one_tile_is_that_of_grad_cam(name, layer, method):
    predictor = of_trainer(f"nnUNetTrainer_{name}")
    randomise(predictor.network).double()  # the channels' parts may cancel
    data = volume(predictor).double()
    scores = everywhere(predictor, data)
    found = gradcam(predictor, data, scores, [layer], method=method)
    module = predictor.network.get_submodule(layer)
    for score in scores:
        target = [lambda output, score=score: (output[score.region.head] * score.voxels).sum()]
        with THEIRS[method](predictor.network, [module]) as theirs:
            scaled = theirs(data[None], target)
            kept = theirs.activations_and_grads
            gradients = kept.gradients[0].numpy()
            raw = theirs.get_cam_image(data[None], module, target, kept.activations[0].numpy(), gradients, False)
        ours = found[score.region.name, layer]
        expected = torch.tensor(raw)[None].float()
        if expected.shape[2:] != ours.shape:
            expected = interpolate(expected, ours.shape, mode="trilinear")
        largest = expected.abs().max()
        assert largest > 0
        torch.testing.assert_close(ours / largest, expected[0, 0] / largest, atol=1e-5, rtol=0)
        if raw.shape[1:] == ours.shape:  # their scaled map, where they do not interpolate
            np.testing.assert_allclose(between_0_and_1(ours.clamp(min=0)), scaled[0], atol=1e-5)


def between_0_and_1(map_):
    map_ = map_ - map_.min()
    return (map_ / map_.max()).numpy()


# --- through the window


class Halves(nn.Module):
    """A body whose map is explained, and a head."""

    def __init__(self, kernel, stride=1):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(4, 6, kernel, padding=kernel // 2, bias=False),
            nn.ReLU(),
            nn.Conv3d(6, 5, kernel, stride, kernel // 2, bias=False),
        )
        self.head = nn.ConvTranspose3d(5, 3, stride, stride)

    def forward(self, x):
        return self.head(self.body(x).relu())


def with_network(network, patch=(PATCH,) * 3):
    torch.manual_seed(3)
    predictor = models.predictor(randomise(network), models.labelled("edema", "core"))
    predictor.configuration_manager.configuration["patch_size"] = list(patch)
    return predictor


def test_the_gradient_is_that_of_the_merged_prediction():
    network = Halves(3, stride=2)
    predictor = with_network(network)
    data = volume(predictor, (24, 16, 20))
    scores = everywhere(predictor, data)
    found = gradcam(predictor, data, scores, ["body"])

    window = Window(predictor, data)
    assert len(window.places) == tiles_in(predictor, data.shape[1:]) == 4
    maps = [network.body(tile).detach().requires_grad_() for _, tile in window.tiles()]
    merged = torch.zeros(3, 24, 16, 20)
    for place, map_ in zip(window.places, maps, strict=True):
        merged[place] += network.head(map_.relu())[0] * window.weights
    merged = merged / window.total
    placed = gradcam(predictor, data, scores, ["body"], method="hirescam")
    for score in scores:
        gradients = torch.autograd.grad((merged[score.region.head] * score.voxels).sum(), maps, retain_graph=True)
        places = data[0].numel() / 8
        alpha = sum(g.sum((0, 2, 3, 4)) for g in gradients) / places
        activations = torch.zeros(5, 24, 16, 20)
        for place, map_ in zip(window.places, maps, strict=True):
            activations[place] += interpolate(map_, (PATCH,) * 3, mode="trilinear")[0] * window.weights
        expected = torch.einsum("c,czyx->zyx", alpha, activations / window.total)
        torch.testing.assert_close(found[score.region.name, "body"], expected.detach(), rtol=1e-4, atol=1e-5)
        expected = torch.zeros(24, 16, 20)
        for place, map_, gradient in zip(window.places, maps, gradients, strict=True):
            weighed = (map_ * gradient).sum(1, keepdim=True)
            expected[place[1:]] += interpolate(weighed, (PATCH,) * 3, mode="trilinear")[0, 0].detach()
        torch.testing.assert_close(placed[score.region.name, "body"], expected, rtol=1e-4, atol=1e-5)


def seams(kernel, merge):
    """How far the map of overlapping tiles is from that of one big tile, in parts of its largest value."""
    shape = (40, 16, 16)
    small, big = Halves(kernel), None
    predictor = with_network(small)
    data = volume(predictor, shape)
    data[:, :24] *= 0.1  # where two tiles are there is little to see
    scores = everywhere(predictor, data)[:1]
    big = with_network(small, shape)
    assert tiles_in(big, shape) == 1
    expected = gradcam(big, data, scores, ["body"])["edema", "body"].clamp(min=0)
    assert tiles_in(predictor, shape) > 3
    found = merge(predictor, data, scores)
    return float((found / found.max() - expected / expected.max()).abs().max())


def ours(predictor, data, scores):
    return gradcam(predictor, data, scores, ["body"])["edema", "body"].clamp(min=0)


def scaled_a_tile(predictor, data, scores):
    """What other tools do: a map for each tile, scaled to 1 there."""
    window, merged = Window(predictor, data), torch.zeros(data.shape[1:])
    for place, tile in window.tiles():
        alone = [Score(scores[0].region, scores[0].voxels[place[1:]])]
        map_ = gradcam(predictor, tile[0], alone, ["body"])["edema", "body"].clamp(min=0)
        merged[place[1:]] += map_ / map_.max() * window.share(place)
    return merged


def test_there_are_no_seams():
    assert seams(1, ours) < 1e-5  # nothing reaches across the edges of a tile
    assert seams(3, ours) < 0.05
    assert seams(1, scaled_a_tile) > 0.3
    assert seams(3, scaled_a_tile) > 0.3


def test_a_volume_smaller_than_the_patch_is_padded_as_nnunet_does():
    predictor = with_network(Halves(3, stride=2))
    data = volume(predictor, (10, 16, 12))
    padded = torch.zeros(4, 16, 16, 16)
    padded[:, 3:13, :, 2:14] = data
    scores = everywhere(predictor, data)
    around = [Score(s.region, Window(predictor, data).padded(s.voxels)) for s in scores]
    found, expected = gradcam(predictor, data, scores, ["body"]), gradcam(predictor, padded, around, ["body"])
    for key, map_ in found.items():
        torch.testing.assert_close(map_, expected[key][3:13, :, 2:14])


def test_a_layer_that_is_overwritten_in_place_is_kept_as_it_was():
    norm = nn.InstanceNorm3d(5)
    network = nn.Sequential(nn.Conv3d(4, 5, 3, padding=1), norm, nn.ReLU(inplace=True), nn.Conv3d(5, 3, 1))
    x = torch.randn(1, 4, 8, 8, 8)
    with Watched(network, ["1"]) as seen:
        network(x)
    assert (seen.maps["1"] < 0).any()
    assert not network._forward_hooks
    assert not norm._forward_hooks


# --- classes, branches, networks


@pytest.mark.parametrize("labels", [None, ("edema", "core", "cyst")], ids=["regions", "softmax"])
def test_a_classes_map_does_not_move_when_another_ones_head_changes(labels):
    predictor = of_trainer("nnUNetTrainer_UNet3DStride_XS", dataset=labels and models.labelled(*labels))
    randomise(predictor.network)
    first, *others = regions_of(predictor)
    data = volume(predictor, (16, 16, 24))

    def maps():
        predictor.list_of_parameters = [predictor.network.state_dict()]
        logits = logits_of(predictor, data)
        scores = [Score(region, region.predicted(logits)) for region in (first, *others)]
        return {
            region: map_.clone() for (region, _), map_ in gradcam(predictor, data, scores, ["encoder.trunk.2"]).items()
        }

    before = maps()
    head = predictor.network.decoder.seg_layers[-1]
    with torch.no_grad():
        for other in others:
            head.weight[other.head] *= -3
            head.bias[other.head] += 2
    after = maps()
    assert torch.equal(before[first.name], after[first.name])
    assert before[first.name].std() > 0
    assert all(not torch.allclose(before[other.name], after[other.name]) for other in others)


@pytest.mark.parametrize(
    ("name", "maps"),
    [
        ("QuadBranch_XS", ["t1", "t1ce", "t2", "flair"]),
        ("QuadBranchAttention_XS", ["t1", "t1ce", "t2", "flair"]),
        ("DualBranchStride_XS", ["t1ce", "flair"]),
        ("UNet3D2Modal_XS", ["t1ce-flair"]),
        ("UNet3D_XS", [""]),
    ],
)
def test_a_network_with_branches_has_one_map_a_branch(name, maps):
    predictor = of_trainer(f"nnUNetTrainer_{name}")
    layers = default_layers(predictor)
    assert list(layers) == maps
    assert len(set(layers.values())) == len(maps)
    if len(maps) > 1:
        data = volume(predictor)
        scores = everywhere(predictor, data)[:1]
        found = gradcam(predictor, data, scores, list(layers.values()), method=default_method(list(layers.values())))
        alone = gradcam(predictor, data, scores, [layers[maps[-1]]], method="hirescam")
        assert len(found) == len(maps)
        for key, map_ in alone.items():
            torch.testing.assert_close(found[key], map_)
        assert len({float(map_.sum()) for map_ in found.values()}) == len(maps)


@pytest.mark.parametrize("name", ["DualBranchStride_XS", "DualBranchGhost_XS", "QuadBranch_XS"])
def test_at_the_end_of_a_branch_grad_cam_is_void_and_refused(name):
    predictor = of_trainer(f"nnUNetTrainer_{name}")
    randomise(predictor.network)
    data = volume(predictor, (16, 16, 24))
    layers = list(default_layers(predictor).values())
    assert default_method(layers) == "hirescam"
    with pytest.raises(ValueError, match=f"At {layers[0]} the mean of the gradients vanishes"):
        gradcam(predictor, data, everywhere(predictor, data), layers, method="gradcam")


def test_every_class_of_networks_has_its_default_layer():
    assert {spec.network for spec in registry.specs()} == set(DEFAULTS)


@pytest.mark.parametrize(("spec", "dims"), CASES, ids=IDS)
def test_every_network_has_a_finite_map_that_is_not_flat(spec, dims):
    predictor = of_trainer(f"nnUNetTrainer_{spec.trainer}_{spec.sizes[0]}", dims)
    layers = default_layers(predictor)
    data = volume(predictor, (PATCH,) * 3 if dims == 3 else (2, PATCH, PATCH))
    scores = everywhere(predictor, data)[:1]
    method = default_method(list(layers.values()))
    for map_ in gradcam(predictor, data, scores, list(layers.values()), method=method).values():
        assert map_.shape == data.shape[1:]
        assert map_.isfinite().all()
        assert map_.std() > 1e-3 * map_.abs().max() > 0
    assert set(layers.values()) <= set(maps_of(predictor))


def test_stocks_own_network_is_explained_at_its_deepest_encoder_stage():
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    predictor = of_trainer("nnUNetTrainer_UNet3D_XS")
    kwargs = {"kernel_sizes": 3, "strides": [1, 2, 2], "n_conv_per_stage": 1, "n_conv_per_stage_decoder": 1}
    norm = {"norm_op": nn.InstanceNorm3d, "nonlin": nn.LeakyReLU, "nonlin_kwargs": {"inplace": True}}
    predictor.network = PlainConvUNet(4, 3, [4, 8, 8], nn.Conv3d, num_classes=3, **kwargs, **norm)
    predictor.trainer_name = "nnUNetTrainer"
    assert default_layers(predictor) == {"": "encoder.stages.2"}
    data = volume(predictor)
    scores = everywhere(predictor, data)
    maps = gradcam(predictor, data, scores, ["encoder.stages.2", "encoder.stages.0.0.convs.0.norm"])
    assert all(map_.std() > 0 for map_ in maps.values())
    predictor.network = Halves(1)
    with pytest.raises(ValueError, match=r"nnUNetTrainer has no layer encoder.stages.-1.*--layer"):
        default_layers(predictor)


def test_layers_without_a_map_are_not_offered():
    predictor = of_trainer("nnUNetTrainer_SwinUNETR_XS")
    known = maps_of(predictor)
    assert "encoder.skips.3" in known
    assert known["encoder.skips.3"][1:] == (2, 2, 2)
    assert "encoder.stages.0" not in known  # channels last
    assert "decoder.seg_layers.0" not in known  # not called
    with pytest.raises(ValueError, match=r"at a layer 'encoder\.skip\.3'; nearest: encoder\.skips\.3; --layers"):
        chosen_layers(predictor, ["encoder.skip.3"])
    assert chosen_layers(predictor, ["encoder.skips.3"]) == {"": "encoder.skips.3"}
    assert list(chosen_layers(predictor, ["encoder.skips.3", "decoder"])) == ["encoder.skips.3", "decoder"]
    assert matching(predictor.network, "encoder.skips.*") == [f"encoder.skips.{i}" for i in range(4)]


def test_branches_are_on_one_scale_and_nothing_is_negative():
    maps = normalised({"a": torch.tensor([-1.0, 2.0]), "b": torch.tensor([4.0, 1.0])})
    assert maps["a"].tolist() == [0, 0.5]
    assert maps["b"].tolist() == [1, 0.25]
    assert normalised({"a": torch.tensor([-1.0, -2.0])})["a"].tolist() == [0, 0]


# --- sanity (Adebayo et al. 2018, arXiv:1810.03292)


@pytest.fixture(scope="module")
def trained():
    """A network that finds the ball in the second channel, phantoms, and where it finds it."""
    data = benchmark.phantoms(0)
    network = benchmark.trained(data, 1, 0)
    test = benchmark.phantoms(1, 5)
    images = benchmark.planted(test.images, 1, torch.Generator().manual_seed(0))
    return network, images[0], test.masks[0]


CASCADE = ("decoder.seg_layers", "decoder.stages", "decoder.transpconvs", "encoder.trunk.2", "encoder.trunk.1")


def test_the_map_of_a_trained_network_is_where_the_class_is_and_randomisation_destroys_it(trained):
    network, image, mask = trained
    layer = "encoder.trunk.1"

    def map_of(changed):
        predictor = benchmark.predictor_of(changed, benchmark.dataset_json())
        score = Score(regions_of(predictor)[0], mask)
        return gradcam(predictor, image, [score], [layer])["tumor", layer]

    before = map_of(network)
    positive = before.clamp(min=0)
    assert positive[mask].mean() > 5 * positive[~mask].mean()
    likeness = []
    for seed in range(5):
        changed = copy.deepcopy(network)
        torch.manual_seed(100 + seed)
        for part in CASCADE:
            for module in changed.get_submodule(part).modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()
        after = map_of(changed)
        assert after.std() > 0
        likeness.append(abs(spearmanr(before.flatten(), after.flatten()).statistic))
    assert np.mean(likeness) < 0.5
    assert spearmanr(before.flatten(), map_of(copy.deepcopy(network)).flatten()).statistic == pytest.approx(1)


def test_alphas_alone_choose_the_channel():
    network = Halves(1)
    predictor = with_network(network)
    data = volume(predictor)
    window = Window(predictor, data)
    one = weighed_maps(network, window, {("edema", "body"): torch.tensor([0.0, 0, 2, 0, 0])})["edema", "body"]
    torch.testing.assert_close(one.detach(), 2 * network.body(data[None])[0, 2].detach())
