"""`nnunet_ext recipes` and `nnunet_ext extend`."""

import json
from pathlib import Path

import pytest
import torch

from nnunet_ext.cli import main
from nnunet_ext.commands import extend
from nnunet_ext.networks.registry import PREFIX
from nnunet_ext.trainers import catalogue
from nnunet_ext.trainers.grammar import parse, with_epochs
from nnunet_ext.trainers.words import WORDS

DOCUMENT = Path(__file__).parents[2] / "docs" / "trainers.md"
SHORT, LONG = PREFIX + "UNet3D_XS_10epochs_seed7", PREFIX + "UNet3D_XS_20epochs_seed7"


def test_the_words_are_listed(capsys):
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= len(WORDS)
    for word in WORDS:
        assert any(line.startswith(word.shape.replace("`", "")) for line in lines), word.kind


def test_the_recipe_of_a_trainer_is_told(capsys):
    assert main(["recipes", PREFIX + "UNETR_XS_BF16_100epochs"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["network"], told["size"], told["precision"]) == ("unetr", "XS", "BF16")
    assert (told["optimiser"], told["warmup_epochs"], told["epochs"]) == ("AdamW", 10, 100)


@pytest.mark.parametrize("name", ["nnUNetTrainer", PREFIX + "UNETR_fast"])
def test_other_names_are_refused(capsys, name):
    assert main(["recipes", name]) == 2
    assert name in capsys.readouterr().err


def test_the_documented_words_are_those_of_the_table():
    assert f"<!-- words -->\n{catalogue.words()}\n<!-- /words -->" in DOCUMENT.read_text(encoding="utf-8"), (
        "make tables"
    )


def test_what_is_said_of_memory():
    told = {word.kind: catalogue.word_cells()[i][-1] for i, word in enumerate(WORDS, 1)}
    assert told["precision"] == "predicted"
    assert told["schedule"] == "the same"
    assert told["loss"].endswith("Focal, DiceFocal, Tversky: not predicted: `plan` refuses")


# --- extend


@pytest.mark.parametrize(
    ("name", "epochs", "longer"),
    [
        ("UNETR_250epochs", 500, "UNETR_500epochs"),
        ("UNETR_250epochs_seed1", 1000, "UNETR_seed1"),
        ("UNETR", 2000, "UNETR_2000epochs"),
        ("UNETR_XS_BF16_iter5_seed1", 1500, "UNETR_XS_BF16_1500epochs_iter5_seed1"),
    ],
)
def test_the_name_of_a_longer_training(name, epochs, longer):
    assert with_epochs(PREFIX + name, epochs) == PREFIX + longer
    assert parse(PREFIX + longer).recipe.epochs == epochs


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """The results of a training of ten epochs, as far as the command reads them."""
    dataset = tmp_path / "Dataset501_BraTS"
    fold = dataset / f"{SHORT}__nnUNetPlans__3d_fullres" / "fold_0"
    fold.mkdir(parents=True)
    content = {
        "network_weights": {"a": torch.ones(2)},
        "current_epoch": 10,
        "init_args": {
            "configuration": "3d_fullres",
            "recipe": parse(SHORT).recipe.as_dict(),
            "stopping": [{"epoch": 3}],
        },
        "trainer_name": SHORT,
    }
    torch.save(content, fold / "checkpoint_final.pth")
    torch.save(content | {"current_epoch": 8}, fold / "checkpoint_best.pth")
    (fold / "progress.jsonl").write_text('{"epoch": 0}\n')
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    return fold, dataset / f"{LONG}__nnUNetPlans__3d_fullres" / "fold_0"


def call(*options):
    return main(["extend", "501", "3d_fullres", "0", "-tr", SHORT, *options])


def test_a_finished_training_goes_on_under_the_longer_name(finished, capsys):
    before, after = finished
    assert call("--epochs", "20") == 0
    latest = torch.load(after / "checkpoint_latest.pth", weights_only=True)
    assert latest["trainer_name"] == LONG
    assert latest["init_args"]["recipe"] == parse(LONG).recipe.as_dict()
    assert "stopping" not in latest["init_args"]
    assert latest["init_args"]["extended"][0]["epochs"] == 10
    assert latest["init_args"]["extended"][0]["recipe"]["epochs"] == 10
    assert torch.load(after / "checkpoint_best.pth", weights_only=True)["current_epoch"] == 8
    assert (after / "progress.jsonl").read_text() == '{"epoch": 0}\n'
    assert torch.load(before / "checkpoint_final.pth", weights_only=True)["trainer_name"] == SHORT
    told = capsys.readouterr().out
    assert "10 of 20 epochs are done. The learning rate goes from 0.00126 to 0.00536." in told
    assert f"nnUNetv2_train 501 3d_fullres 0 -tr {LONG} --c" in told
    assert call("--epochs", "20") == 2, "there is one already"


def test_what_cannot_be_extended_is_told(finished, capsys):
    before, _ = finished
    assert call("--epochs", "10") == 2
    assert "has 10 epochs already" in capsys.readouterr().err
    (before / "checkpoint_final.pth").unlink()
    assert call("--epochs", "20") == 2
    assert "has not ended" in capsys.readouterr().err


def test_an_extension_remembers_the_earlier_ones():
    content = {"init_args": {"extended": [{"epochs": 5}]}, "trainer_name": "b", "current_epoch": 10}
    made = extend.extended(content, "c", {"epochs": 20})
    assert [part["epochs"] for part in made["init_args"]["extended"]] == [5, 10]
