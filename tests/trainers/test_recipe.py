"""The recipe against nnU-Net's own behaviour."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

from nnunet_ext.networks.registry import specs
from nnunet_ext.trainers.recipe import Recipe


def parameters():
    return iter([torch.nn.Parameter(torch.ones(2))])


def test_without_a_word_the_recipe_is_nnunets():
    stock = Recipe()
    optimiser, schedule = stock.optimiser_for(parameters())
    theirs = torch.optim.SGD(parameters(), 1e-2, weight_decay=3e-5, momentum=0.99, nesterov=True)
    assert optimiser.defaults == theirs.defaults
    reference = PolyLRScheduler(theirs, 1e-2, 1000)
    for epoch in (0, 1, 500, 999):
        schedule.step(epoch)
        reference.step(epoch)
        assert optimiser.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12)


@given(st.integers(1, 200), st.integers(0, 60), st.sampled_from(sorted(Recipe.DECAYS)))
def test_the_rate_rises_then_falls_and_stays_positive(epochs, warmup, schedule):
    recipe = Recipe(epochs=epochs, warmup_epochs=warmup, schedule=schedule)
    rates = [recipe.learning_rate(e) for e in range(epochs)]
    peak = rates.index(max(rates))
    assert peak == min(warmup, epochs // 10)
    assert max(rates) == pytest.approx(recipe.initial_lr)
    assert min(rates) > 0
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


@pytest.mark.parametrize(("iterations", "validation"), [(1, 1), (4, 1), (10, 2), (250, 50)])
def test_a_fifth_is_validation(iterations, validation):
    assert Recipe(iterations=iterations).validation_iterations == validation


@pytest.mark.parametrize("spec", specs(), ids=lambda s: s.name)
def test_declared_recipes_are_valid(spec):
    optimiser, schedule = Recipe.of(spec, epochs=20).optimiser_for(parameters())
    schedule.step(19)
    assert 0 < optimiser.param_groups[0]["lr"] < Recipe.of(spec).initial_lr


def test_the_documented_recipes_are_the_declared_ones():
    text = (Path(__file__).parents[2] / "docs" / "trainers.md").read_text(encoding="utf-8")
    rows = [
        f"| {', '.join(f'`{s.trainer}`' for s in specs() if s.recipe == recipe)} "
        f"| {', '.join(f'{name} {value}' for name, value in recipe.items())} |"
        for recipe in {json.dumps(dict(s.recipe)): s.recipe for s in specs() if s.recipe}.values()
    ]
    table = "\n".join(["| trainers | differs from nnU-Net's recipe in |", "|---|---|", *rows])
    assert f"<!-- recipes -->\n{table}\n<!-- /recipes -->" in text, table
