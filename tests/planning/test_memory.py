"""Which words of a recipe the prediction of memory follows, and which it refuses."""

import pytest

from nnunet_ext.networks import registry
from nnunet_ext.planning.memory import PREDICTED, TrainingMemory
from nnunet_ext.trainers.recipe import Recipe
from nnunet_ext.trainers.words import WORDS, changes_of_memory


def test_what_the_recipe_changes_is_predicted_or_refused():
    spec, size = registry.find("unet3d_XS")
    neutral = {"initial_lr": 1.0, "weight_decay": 0.1, "schedule": "cosine", "epochs": 3, "iterations": 2, "seed": 1}
    assert TrainingMemory.of(spec, size, changes_of_memory(Recipe(**neutral))) == TrainingMemory(spec, size)
    changed = {"optimiser": "AdamW", "accumulation": 2, "precision": "FP32", "deep_supervision": False}
    assert TrainingMemory.of(spec, size, changes_of_memory(Recipe(**changed))) == TrainingMemory(spec, size, **changed)
    with pytest.raises(ValueError, match="a training with loss Focal; plan"):
        TrainingMemory.of(spec, size, changes_of_memory(Recipe(loss="Focal")))
    assert not changes_of_memory(Recipe(loss="Dice70CE30"))


def test_every_word_says_whether_its_memory_is_predicted():
    said = {name for word in WORDS for name, kind in word.memory.items() if kind == "predicted"}
    assert said == PREDICTED
