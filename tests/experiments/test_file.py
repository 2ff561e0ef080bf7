"""An experiment's file and flags."""

import argparse
from pathlib import Path

import pytest

from nnunet_ext.commands import sweep as command
from nnunet_ext.experiments import file
from nnunet_ext.experiments.values import Cascade

LEAST = "dataset: 501\ntrainers: [UNet3D]\n"
DOCUMENT = Path(__file__).parents[2] / "docs" / "experiments.md"


def sweep(text):
    return file.sweep_of(file.parse_yaml(text, "x.yaml"), "x.yaml")


def asked(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.asked(parser.parse_args([str(word) for word in words]))


def test_what_is_not_said_has_the_defaults_of_the_table():
    found = sweep(LEAST)
    assert (found.dataset, found.trainers) == ("501", ("UNet3D",))
    assert all(getattr(found, name) == file._usual(name) for name in file.KEYS if name not in ("dataset", "trainers"))


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("seeds: 3", "seeds", (3,)),
        ("seeds: [3, 1]", "seeds", (3, 1)),
        ("folds: all", "folds", ("all",)),
        ("folds: [0, all]", "folds", (0, "all")),
        ("words: [XS, 2epochs]", "words", {"*": ("XS", "2epochs")}),
        ("words: {UNETR: Cosine, 'Dual*': [SGD, XS]}", "words", {"UNETR": ("Cosine",), "Dual*": ("SGD", "XS")}),
        ("test: no", "test", "none"),
        ("test:", "test", "none"),
        ("cascade: yes", "cascade", Cascade()),
        ("cascade: ROIUNet3D_Tiny", "cascade", Cascade("ROIUNet3D_Tiny")),
        ("cascade: {plans: P, settings: {merge: max}}", "cascade", Cascade(plans="P", settings={"merge": "max"})),
        ("cascade: no", "cascade", None),
        ("gpu_memory: 24", "gpu_memory", 24.0),
        ("retries: 0", "retries", 0),
        ("jobs:", "jobs", None),
    ],
)
def test_values(text, field, value):
    assert getattr(sweep(LEAST + text), field) == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (LEAST + "sedes: [1]", "unknown key 'sedes'; nearest: seeds"),
        (LEAST + "cascade: {setings: {}}", "cascade: It has the unknown key 'setings'; nearest: settings"),
        (LEAST + "cascade: {settings: {crop: 1}}", "unknown key 'crop'; nearest: crop_size"),
        (LEAST + "seeds: [1, 2, 1]", "seeds: seed 1 is there twice"),
        (LEAST + "folds: [0, 0]", "folds: fold 0 is there twice"),
        (LEAST + "seeds: []", "seeds: the list is empty"),
        (LEAST + "folds: []", "folds: the list is empty"),
        (LEAST + "seeds: [-1]", "whole number from 0 to 4294967295, not -1"),
        (LEAST + "seeds: [4294967296]", "not 4294967296"),
        (LEAST + "seeds: [1.5]", "not 1.5"),
        (LEAST + "folds: [first]", "whole number from 0 on, not 'first'"),
        (LEAST + "device: gpu", "device: expected cuda, cpu or mps, not 'gpu'"),
        (LEAST + "cost: 1", "cost: expected yes or no, not 1"),
        (LEAST + "jobs: 0", "jobs: expected a whole number from 1 on, not 0"),
        (LEAST + "gpu_memory: .inf", "expected a positive number, not inf"),
        (LEAST + "name: a/b", "expected a name of letters"),
        (LEAST + "seeds: [1]\nseeds: [2]", "has the key 'seeds' twice"),
        (LEAST + "cascade: {settings: {merge: max, merge: max}}", "has the key 'merge' twice"),
        ("dataset: 501", "says no trainers; add `trainers: ...`"),
        ("dataset: 501\ntrainers: []", "says no trainers"),
        ("trainers: UNet3D", "says no dataset"),
        ("trainers: [", "is no YAML: "),
        ("seeds: !!python/object/apply:os.getcwd []", "is no YAML: "),
    ],
)
def test_bad_files_are_told_in_one_sentence(text, told):
    with pytest.raises(ValueError, match=r"x\.yaml") as refused:
        sweep(text)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_must_be_there_and_hold_keys(tmp_path):
    with pytest.raises(ValueError, match="There is no file"):
        file.read(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="should hold keys with values, such as `dataset: 501`, not a list"):
        file.read(tmp_path / "list.yaml")


def test_flags_are_the_same_as_a_file(tmp_path):
    text = (
        "dataset: 501\ntrainers: [UNet3D, 'Dual*']\nwords: {'*': [XS]}\nseeds: [1, 2]\nfolds: [0]\ncost: no\n"
        "cascade: {settings: {crop_size: [64, 64, 64]}}\ngpu_memory: 11.5\n"
    )
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    flags = ["--dataset", 501, "--trainers", "UNet3D", "Dual*", "--words", "{'*': [XS]}", "--seeds", 1, 2]
    flags += ["--folds", 0, "--cost", "no", "--cascade", "{settings: {crop_size: [64, 64, 64]}}", "--gpu-memory", 11.5]
    assert asked(*flags) == asked(path)
    assert asked(path, "--seeds", 7).seeds == (7,), "a flag replaces what the file says"


def test_every_key_is_a_flag():
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert all(f"--{name.replace('_', '-')} VALUE" in parser.format_usage() for name in file.KEYS)


def test_the_document_has_the_table_of_keys():
    assert file.table() in DOCUMENT.read_text(encoding="utf-8")


def test_the_document_shows_files_that_can_be_read():
    examples = [part.partition("```")[0] for part in DOCUMENT.read_text(encoding="utf-8").split("```yaml\n")[1:]]
    assert examples
    for text in examples:
        sweep(text)
