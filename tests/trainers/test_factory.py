"""Generated classes, and how nnU-Net finds them."""

import inspect
import json
import pickle
from dataclasses import replace

import pytest
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_ext.discovery import hook_folder
from nnunet_ext.networks.registry import PREFIX, default_size, specs
from nnunet_ext.trainers import trainer_class
from nnunet_ext.trainers.recipe import Recipe

FROZEN = __file__.replace("test_factory.py", "trainer_names.json")


@pytest.fixture(autouse=True)
def _hook(monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_folder()))


@pytest.mark.parametrize("spec", specs(), ids=lambda s: s.name)
def test_nnunet_finds_every_trainer_and_it_is_one_class(spec):
    name = f"{PREFIX}{spec.trainer}_{spec.sizes[0]}"
    found = recursive_find_trainer_class_by_name(name)
    assert issubclass(found, nnUNetTrainer)
    assert found is recursive_find_trainer_class_by_name(name) is trainer_class(name)
    assert pickle.loads(pickle.dumps(found)) is found
    assert found.__name__ == name
    own = {k for k in vars(found) if not k.startswith("__")}
    assert own == {"spec", "size", "recipe"}, "generated classes define no methods"


def test_the_constructor_repeats_nnunets_signature():
    ours = inspect.signature(trainer_class(PREFIX + "UNet3D").__init__).parameters
    assert list(ours) == list(inspect.signature(nnUNetTrainer.__init__).parameters)


@pytest.mark.parametrize("allowed", [True, False], ids=["nnU-Net would", "nnU-Net would not"])
@pytest.mark.parametrize("flag", [True, False], ids=["proven", "not proven"])
def test_compilation_needs_the_familys_flag_and_nnunets_conditions(monkeypatch, flag, allowed):
    monkeypatch.setattr(nnUNetTrainer, "_do_i_compile", lambda self: allowed)
    cls = trainer_class(PREFIX + "UNet3D")
    monkeypatch.setattr(cls, "recipe", Recipe.of(replace(cls.spec, compile=flag)))
    assert cls._do_i_compile(cls.__new__(cls)) is (flag and allowed)


def test_nnunet_goes_on_looking_for_other_names():
    with pytest.raises(RuntimeError, match="Could not find requested nnunet trainer nnUNetTrainer_Nobody"):
        recursive_find_trainer_class_by_name("nnUNetTrainer_Nobody")


def test_an_illegal_word_stops_nnunet_with_our_sentence():
    with pytest.raises(ValueError, match="unknown word 'fast'"):
        recursive_find_trainer_class_by_name(PREFIX + "DualBranchGhost_fast")


def test_trainer_names_are_frozen():
    """They are names of results folders; a new network adds its own, none is ever renamed or removed."""
    with open(FROZEN, encoding="utf-8") as file:
        frozen = json.load(file)
    declared = {spec.trainer: [*spec.sizes, *([""] if default_size(spec) else [])] for spec in specs()}
    assert declared == frozen, "add the new network's names to trainer_names.json"
