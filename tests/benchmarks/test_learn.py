"""A few very different networks learn; ``make learn`` does this with all of them."""

import argparse
import json

import pytest
import torch

from benchmarks import learn, record
from nnunet_ext.networks import registry
from nnunet_ext.networks.stock_plan import stock_plan

FEW = ("mobile_unetr", "dualbranch_14_shufflenetv2", "roi_unet3d")
BALL = 16  # voxels of a patch in which a ball takes the tumour's place: a hundred steps cost seconds
RESULTS = record.RESULTS / "learn.json"


@pytest.fixture
def ball(monkeypatch):
    """In place of the phantom three shells of a ball, each of its own contrast under noise."""
    where = torch.linspace(-1, 1, BALL)
    radius = torch.stack(torch.meshgrid(where, where, where, indexing="ij")).square().sum(0).sqrt()
    labels = 2 * (radius < 0.9) + 2 * (radius < 0.6) - 3 * (radius < 0.35)  # oedema 2, enhancing 4, necrosis 1
    noise = torch.randn(4, *[BALL] * 3, generator=torch.Generator().manual_seed(0))
    images = torch.stack([(labels == 2) + 0.0, (labels == 4) + 0.0, (labels == 1) + 0.0, radius]) + 0.1 * noise
    coordinates = torch.stack(torch.meshgrid(where, where, where, indexing="ij"))
    monkeypatch.setattr(learn, "patch", lambda: (images.numpy(), labels.numpy(), coordinates.numpy()))
    monkeypatch.setattr(learn, "STAGES", 3)
    monkeypatch.setattr(learn, "STEPS", 100)


@pytest.mark.parametrize("name", FEW)
def test_a_network_learns(ball, name):
    learned = learn.overfit(learn.Run(name, learn.SEED))
    assert learned.passed, learned
    assert min(learned.untrained.values()) < 0.8, "nothing was left to learn"


def test_without_a_rate_nothing_is_learned(ball, monkeypatch):
    monkeypatch.setattr(learn, "STEPS", 20)
    learned = learn.overfit(learn.Run("dualbranch_14_shufflenetv2", learn.SEED), initial_lr=1e-12)
    assert not learned.passed
    assert learned.steps == 20
    assert learned.changes == {"initial_lr": 1e-12}


def test_the_schedule_ends_with_the_run():
    for name, changed in [("unet3d", {}), ("unetr", {"initial_lr": 1e-3}), *learn.EXCEPTIONS.items()]:
        recipe, changes = learn.recipe_for(name, changed)
        assert changes == {**learn.EXCEPTIONS.get(name, {}), **changed}
        assert recipe.learning_rate(learn.STEPS - 1) < 0.01 * recipe.initial_lr
        assert max(map(recipe.learning_rate, range(learn.STEPS))) == pytest.approx(recipe.initial_lr)


def test_the_committed_results_are_of_all_networks_with_the_recipe_they_have():
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    runs = [learn.Run(r["network"], r["seed"]) for r in found["rows"]]
    assert runs == [learn.Run(s.name, seed) for s in registry.specs() for seed in learn.seeds_of(s.name)]
    assert [r["changes"] for r in found["rows"]] == [learn.EXCEPTIONS.get(run.network, {}) for run in runs]
    assert (found["recipe"], found["steps"], found["goal"]) == (learn.RECIPE, learn.STEPS, learn.GOAL)
    assert min(dice for r in found["rows"] for dice in r["trained"].values()) >= learn.GOAL
    written = RESULTS.with_suffix(".md").read_text(encoding="utf-8")
    assert written == f"{learn.markdown(found['rows'])}\n\n{learn.ranges(found['rows'])}\n"


@pytest.mark.parametrize(("dims", "detector"), [(3, False), (3, True), (2, False)])
def test_what_a_network_is_shown(dims, detector):
    channels, regions = (7, 1) if detector else (4, 3)
    images, truth = learn.sample(dims, detector=detector)
    assert images.shape[1:] == (channels, *(learn.EDGE,) * dims)
    assert truth.shape[1:] == (regions, *(learn.EDGE,) * dims)
    assert len(images) == len(truth)
    assert truth.flatten(2).any(2)[:, 0].all(), "2D: only slices with tumour"
    if regions == 3:
        whole, core, enhancing = truth.unbind(1)
        assert (core & ~whole).sum() == (enhancing & ~core).sum() == 0
        if dims == 3:  # the Dice of the core for who sees nothing but its rim, as docs/networks.md says
            assert (2 * enhancing.sum() / (core.sum() + enhancing.sum())).item() == pytest.approx(0.87, abs=0.005)
    assert not truth.all()


def test_the_whole_tumour_lies_in_the_patch():
    case = learn.make_phantom((learn.WHOLE,) * 3, learn.PHANTOM, 0)
    assert (learn.patch()[1] > 0).sum() == (case.labels > 0).sum()


def test_dice_by_hand():
    logits, regions = torch.full((1, 3, 4), -1.0), torch.zeros(1, 3, 4, dtype=torch.bool)
    logits[0, 0, :2], regions[0, 0, 1:3] = 1, True
    regions[0, 1, 0] = True
    logits[0, 2, 3], regions[0, 2, 3] = 1, True
    assert learn.dice(logits, regions) == {"WT": 0.5, "TC": 0, "ET": 1}


def test_targets_of_deep_supervision_lose_every_other_voxel():
    truth = torch.arange(16).reshape(1, 1, 4, 4) % 3 == 0
    high, low = learn.targets(truth, stock_plan(2, 3))
    assert torch.equal(high, truth.float())
    assert torch.equal(low, truth[..., 1::2, 1::2].float())


def test_results_of_others_are_kept_in_the_registrys_order():
    rows = [{"network": "unetr", "seed": 2}, {"network": "unet3d", "seed": 1, "steps": 5}]
    merged = learn.merged(rows, {"network": "unet3d", "seed": 1, "steps": 7})
    assert merged == [{"network": "unet3d", "seed": 1, "steps": 7}, {"network": "unetr", "seed": 2}]


def test_the_range_is_of_the_networks_with_several_seeds():
    rows = [
        {"network": name, "seed": seed, "steps": steps, "trained": {"WT": 0.99, "TC": dice}}
        for name, seed, steps, dice in [("a", 1, 90, 0.96), ("a", 2, 120, 0.95), ("b", 1, 10, 0.99)]
    ]
    (line,) = learn.ranges(rows).splitlines()[2:]
    assert [cell.strip() for cell in line.strip("|").split("|")] == ["a", "90, 120", "90 to 120", "0.950"]


def test_the_settings_of_a_recipe():
    assert learn.setting("initial_lr=1e-2") == ("initial_lr", 0.01)
    assert learn.setting("optimiser=SGD") == ("optimiser", "SGD")
    for wrong in ("optimiser=LBFGS", "momentum=0.9", "initial_lr", "initial_lr=fast"):
        with pytest.raises((argparse.ArgumentTypeError, ValueError)):  # argparse tells both in one sentence
            learn.setting(wrong)


def test_six_networks_start_from_several_seeds():
    assert len(set(learn.VARIED)) == 6
    assert set(learn.VARIED) <= {spec.name for spec in registry.specs()}
    rows = json.loads((record.RESULTS / "learn.json").read_text(encoding="utf-8"))["rows"]
    for name in learn.VARIED:
        assert {row["seed"] for row in rows if row["network"] == name} == {1, 2, 3}, name
