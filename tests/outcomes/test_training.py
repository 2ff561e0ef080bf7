"""Case-level targets by nnU-Net's own command: what it writes, what it refuses, and that it goes on exactly."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

from nnunet_ext.networks.registry import PREFIX
from nnunet_ext.outcomes import results as tables
from nnunet_ext.outcomes.model import load_model
from nnunet_ext.outcomes.trainer import CaseTrainer
from nnunet_ext.trainers import progress, trainer_class
from nnunet_ext.trainers.grammar import parse
from tests.outcomes.conftest import CPU, NAME, SCHEMA, TABLE, fold_of, train, write_targets
from tests.trainers import workspace
from tests.trainers.conftest import use


def weights(fold, checkpoint="checkpoint_final.pth"):
    return torch.load(fold / checkpoint, map_location="cpu", weights_only=True)["network_weights"]


def trainer_for(root, name=NAME):
    folder = root / "preprocessed" / workspace.DATASET
    plans = json.loads((folder / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    return trainer_class(name)(plans, "3d_fullres", 0, json.loads((folder / "dataset.json").read_text()), CPU)


# --- what a training leaves behind


def test_the_table_of_the_validation_cases(trained):
    found = tables.read(fold_of(trained) / "validation")
    assert list(found.columns) == ["grade", "stage", "score", "days"]
    assert sorted(found.of("stage").index) == ["case3", "case4"]
    assert set(found.table["fold"]) == {"0"}
    assert set(found.table["seed"]) == {"7"}
    assert found.of("days").loc["case3", "censored"] == 1
    assert found.of("grade").loc["case4", "truth"] == "HGG"
    assert found.of("grade").loc["case4", "patient"] == "case4"
    row = found.of("stage").loc["case3"]
    shares = [row[f"p_{level}"] for level in ("I", "II", "III")]
    assert sum(shares) == pytest.approx(1, abs=1e-6)
    assert row["prediction"] == ("I", "II", "III")[int(np.argmax(shares))]
    day = found.of("days").loc["case4"]
    assert 0 < day["lower"] < float(day["prediction"]) < day["upper"]
    assert math.isnan(found.of("score").loc["case3", "lower"]), "two cases are too few for a conformal interval"


def test_the_log_has_the_skill_of_each_column_and_the_parts_of_the_loss(trained):
    first, last = progress.read(fold_of(trained))
    assert list(last["dice"]) == ["grade", "stage", "score", "days"]
    assert last["mean_dice"] == pytest.approx(np.mean(list(last["dice"].values())))
    parts = [last["loss"][f"loss of {name}"] for name in last["dice"]]
    assert last["loss"]["training"] == pytest.approx(sum(parts), rel=1e-5)
    assert first["epoch"] == 0


def test_the_model_knows_its_columns_without_the_dataset(trained):
    plans = json.loads((fold_of(trained).parent / "plans.json").read_text())
    assert plans["outcomes"] == {
        "columns": tables.Schema(tables.read(fold_of(trained) / "validation").columns).as_dict()["columns"]
    }


def test_a_prediction_is_the_networks_output_for_the_whole_case(trained, nnunet, case_dataset):
    """Slow twin: by hand, from the weights on disk."""
    trainer = trainer_for(case_dataset)
    trainer.initialize()
    trainer.network.load_state_dict(weights(fold_of(trained)))
    network = trainer.network.eval()
    data = torch.from_numpy(
        trainer.dataset_class(trainer.preprocessed_dataset_folder, ["case4"]).load_case("case4")[0][:]
    )
    every = [data[:, z : z + 16, y : y + 16, 0:16] for z in (0, 4) for y in (0, 2)]
    with torch.no_grad():
        outputs = torch.stack([network(p[None])[0] for p in every]).mean(0)
    score = network.heads.read(outputs[None])["score"]["value"].item()
    found = tables.read(fold_of(trained) / "validation").of("score").loc["case4", "prediction"]
    assert float(found) == pytest.approx(score, rel=1e-5)


def test_an_interrupted_training_goes_on_as_if_there_had_been_none(trained, nnunet, monkeypatch):
    name = NAME.replace("NoAug", "NoAug_SaveEvery1")  # which changes no number
    run_epoch = CaseTrainer._run_epoch

    def stopped(trainer):
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt
        run_epoch(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(CaseTrainer, "_run_epoch", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(name)
    train(name, continue_training=True)
    a, b = weights(fold_of(trained)), weights(fold_of(nnunet, name))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    tables_of = [fold / "validation" / tables.TABLE_FILE for fold in (fold_of(trained), fold_of(nnunet, name))]
    assert tables_of[0].read_text() == tables_of[1].read_text()


def test_a_training_does_not_go_on_with_other_columns(trained, nnunet, case_dataset):
    trainer = trainer_for(case_dataset)
    content = torch.load(fold_of(trained) / "checkpoint_final.pth", weights_only=True)
    del content["init_args"]["plans"]["outcomes"]["columns"]["days"]
    with pytest.raises(ValueError, match=r"declares \(days: not there then, .* now\)"):
        trainer.load_checkpoint(content)


def test_a_segmentation_checkpoint_of_the_same_network_is_a_start(nnunet, case_dataset, tmp_path, capsys):
    """By nnU-Net's own function, which leaves the heads as they are."""
    trainer = trainer_for(case_dataset)
    trainer.initialize()
    torch.manual_seed(3)
    name = NAME.replace("Case", "")
    whole = trainer_class(name).build_network_architecture(
        trainer.plans_manager, trainer.configuration_manager, 4, 3, True
    )
    torch.save({"network_weights": whole.state_dict()}, tmp_path / "segmentation.pth")
    heads = {key: value.clone() for key, value in trainer.network.heads.state_dict().items()}
    load_pretrained_weights(trainer.network, tmp_path / "segmentation.pth")
    theirs = whole.state_dict()
    assert all(
        torch.equal(value, theirs[f"encoder.{key}"]) for key, value in trainer.network.encoder.state_dict().items()
    )
    assert all(torch.equal(value, heads[key]) for key, value in trainer.network.heads.state_dict().items())
    report = trainer.arrivals.table()
    assert "tensors are taken" in report


@pytest.mark.parametrize("network", ["CaseResNet18MultiScale", "CaseEfficientNetB0", "CaseMobileUNETR_XS"])
def test_slices_are_trained_in_2d_and_a_case_is_the_mean_of_its_slices(nnunet, case_dataset, network):
    name = f"{PREFIX}{network}_NoAug_1epochs_iter1_seed1"
    train(name, "2d")
    found = tables.read(fold_of(nnunet, name, "2d") / "validation")
    assert sorted(found.of("grade").index) == ["case3", "case4"]


# --- what is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": TABLE.replace("case4,HGG,III,3.5,200,0,P4\n", "")}, "no row of the case case4"),
        ({"table": TABLE.replace("LGG", "HGG")}, "all are HGG"),
        ({"table": TABLE.replace("case0,LGG", "case0,GBM")}, "'GBM' is no level"),
        ({"schema": {"format": 1, "columns": {}}}, "declares no target"),
    ],
)
def test_bad_targets_are_one_sentence_and_nothing_is_written(tmp_path, monkeypatch, change, message):
    folder = workspace.write(tmp_path)
    write_targets(folder, **change)
    use(monkeypatch, tmp_path, tmp_path / "results")
    with pytest.raises(ValueError, match=message):
        train()
    assert not list((tmp_path / "results").rglob("*.pth"))


SPLITS = [{"train": ["case0", "case1", "case2"], "val": ["case3", "case4"]}]


@pytest.mark.parametrize(
    ("splits", "change", "message"),
    [
        (None, {}, "splits_final.json, and folds of nnU-Net's own part patients; make them by nnunet_ext targets"),
        ([], {}, "has 0 folds and no fold 0"),
        (
            SPLITS,
            {"table": TABLE.replace(",P4", ",P0")},
            "validates with case4 and trains with case0, which are of one",
        ),
    ],
)
def test_folds_that_part_a_patient_are_not_trained(tmp_path, monkeypatch, splits, change, message):
    folder = workspace.write(tmp_path)
    write_targets(folder, **change)
    path = folder / "splits_final.json"
    path.write_text(json.dumps(splits))
    if splits is None:
        path.unlink()
    use(monkeypatch, tmp_path, tmp_path / "results")
    with pytest.raises(ValueError, match=message):
        train()
    assert path.is_file() == (splits is not None), "nnU-Net has made its own"


def test_a_case_without_a_covariate_is_told_before_the_training(tmp_path, monkeypatch):
    """A validation case: without this the training would end at its very last step."""
    folder = workspace.write(tmp_path)
    rows = TABLE.splitlines()
    table = "\n".join(f"{row},{age}" for row, age in zip(rows, ["age", 40, 50, 60, 70, ""], strict=True))
    write_targets(folder, {**SCHEMA, "covariates": {"age": {"coding": "z"}}}, table)
    use(monkeypatch, tmp_path, tmp_path / "results")
    with pytest.raises(ValueError, match="The case case4: The covariate age is missing; fill the cell, or declare"):
        train(NAME.replace("seed7", "Covariates_seed7"))


def test_a_validation_says_whose_weights_it_is_of(trained, case_dataset, tmp_path, monkeypatch):
    results = shutil.copytree(trained, tmp_path / "results")
    assert tables.read(fold_of(results) / "validation").facts["checkpoint"] == "checkpoint_final.pth"
    use(monkeypatch, case_dataset, results)
    train(only_run_validation=True, val_with_best=True)
    assert tables.read(fold_of(results) / "validation").facts["checkpoint"] == "checkpoint_best.pth"


def test_a_time_of_zero_may_be_censored(tmp_path, monkeypatch):
    folder = workspace.write(tmp_path)
    write_targets(folder, table=TABLE.replace("650,1", "0,1"))
    use(monkeypatch, tmp_path, tmp_path / "results")
    train()
    assert tables.read(fold_of(tmp_path / "results") / "validation").of("days").loc["case3", "censored"] == 1


@pytest.mark.parametrize("word", ["Balanced", "Smooth1en1"])
def test_words_for_classes_need_one(nnunet, case_dataset, word):
    order = f"{word}_NoAug_2epochs_iter2_Target3_seed7"
    with pytest.raises(ValueError, match=f"{word.rstrip('1en')} is for columns of the kind class"):
        trainer_for(case_dataset, f"{PREFIX}CaseDualBranchGhost_XS_{order}")


def test_without_targets_the_sentence_names_the_file(tmp_path, monkeypatch):
    workspace.write(tmp_path)
    use(monkeypatch, tmp_path, tmp_path / "results")
    with pytest.raises(ValueError, match=r"There is no .*targets\.json"):
        train()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CaseDualBranchGhost_NoDS", "sets the deep supervision, which is for networks of segmentation and detection"),
        ("CaseDualBranchGhost_Tversky", "sets the loss"),
        ("DualBranchGhost_Balanced", "sets the balance of levels, which is for networks of case-level alone"),
        ("UNETR_Target1", "sets the targets"),
        ("CaseUNETR_Smooth1", "lies between 0 and 1"),
        ("CaseUNETR_Targetall", "unknown word"),
    ],
)
def test_words_of_another_task_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        parse(PREFIX + name)


# --- words


@pytest.mark.parametrize(
    ("word", "fields"),
    [
        ("Smooth2.5en1", {"smoothing": 0.25}),
        ("Balanced", {"balanced": True}),
        ("Hetero", {"heteroscedastic": True}),
        ("Joint5en1", {"joint": 0.5}),
        ("Target2", {"targets": "2"}),
        ("Target1and3", {"targets": "1and3"}),
        ("Freeze5", {"frozen_epochs": 5}),
    ],
)
def test_a_word_sets_its_fields(word, fields):
    plain, worded = (parse(f"{PREFIX}CaseDualBranchGhost{suffix}").recipe.as_dict() for suffix in ("", f"_{word}"))
    assert {name: value for name, value in worded.items() if plain[name] != value} == fields


def test_an_epoch_begins_with_the_statistics_of_what_is_frozen_held(nnunet, case_dataset):
    trainer = trainer_for(case_dataset, PREFIX + "CaseResNet18_Freeze1_Unfreeze1_2epochs_iter1_Target1_seed1")
    trainer.initialize()
    network = trainer.network
    for epoch, training in ((0, [False, False]), (1, [False, True])):
        trainer.current_epoch = epoch
        trainer.on_train_epoch_start()
        assert [network.encoder.bn1.training, network.encoder.layer4[0].bn1.training] == training
        assert network.heads.training


def test_with_a_spread_a_numbers_interval_is_its_heads(nnunet, case_dataset):
    """Two validation cases would be too few for a conformal one; the skill is of the value alone."""
    name = PREFIX + "CaseUNet3D_XS_Hetero_NoAug_1epochs_iter1_Target3_seed7"
    train(name)
    found = tables.read(fold_of(nnunet, name) / "validation").of("score")
    lower, upper = found["lower"].astype(float), found["upper"].astype(float)
    assert (lower < upper).all()
    np.testing.assert_allclose((lower + upper) / 2, found["prediction"].astype(float))
    model = load_model(fold_of(nnunet, name).parent, [0], "checkpoint_final.pth", CPU)
    assert model.columns[0].spread
    assert model.reach == {}
    trainer = trainer_for(case_dataset, name)
    trainer.initialize()
    outputs, target = torch.tensor([[0.5, 3.0]]), torch.tensor([[[1.5, 0.0]]])
    assert trainer._mean_losses(outputs, target).tolist() == pytest.approx([0.5])


def test_without_a_number_there_is_no_spread(nnunet, case_dataset):
    with pytest.raises(ValueError, match="Hetero is for columns of the kind regression, and none is trained"):
        trainer_for(case_dataset, NAME.replace("NoAug", "Hetero_NoAug").replace("_seed7", "_Target1_seed7"))


def test_a_word_chooses_columns_and_others_change_the_loss(nnunet, case_dataset):
    name = NAME.replace("NoAug", "Smooth1en1_Balanced_NoAug").replace("_seed7", "_Target1and3_seed7")
    trainer = trainer_for(case_dataset, name)
    assert isinstance(trainer, CaseTrainer)
    trainer.initialize()
    assert [head.column.name for head in trainer.network.heads.each] == ["grade", "score"]
    loss = trainer.loss.loss
    assert loss.smoothing == 0.1
    assert loss.weights["grade"].tolist() == pytest.approx([1 / (2 * 2 / 5), 1 / (2 * 3 / 5)])


def test_places_that_there_are_not_are_refused(nnunet, case_dataset):
    with pytest.raises(ValueError, match="1 grade, 2 stage, 3 score, 4 days"):
        trainer_for(case_dataset, NAME.replace("_seed7", "_Target5_seed7"))


# --- the measure of an epoch


def test_the_skill_is_1_less_the_loss_over_that_of_the_base_rates(nnunet, case_dataset):
    trainer = trainer_for(case_dataset)
    trainer.initialize()
    base = trainer._base_rate_losses
    counts = np.array([[1, 2, 0, 1], [3, 0, 0, 1]])
    means = np.stack([base * 0.5, base * 0.25])
    means[:, 3] = base[3] * 9
    assert trainer.skills(means, counts) == pytest.approx([1 - (0.5 + 3 * 0.25) / 4, 0.5, math.nan, -1], nan_ok=True)
    grades = torch.tensor([0.0, 1.0, 1.0])
    shares = torch.tensor([2 / 5, 3 / 5])
    assert base[0] == pytest.approx(-shares[grades.long()].log().mean().item(), rel=1e-5)


def test_a_batch_carries_the_rows_of_its_cases(nnunet, case_dataset):
    trainer = trainer_for(case_dataset)
    trainer.initialize()
    target = trainer._with_targets({"keys": ["case2", "case1"], "target": None})["target"]
    assert target.shape == (2, 4, 2)
    assert target[:, 0, 0].tolist() == [1, 1]
    assert target[:, 1, 0].tolist() == [1, 2]
    assert torch.isnan(target[0, 2, 0])
    assert target[:, 3, 1].tolist() == [1, 0]
    logs = np.log([700, 120, 400])
    assert target[1, 3, 0].item() == pytest.approx((np.log(120) - logs.mean()) / logs.std(), rel=1e-5)
    scores = np.array([1.5, 4.0])
    assert target[1, 2, 0].item() == pytest.approx((4 - scores.mean()) / scores.std(), rel=1e-5)
