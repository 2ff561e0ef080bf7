"""What a recipe does to a whole training by nnU-Net's entry point: intervals, early stopping, the recipe's travels."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import maybe_load_checkpoint

from nnunet_ext.trainers import applying, progress, stopping
from nnunet_ext.trainers.recipe import Recipe
from nnunet_ext.trainers.volumes import case_dice
from tests.trainers import workspace
from tests.trainers.test_training import model_folder, trainer_for

QUICK = "nnUNetTrainer_UNet3D_XS_NoAug_{}_iter1_seed7"


def quick(trainer):
    """A trainer that does not draw its curves, which takes longer than its epochs."""
    made = trainer_for(trainer)
    made.logger.plot_progress_png = lambda folder: None
    return made


def name(words):
    return QUICK.format(words)


def checkpoint(results, trainer, file="checkpoint_final.pth"):
    return torch.load(model_folder(results, trainer) / "fold_0" / file, weights_only=True)


def fold(results, trainer):
    return model_folder(results, trainer) / "fold_0"


# --- rules on the log


@pytest.mark.parametrize(
    ("history", "since", "epochs"),
    [
        ([], 0, 0),
        ([0.1], 0, 0),
        ([0.1, 0.2], 0, 0),
        ([0.2, 0.1], 0, 1),
        ([0.2, 0.2, 0.2], 0, 2),
        ([0.5, 0.1, 0.1, 0.1], 2, 1),
    ],
)
def test_epochs_without_gain(history, since, epochs):
    assert stopping.epochs_without_gain(history, since) == epochs


def test_when_a_stop_is_due():
    history = [0.1, 0.5, 0.4, 0.4, 0.4]
    assert stopping.is_due(history, 3, [])
    assert not stopping.is_due(history, 4, [])
    assert not stopping.is_due(history, None, [])
    assert not stopping.is_due(history, 3, [{"epoch": 4, "stopped": False}]), "the count begins anew"
    assert stopping.is_due([*history, 0.4, 0.4, 0.4], 3, [{"epoch": 4, "stopped": False}])
    assert stopping.stopped([{"epoch": 4, "stopped": True}])
    assert not stopping.stopped([])


# --- trainings

MANY = (
    "nnUNetTrainer_DualBranchGhost_XS_CoordConv_AdamW3en4_WD1en5_Cosine_Warmup1_Dice70CE30_Clip1_Acc2_NoDS_BF16_NoMirror_"
    "Freeze1_ValEvery2_SaveEvery1steps_Stop5_3epochs_iter2_seed42"
)


def test_many_words_at_once_train_resume_and_predict_in_their_precision(nnunet):
    """Interrupted in the last epoch and continued; nnU-Net's own predictor computes in bfloat16 without other heads."""
    trainer = quick(MANY)
    original = trainer.train_step

    def step(batch):
        if trainer.current_epoch == 2:
            raise KeyboardInterrupt
        return original(batch)

    trainer.train_step = step
    with pytest.raises(KeyboardInterrupt):
        trainer.run_training()
    again = quick(MANY)
    again.logger.resume = True
    maybe_load_checkpoint(again, True, False)
    assert again.current_epoch == 1, "with both steps of the second epoch done"
    again.run_training()
    final = checkpoint(nnunet, MANY)
    assert final["current_epoch"] == 3
    assert final["logging"]["lrs"] == pytest.approx([1.5e-4, 3e-4, 1.5e-4])
    assert len([key for key in final["network_weights"] if ".seg_layers." in key]) == 2
    assert [record["epoch"] for record in progress.read(fold(nnunet, MANY))] == [0, 1, 2]
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model_folder(nnunet, MANY)), (0,))
    seen = []
    predictor.network.decoder.seg_layers[-1].register_forward_hook(lambda _m, _i, out: seen.append(out.dtype))
    image, _ = workspace.case(np.random.default_rng(3), workspace.FOUR)
    predictor.predict_single_npy_array(image, {"spacing": [1.0] * 3}, None, None, False)
    assert set(seen) == {torch.bfloat16}


BATCH = "nnUNetTrainer_UNet3D_XS_Batch3_NoAug_1epochs_iter1_seed7"


def test_a_batch_of_another_size_than_the_plans(nnunet):
    trainer = quick(BATCH)
    trainer.run_training()
    assert trainer.batch_size == 3
    assert len(next(trainer.dataloader_train.source)["keys"]) == 3
    assert json.loads((fold(nnunet, BATCH) / "recipe.json").read_text())["batch"] == 3
    plans = json.loads((model_folder(nnunet, BATCH) / "plans.json").read_text())
    assert plans["configurations"]["3d_fullres"]["batch_size"] == 2, "the plans are as they were"
    other = quick(name("1epochs"))
    other.initialize()
    assert other.batch_size == 2


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_a_batch_is_shared_by_processes_as_nnunet_shares_the_plans(nnunet, monkeypatch, processes):
    trainer = quick(BATCH)
    trainer.is_ddp, shares = True, []
    for rank in range(processes):
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda: processes)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        if processes > 3:
            with pytest.raises(ValueError, match="Batch3 is shared by 4 processes, and each needs a case"):
                trainer._set_batch_size_and_oversample()
            return
        trainer._set_batch_size_and_oversample()
        shares.append(trainer.batch_size)
    assert sum(shares) == 3


@pytest.fixture
def dice_of_volumes(monkeypatch):
    """Plays the Dice on full volumes: of the network now, then of the best checkpoint, and so on."""
    told = []
    monkeypatch.setattr(applying, "mean_dice", lambda trainer: told.pop(0))
    return told


def falling(trainer, values=(0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.04, 0.03)):
    """Makes the pseudo Dice of the epochs fall."""
    original = trainer.logger.log

    def log(key, value, step):
        original(key, values[step] if key == "mean_fg_dice" else value, step)

    trainer.logger.log = log
    return trainer


def test_a_training_stops_when_full_volumes_confirm_it_and_is_not_gone_on_with(nnunet, dice_of_volumes):
    stop = name("Stop2_8epochs")
    dice_of_volumes += [0.6, 0.5, 0.3, 0.5]  # better than the best at first, then worse
    trainer = falling(quick(stop))
    trainer.run_training()
    final = checkpoint(nnunet, stop)
    assert final["current_epoch"] == 5, "due after epoch 3 of 1 to 8, confirmed two epochs later"
    checks = [(check["epoch"], check["stopped"]) for check in final["init_args"]["stopping"]]
    assert checks == [(2, False), (4, True)]
    assert dice_of_volumes == []
    again = quick(stop)
    again.logger.resume = True
    maybe_load_checkpoint(again, True, False)
    again.run_training()
    assert again.current_epoch == 5
    after = checkpoint(nnunet, stop)
    for key, value in after["network_weights"].items():
        assert torch.equal(value, final["network_weights"][key]), key


def test_the_best_checkpoint_is_looked_at_and_the_present_weights_come_back(nnunet, monkeypatch):
    stop = name("Stop1_3epochs")
    seen = []
    monkeypatch.setattr(
        applying, "mean_dice", lambda t: seen.append({k: v.clone() for k, v in t.network.state_dict().items()}) or 0.5
    )
    trainer = falling(quick(stop))
    trainer.run_training()
    now, best = seen
    expected = checkpoint(nnunet, stop, "checkpoint_best.pth")["network_weights"]
    assert all(torch.equal(best[key], value) for key, value in expected.items())
    assert all(torch.equal(now[key], value) for key, value in trainer.network.state_dict().items())
    assert any(not torch.equal(now[key], best[key]) for key in now)


def test_full_volumes_are_segmented_and_compared(nnunet):
    from nnunet_ext.trainers.volumes import mean_dice

    trainer = quick(name("NoDS_1epochs").replace("NoAug_NoDS", "NoDS_NoAug"))
    trainer.initialize()
    trainer.network.train()
    dice = mean_dice(trainer)
    assert 0 <= dice < 0.5, "untrained"
    assert not trainer.network.decoder.deep_supervision


class Labels:
    """What the comparison reads of nnU-Net's label manager."""

    def __init__(self, regions=None, ignore=None):
        self.has_regions, self.foreground_regions, self.foreground_labels = bool(regions), regions, [1, 2]
        self.has_ignore_label, self.ignore_label = ignore is not None, ignore


def test_dice_of_a_case_by_hand():
    predicted, truth = np.array([[[1, 1, 2, 0]]]), np.array([[[1, 2, 2, 9]]])
    assert case_dice(predicted, truth, Labels()) == [pytest.approx(2 / 3), pytest.approx(2 / 3)]
    assert case_dice(predicted, truth, Labels([(1, 2), (7,)]))[0] == 1
    assert np.isnan(case_dice(predicted, truth, Labels([(1, 2), (7,)]))[1])
    predicted[..., 3] = 1
    assert case_dice(predicted, truth, Labels([(1,)], ignore=9)) == [pytest.approx(2 / 3)]


def test_epochs_between_validations_repeat_the_last_values(nnunet):
    every = name("ValEvery2_4epochs")
    trainer = quick(every)
    calls = []
    original = trainer.validation_step
    trainer.validation_step = lambda batch: calls.append(trainer.current_epoch) or original(batch)
    trainer.run_training()
    assert calls == [0, 2, 3], "the first, every second, the last"
    log = checkpoint(nnunet, every)["logging"]
    for key in ("mean_fg_dice", "ema_fg_dice", "val_losses", "dice_per_class_or_region"):
        assert len(log[key]) == 4, key
        assert log[key][1] == log[key][0], key
    assert log["ema_fg_dice"][2] == pytest.approx(0.9 * log["ema_fg_dice"][0] + 0.1 * log["mean_fg_dice"][2])
    lines = [json.loads(line) for line in (fold(nnunet, every) / "progress.jsonl").read_text().splitlines()]
    assert [line["validated"] for line in lines] == [True, False, True, True]


@pytest.mark.parametrize(("word", "written"), [("SaveEvery2", [(2, 0)]), ("SaveEvery3steps", [(1, 1), (2, 2)])])
def test_the_save_interval_is_of_epochs_or_of_steps(nnunet, monkeypatch, word, written):
    trainer = quick(f"nnUNetTrainer_UNet3D_XS_NoAug_{word}_4epochs_iter2_seed7")
    saved = []
    original = trainer._write

    def write(file, content):
        if file == "checkpoint_latest.pth":
            saved.append((content["current_epoch"], content["nnunet_ext"]["step"]))
        original(file, content)

    trainer._write = write
    trainer.run_training()
    assert saved == written


def test_the_recipe_travels_in_the_checkpoint_and_is_compared(nnunet):
    trainer = quick(name("2epochs"))
    trainer.save_every = 1
    trainer.run_training()
    stored = checkpoint(nnunet, name("2epochs"))["init_args"]["recipe"]
    assert stored == type(trainer).recipe.as_dict()
    cls = type(trainer)
    another = replace(cls.recipe, weight_decay=0.5, schedule="cosine")
    again = cls.__new__(type(cls.__name__, (cls,), {"recipe": another}))
    recipe_file = Path(fold(nnunet, name("2epochs")), "recipe.json")
    recipe_file.unlink()  # it is for people; what counts is in the checkpoint
    again.__init__(*_arguments(trainer))
    maybe_load_checkpoint(again, True, False)
    with pytest.raises(
        ValueError, match=r"begun with weight_decay 3e-05, schedule poly and would go on with weight_decay"
    ):
        again.run_training()


def _arguments(trainer):
    plans = trainer.plans_manager.plans | {"continue_training": False}
    return (
        plans,
        "3d_fullres",
        0,
        json.loads(Path(trainer.preprocessed_dataset_folder_base, "dataset.json").read_text()),
        torch.device("cpu"),
    )


def test_what_an_old_file_lacks_was_nnunets():
    recipe = Recipe(optimiser="AdamW", weight_decay=1e-2)
    old = {"optimiser": "AdamW", "initial_lr": 1e-2}
    assert recipe.changed_since(old) == {"weight_decay": (3e-5, 1e-2)}
    assert recipe.changed_since({}) == {"optimiser": ("SGD", "AdamW"), "weight_decay": (3e-5, 1e-2)}
    assert replace(recipe, compile=False, save_every=7).changed_since(recipe.as_dict()) == {}
