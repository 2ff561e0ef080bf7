"""Training by nnU-Net's own entry point, in this process and without worker processes for the data."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint, run_training

from nnunet_ext.trainers.guard import NonFiniteLossError
from tests.trainers import workspace
from tests.trainers.conftest import use

NAME = "nnUNetTrainer_DualBranchGhost_XS_1epochs_iter2_seed7"
CPU = torch.device("cpu")


def train(name=NAME, **options):
    run_training("Dataset999_Tiny", "3d_fullres", 0, name, device=CPU, **options)


def trainer_for(name=NAME):
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    folder = workspace_folder()
    plans = json.loads((folder / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    dataset = json.loads((folder / "dataset.json").read_text())
    return recursive_find_trainer_class_by_name(name)(plans, "3d_fullres", 0, dataset, CPU)


def trainer_for_initial():
    """The weights of a trainer that has just been initialised."""
    trainer = trainer_for()
    trainer.initialize()
    return trainer.network.state_dict()


def workspace_folder():
    return Path(os.environ["nnUNet_preprocessed"]) / workspace.DATASET


def model_folder(results, name=NAME):
    return results / workspace.DATASET / f"{name}__nnUNetPlans__3d_fullres"


def weights(results, name=NAME, checkpoint="checkpoint_final.pth"):
    file = model_folder(results, name) / "fold_0" / checkpoint
    return torch.load(file, map_location="cpu", weights_only=False)["network_weights"]


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for key, value in a.items():
        assert torch.equal(value, b[key]), key


@pytest.fixture(scope="module")
def training(tiny_dataset, tmp_path_factory):
    """One training with validation, made once; validation starts processes that import everything anew."""
    results = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        use(patch, tiny_dataset, results)
        train(export_validation_probabilities=True)
    return results


@pytest.fixture
def trained(training, nnunet):
    """A copy of that training's results."""
    shutil.copytree(training, nnunet)
    return nnunet


def test_training_writes_what_nnunet_writes_and_the_recipe(trained):
    fold = model_folder(trained) / "fold_0"
    assert (fold / "checkpoint_final.pth").is_file()
    assert (fold / "validation" / "summary.json").is_file()
    assert len(list((fold / "validation").glob("*.npz"))) == 2
    recipe = json.loads((fold / "recipe.json").read_text())
    assert (recipe["network"], recipe["size"], recipe["epochs"], recipe["iterations"], recipe["seed"]) == (
        "dualbranch_14_ghostnet",
        "XS",
        1,
        2,
        7,
    )


def test_equal_seeds_give_equal_bits_and_others_do_not(trained, tmp_path, monkeypatch):
    first = weights(trained)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "again"))
    torch.manual_seed(99)
    trainer_for().run_training()
    assert_equal(first, weights(tmp_path / "again"))
    other = trainer_for(NAME.replace("seed7", "seed8"))
    other.initialize()
    stem = "encoder.branches.0.0.conv0.conv.weight"
    assert not torch.equal(other.network.state_dict()[stem], trainer_for_initial()[stem])
    assert torch.equal(trainer_for_initial()[stem], trainer_for_initial()[stem])


def test_validation_alone_repeats_the_validation(trained):
    fold = model_folder(trained) / "fold_0"
    summary = fold / "validation" / "summary.json"
    before = json.loads(summary.read_text())["mean"]
    shutil.rmtree(fold / "validation")
    train(only_run_validation=True)
    assert json.loads(summary.read_text())["mean"] == before


def test_a_training_of_a_version_without_recipes_in_checkpoints_is_judged_by_its_file(trained):
    fold = model_folder(trained) / "fold_0"
    content = torch.load(fold / "checkpoint_final.pth", weights_only=True)
    del content["init_args"]["recipe"]
    torch.save(content, fold / "checkpoint_final.pth")
    path = fold / "recipe.json"
    before = json.dumps({"optimiser": "AdamW", "initial_lr": 0.5, "epochs": 1, "iterations": 2, "seed": 7})
    path.write_text(before)
    with pytest.raises(ValueError, match=r"begun with optimiser AdamW, initial_lr 0\.5 .* go on with optimiser SGD, "):
        train(continue_training=True)
    assert path.read_text() == before


def test_another_optimiser_refuses_to_go_on_and_validates_as_before(trained, monkeypatch):
    fold = model_folder(trained) / "fold_0"
    summary = fold / "validation" / "summary.json"
    before = json.loads(summary.read_text())["mean"]
    cls = type(trainer_for())
    monkeypatch.setattr(cls, "recipe", replace(cls.recipe, optimiser="AdamW"))
    with pytest.raises(ValueError, match="begun with optimiser SGD and would go on with optimiser AdamW; "):
        train(continue_training=True)
    shutil.rmtree(fold / "validation")
    train(only_run_validation=True)
    assert json.loads(summary.read_text())["mean"] == before


def test_an_aborted_training_continues(nnunet):
    name = NAME.replace("1epochs", "2epochs")
    trainer = trainer_for(name)
    trainer.save_every = 1
    trainer.on_epoch_start_original = trainer.on_epoch_start

    def stop():
        trainer.on_epoch_start_original()
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt

    trainer.on_epoch_start = stop
    with pytest.raises(KeyboardInterrupt):
        trainer.run_training()
    fold = model_folder(nnunet, name) / "fold_0"
    (fold / "checkpoint_best.pth").unlink()
    assert (fold / "checkpoint_latest.pth").is_file()
    continued = trainer_for(name)
    maybe_load_checkpoint(continued, True, False)
    assert continued.current_epoch == 1
    continued.run_training()
    log = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    assert log["current_epoch"] == 2
    assert len(log["logging"]["train_losses"]) == 2


def test_a_stock_predictor_needs_no_dataset(trained, tmp_path):
    predictor = nnUNetPredictor(device=CPU, use_mirroring=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model_folder(trained)), (0,))
    assert_equal(predictor.network.state_dict(), weights(trained))
    rng = np.random.default_rng(3)
    image, _ = workspace.case(rng, workspace.FOUR)
    out = predictor.predict_single_npy_array(image, {"spacing": [1.0] * 3}, None, None, False)
    assert out.shape == workspace.SHAPE
    assert set(np.unique(out)) <= {0, 1, 2, 3}


def test_a_dataset_of_two_modalities_in_another_order_works(nnunet_with):
    results = nnunet_with(("FLAIR", "T1c"))
    trainer_for().run_training()
    assert weights(results)["encoder.modality_channels"].tolist() == [1, 0]
    predictor = nnUNetPredictor(device=CPU, use_mirroring=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model_folder(results)), (0,))
    assert predictor.network.encoder.modality_channels.tolist() == [1, 0]


def test_a_dataset_without_flair_is_refused_before_anything_is_created(nnunet_with):
    results = nnunet_with(("T1", "T1ce", "T2", "ADC"))
    copy = Path(os.environ["nnUNet_preprocessed"], workspace.DATASET, "dataset.json")  # which nnU-Net reads
    with pytest.raises(ValueError, match=rf"'ADC'.*give channel_names in {copy} known names.*flair: flair, t2f"):
        trainer_for()
    assert not results.exists() or not list(results.iterdir())


def test_finetuning_on_four_channels_reads_the_right_ones(nnunet_with):
    two = nnunet_with(("T1ce", "FLAIR"))
    trainer_for().run_training()
    assert weights(two)["encoder.modality_channels"].tolist() == [0, 1]
    pretrained = two.parent / "pretrained.pth"
    shutil.copy(model_folder(two) / "fold_0" / "checkpoint_final.pth", pretrained)
    four = nnunet_with(workspace.FOUR)
    finetuned = trainer_for()
    maybe_load_checkpoint(finetuned, False, False, str(pretrained))
    finetuned.run_training()
    assert weights(four)["encoder.modality_channels"].tolist() == [1, 3]
    logs = [f.read_text() for f in (model_folder(four) / "fold_0").glob("training_log*.txt")]
    assert any("The pretrained weights read the channels (0, 1)" in log for log in logs)


@pytest.mark.parametrize("validate", [False, True])
def test_a_checkpoint_for_another_channel_order_is_refused(trained, validate):
    trainer = trainer_for()
    trainer.modality_channels = (0, 3)
    with pytest.raises(ValueError, match=r"checkpoint reads .* from the channels \(1, 3\)"):
        maybe_load_checkpoint(trainer, not validate, validate, None)


@pytest.mark.parametrize(
    ("poison", "where"),
    [("weight", r"encoder\.branches\.1\.0\.conv0\.conv"), ("batch", "the batch itself")],
)
def test_a_loss_that_is_not_finite_stops_training_and_names_the_layer(nnunet, poison, where):
    trainer = trainer_for()
    trainer.initialize()
    batch = {
        "data": torch.randn(1, 4, *workspace.PATCH),
        "target": [torch.zeros(1, 3, *[p // s for p in workspace.PATCH]).bool() for s in (1, 2)],
    }
    if poison == "batch":
        batch["data"][0, 1, 0, 0, 0] = torch.nan
    else:
        with torch.no_grad():
            trainer.network.encoder.branches[1][0].conv0.conv.weight[0] = torch.nan
    before = {k: v.clone() for k, v in trainer.network.state_dict().items()}
    with pytest.raises(NonFiniteLossError, match=where):
        trainer.train_step(batch)
    for key, value in trainer.network.state_dict().items():
        assert torch.equal(value.nan_to_num(), before[key].nan_to_num()), key


def test_the_trainer_for_a_plan_by_dotted_path_is_nnunets_own(nnunet):
    """A plans file may name our network for the stock trainer."""
    folder = workspace_folder()
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    architecture["network_class_name"] = "nnunet_ext.networks.models.DualBranchGhost"
    architecture["arch_kwargs"]["size"] = "XS"
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    dataset = json.loads((folder / "dataset.json").read_text())
    stock = nnUNetTrainer(plans | {"continue_training": False}, "3d_fullres", 0, dataset, CPU)
    stock.initialize()
    ours = trainer_for()
    ours.initialize()
    assert {k: v.shape for k, v in stock.network.state_dict().items()} == {
        k: v.shape for k, v in ours.network.state_dict().items()
    }


def test_nnunets_command_line_reaches_the_same_class(nnunet):
    found = get_trainer_from_args(workspace.DATASET, "3d_fullres", 0, NAME, device=CPU)
    assert type(found).__name__ == NAME
