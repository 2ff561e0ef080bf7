"""The recipe as data: nnU-Net's own by default, the families' as declared, and the curve of the learning rate."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from nnunet_ext.networks.registry import find, specs
from nnunet_ext.trainers import catalogue
from nnunet_ext.trainers.optimisers import OPTIMISERS, optimiser_for
from nnunet_ext.trainers.recipe import Recipe
from nnunet_ext.trainers.schedules import DECAYS

DOCUMENT = Path(__file__).parents[2] / "docs" / "trainers.md"


def rates(recipe):
    return [recipe.learning_rate(epoch) for epoch in range(recipe.epochs)]


def test_without_a_word_the_recipe_is_nnunets():
    from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

    network = nn.Conv3d(1, 1, 1)
    optimiser, schedule = optimiser_for(Recipe(), network)
    theirs = SGD(network.parameters(), 1e-2, weight_decay=3e-5, momentum=0.99, nesterov=True)
    assert optimiser.defaults == theirs.defaults
    assert [len(group["params"]) for group in optimiser.param_groups] == [2], "SGD decays norms and biases, as nnU-Net"
    reference = PolyLRScheduler(theirs, 1e-2, 1000)
    for epoch in (0, 1, 500, 999):
        schedule.step(epoch)
        reference.step(epoch)
        assert optimiser.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12)


@pytest.mark.parametrize("floor", [0.0, 0.01])
def test_cosine_is_torchs(floor):
    network = nn.Conv3d(1, 1, 1)
    optimiser = SGD(network.parameters(), 0.5)
    theirs, expected = CosineAnnealingLR(optimiser, T_max=20, eta_min=0.5 * floor), []
    for _ in range(20):
        expected += theirs.get_last_lr()
        optimiser.step()
        theirs.step()
    assert rates(Recipe(initial_lr=0.5, epochs=20, schedule="cosine", floor=floor)) == pytest.approx(
        expected, rel=1e-12
    )


def test_a_floor_is_where_the_polynomial_ends():
    recipe = Recipe(initial_lr=2.0, epochs=100, floor=0.1)
    assert recipe.learning_rate(50) == pytest.approx(2 * (0.1 + 0.9 * 0.5**0.9))
    assert min(rates(recipe)) > 0.2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"floor": 0.1, "schedule": "step"}, "step does not end at zero"),
        ({"floor": 0.1, "schedule": "plateau"}, "plateau does not end at zero"),
        ({"floor": 1.0}, "below 1, not 1"),
    ],
)
def test_a_floor_that_no_schedule_has_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        Recipe(**changes).check()


@given(st.data(), st.integers(1, 200), st.sampled_from(sorted(DECAYS)))
def test_the_rate_rises_for_the_warmup_then_falls_and_stays_positive(data, epochs, schedule):
    warmup = data.draw(st.integers(0, epochs - 1))
    recipe = Recipe(epochs=epochs, warmup_epochs=warmup, schedule=schedule)
    found = rates(recipe)
    peak = found.index(max(found))
    assert peak == warmup
    assert max(found) == pytest.approx(recipe.initial_lr)
    assert min(found) > 0
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert found[peak:] == sorted(found[peak:], reverse=True)


def test_a_warmup_by_hand():
    assert rates(Recipe(initial_lr=1.0, epochs=5, warmup_epochs=3))[:4] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(("epochs", "warmup"), [(1000, 50), (500, 50), (250, 25), (50, 5), (9, 0), (1, 0)])
def test_a_familys_warmup_takes_at_most_a_tenth_of_a_short_training(epochs, warmup):
    spec, _ = find("UNETR")
    recipe = Recipe.of(spec, epochs=epochs)
    assert recipe.warmup_epochs == warmup
    assert max(rates(recipe)) == pytest.approx(spec.recipe["initial_lr"]), "every training reaches its rate"


def test_a_warmup_that_is_asked_for_is_as_long_as_asked():
    assert Recipe.of(find("UNETR")[0], epochs=50, warmup_epochs=30).warmup_epochs == 30


@pytest.mark.parametrize(("iterations", "validation"), [(1, 1), (4, 1), (10, 2), (250, 50)])
def test_a_fifth_is_validation(iterations, validation):
    assert Recipe(iterations=iterations).validation_iterations == validation


# who is trained by which published recipe: a new row is entered here, with what it is compared with
KINDS = {
    ("AdamW", 1e-3, 3e-5, "poly", 20): {"DualBranchConvNeXt"},
    ("AdamW", 5e-4, 3e-5, "poly", 20): {f"DualBranchRepLK{form}" for form in ("", "FFN2", "MViT45", "MViT5")},
    ("AdamW", 3e-4, 1e-2, "cosine", 50): {"MobileUNETR", "MobileUNETR3D", "DualBranchMViT", "ROIMobileUNETR3D"},
    ("AdamW", 1e-4, 1e-5, "cosine", 50): {"UNETR"},
    ("AdamW", 5e-4, 1e-5, "cosine", 50): {"SwinUNETR"},
}


def test_the_declared_recipes_are_the_published_ones_and_all_others_nnunets():
    found = {}
    for spec in specs():
        recipe = Recipe.of(spec)
        kind = (recipe.optimiser, recipe.initial_lr, recipe.weight_decay, recipe.schedule, recipe.warmup_epochs)
        found.setdefault(kind, set()).add(spec.trainer)
    assert len(found.pop(("SGD", 1e-2, 3e-5, "poly", 0))) == len(specs()) - sum(map(len, KINDS.values()))
    assert found == KINDS


@pytest.mark.parametrize("spec", specs(), ids=lambda spec: spec.name)
def test_a_declared_recipe_is_known_and_names_its_source(spec):
    assert Recipe.of(spec).optimiser in OPTIMISERS
    published = set(spec.recipe) - {"coordinates"}
    assert bool(published) == bool(spec.recipe_source)
    assert all(link.startswith("https://") for _, link in spec.recipe_source)


def test_the_documented_recipes_are_the_declared_ones():
    table = f"<!-- recipes -->\n{catalogue.families()}\n<!-- /recipes -->"
    assert table in DOCUMENT.read_text(encoding="utf-8"), "run `make tables`"
    assert all(f"`{spec.trainer}`" in table for spec in specs() if spec.recipe)
