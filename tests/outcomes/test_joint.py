"""One encoder for heads and segmentation: the loss is the stated sum, and prediction is the heads' alone."""

import json

import numpy as np
import pytest
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

from nnunet_ext.networks.registry import PREFIX
from nnunet_ext.outcomes import results as tables
from nnunet_ext.outcomes.joint import JointTrainer, hits_and_errors
from nnunet_ext.outcomes.model import load_model
from nnunet_ext.outcomes.pixels import LABELS
from nnunet_ext.trainers import progress, trainer_class
from nnunet_ext.trainers.grammar import parse
from tests.outcomes.conftest import CPU, fold_of, train
from tests.outcomes.test_training import trainer_for
from tests.trainers import workspace
from tests.trainers.conftest import use

WORDS = "Joint5en1_NoAug_1epochs_iter2_seed7"
NAME = f"{PREFIX}CaseDualBranchGhost_XS_{WORDS}"
SEGMENTING = f"{PREFIX}DualBranchGhost_XS_NoAug_1epochs_iter2_seed7"


@pytest.fixture(scope="module")
def joint(case_dataset, tmp_path_factory):
    """The results of one training; tests do not write into it."""
    results = tmp_path_factory.mktemp("joint")
    with pytest.MonkeyPatch.context() as patch:
        use(patch, case_dataset, results)
        train(NAME)
    return results


def initialised(root, name=NAME):
    trainer = trainer_for(root, name)
    trainer.initialize()
    trainer.set_deep_supervision_enabled(True)
    return trainer


def batch_of(trainer):
    """A batch as nnU-Net's loader makes it for a decoder of two resolutions."""
    torch.manual_seed(5)
    segmentations = [torch.randint(0, 2, (2, 3, size, size, size)).bool() for size in (16, 8)]
    return {"keys": ["case0", "case1"], "data": torch.randn(2, 4, 16, 16, 16), "target": segmentations}


def test_a_training_leaves_the_table_of_the_heads_and_tells_all_parts_of_its_loss(joint):
    found = tables.read(fold_of(joint, NAME) / "validation")
    assert sorted(found.of("grade").index) == ["case3", "case4"]
    loss = progress.read(fold_of(joint, NAME))[-1]["loss"]
    columns = sum(loss[f"loss of {name}"] for name in ("grade", "stage", "score", "days"))
    assert loss["training"] == pytest.approx(columns + 0.5 * (loss["overlap"] + loss["voxels"]), rel=1e-4)
    told = progress.read(fold_of(joint, NAME))[-1]["segmentation_dice"]
    assert list(told) == ["whole tumor", "tumor core", "enhancing tumor"]
    assert all(0 <= dice <= 1 for dice in told.values())
    log = next(fold_of(joint, NAME).glob("training_log*")).read_text()
    assert f"Pseudo dice of the segmentation: whole tumor {told['whole tumor']:.4f}" in log
    assert json.loads((fold_of(joint, NAME) / "recipe.json").read_text())["joint"] == 0.5


def test_the_loss_is_that_of_the_columns_and_so_many_times_nnunets(nnunet, case_dataset):
    """Slow twin: both losses by trainers that have one of them."""
    trainer = initialised(case_dataset)
    assert isinstance(trainer, JointTrainer)
    columns, segmentation = (initialised(case_dataset, n) for n in (NAME.replace("Joint5en1_", ""), SEGMENTING))
    batch = batch_of(trainer)
    found, target = trainer.network(batch["data"]), trainer._with_targets(batch)["target"]
    expected = columns.loss(found[0], target[0]) + 0.5 * segmentation.loss(found[1:], batch["target"])
    torch.testing.assert_close(trainer.loss(found, target), expected)
    trainer.loss(found, target).backward()
    # nnU-Net's loss of one process gives the lowest resolution no weight
    without = {name for name, p in trainer.network.named_parameters() if p.grad is None}
    assert without == {"decoder.seg_layers.0.weight", "decoder.seg_layers.0.bias"}


def test_a_batch_is_learnt_by_heads_and_decoder(nnunet, case_dataset):
    trainer = initialised(case_dataset)
    optimiser = torch.optim.AdamW(trainer.network.parameters(), 3e-3)
    batch = trainer._with_targets(batch_of(trainer))
    parts = []
    for _ in range(12):
        optimiser.zero_grad()
        trainer.loss(trainer.network(batch["data"]), batch["target"]).backward()
        optimiser.step()
        parts.append({name: value.item() for name, value in trainer.loss_parts.take().items()})
    assert parts[0].keys() == {
        *(f"loss of {name}" for name in ("grade", "stage", "score", "days")),
        "overlap",
        "voxels",
    }
    assert all(parts[-1][name] < parts[0][name] for name in parts[0])


def test_encoder_and_decoder_are_the_segmentation_networks_and_its_checkpoint_is_a_start(
    nnunet, case_dataset, tmp_path
):
    trainer = initialised(case_dataset)
    torch.manual_seed(3)
    whole = trainer_class(SEGMENTING).build_network_architecture(
        trainer.plans_manager, trainer.configuration_manager, 4, 3, True
    )
    torch.save({"network_weights": whole.state_dict()}, tmp_path / "segmentation.pth")
    load_pretrained_weights(trainer.network, tmp_path / "segmentation.pth")
    theirs, network = whole.state_dict(), trainer.network
    own = {name: value for name, value in network.state_dict().items() if not name.startswith("heads.")}
    assert own.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in own.items() if ".seg_layers." not in name)
    network.load_state_dict({**network.state_dict(), **theirs})
    x = torch.randn(1, 4, 16, 16, 16)
    with torch.no_grad():
        outputs, *logits = network(x)
        assert not network.encoder._forward_hooks, "maps would be kept"
        network.decodes = False
        torch.testing.assert_close(network(x), outputs)
        whole.decoder.deep_supervision = True
        for mine, other in zip(logits, whole(x), strict=True):
            torch.testing.assert_close(mine, other)


def test_an_epochs_validation_measures_the_heads(nnunet, case_dataset):
    trainer = initialised(case_dataset)
    trainer.network.eval()
    batch = batch_of(trainer)
    with torch.no_grad():
        found = trainer.validation_step(batch)
        outputs = trainer.network(batch["data"])[0]
    rows = trainer._with_targets(batch)["target"][0]
    np.testing.assert_allclose(found["means"], trainer._mean_losses(outputs, rows), rtol=1e-5)
    assert found["counts"].tolist() == [2, 2, 2, 2]


class Labels:
    """What nnU-Net's label manager tells."""

    def __init__(self, regions, ignore):
        self.has_regions, self.has_ignore_label, self.ignore_label = regions, ignore is not None, ignore


@pytest.mark.parametrize("regions", [True, False])
@pytest.mark.parametrize("ignored", [True, False])
def test_voxels_are_counted_as_nnunet_counts_them(nnunet, case_dataset, regions, ignored):
    """Slow twin: nnU-Net's own step with a network that gives these logits."""
    torch.manual_seed(0)
    labels = Labels(regions, 3 if ignored else None)
    logits = torch.randn(2, 3, 4, 4, 4)
    if regions:
        truth = torch.randint(0, 2, (2, 3 + ignored, 4, 4, 4)).bool()
    else:
        truth = torch.randint(0, 4 if ignored else 3, (2, 1, 4, 4, 4)).float()
    found = hits_and_errors(logits, truth.clone(), labels)
    theirs = initialised(case_dataset, SEGMENTING)
    theirs.enable_deep_supervision = False
    theirs.network, theirs.loss, theirs.label_manager = lambda _: logits, lambda *_: torch.zeros(()), labels
    told = theirs.validation_step({"data": logits, "target": truth})
    np.testing.assert_array_equal(found, np.stack([told[name] for name in ("tp_hard", "fp_hard", "fn_hard")], 1))


def test_the_segmentations_pseudo_dice_is_of_all_batches_together(nnunet, case_dataset):
    trainer = initialised(case_dataset)
    batch = {"loss": np.float32(1), "means": np.ones(4), "counts": np.ones(4)}
    counts = [[3, 1, 0], [0, 0, 0], [0, 0, 2]], [[1, 0, 3], [0, 0, 0], [1, 0, 0]]
    trainer._log_validation([{**batch, "voxels": np.array(found)} for found in counts])
    told = {"whole tumor": 2 * 4 / (2 * 4 + 1 + 3), "tumor core": None, "enhancing tumor": 0.5}
    assert trainer._segmented == told


def test_a_prediction_does_not_decode(joint, case_dataset, monkeypatch):
    use(monkeypatch, case_dataset, joint)
    model = load_model(fold_of(joint, NAME).parent, [0], "checkpoint_final.pth", CPU)
    network = model.networks[0]
    network.decoder.register_forward_hook(lambda *_: pytest.fail("the decoder was run"))
    assert network(torch.randn(1, 4, 16, 16, 16)).shape == (1, 8)
    trainer = initialised(case_dataset)
    trainer.load_checkpoint(str(fold_of(joint, NAME) / "checkpoint_final.pth"))
    hook = trainer.network.decoder.register_forward_hook(lambda *_: pytest.fail("the decoder was run"))
    assert np.isfinite(trainer.full_volume_score())
    hook.remove()
    assert len(trainer.network(torch.randn(1, 4, 16, 16, 16))) == 3, "training goes on with the decoder"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CaseResNet18_Joint1", "CaseResNet18 has no decoder, and Joint trains one; choose a network that segments"),
        ("CaseConvNeXtTiny_Joint1", "has no decoder"),
        ("CaseUNet3D_Joint1_Fused", "Joint has one encoder with its decoder and Fused has several"),
        ("UNet3D_Joint1", "for networks of case-level alone"),
    ],
)
def test_what_cannot_be_joined_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        parse(PREFIX + name)


def test_without_a_segmentation_there_is_nothing_to_join(nnunet, case_dataset):
    trainer = trainer_for(case_dataset, NAME)
    trainer.dataset_json = {**trainer.dataset_json, "labels": LABELS}
    with pytest.raises(ValueError, match=f"{workspace.DATASET} has none: the whole image stands in"):
        trainer.initialize()
