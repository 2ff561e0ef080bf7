"""Losses by name against closed forms and MONAI's, for regions and classes, with what is ignored."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.losses import FocalLoss, TverskyLoss
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from nnunet_ext.trainers.losses import LOSSES, LossParts, with_parts

SHAPE = (5, 4, 3)
DICE = {"batch_dice": False, "smooth": 1e-5, "ddp": False}


def of_regions(ignore=False, **dice):
    """nnU-Net's loss for regions, as its trainer makes it."""
    options = DICE | {"do_bg": True} | dice
    return DC_and_BCE_loss({}, options, use_ignore_label=ignore, dice_class=MemoryEfficientSoftDiceLoss)


def of_classes(ignore=None, **dice):
    options = DICE | {"do_bg": False} | dice
    return DC_and_CE_loss(options, {}, ignore_label=ignore, dice_class=MemoryEfficientSoftDiceLoss)


def regions(seed=0, batch=2):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, 3, *SHAPE, generator=generator, requires_grad=True)
    return logits, torch.rand(batch, 3, *SHAPE, generator=generator) > 0.6


def classes(seed=0, batch=2):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, 4, *SHAPE, generator=generator, requires_grad=True)
    return logits, torch.randint(0, 4, (batch, 1, *SHAPE), generator=generator)


def same(ours, theirs, logits):
    """Equal values and gradients."""
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    a, b = (torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs))
    assert torch.allclose(a, b, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(("name", "overlap", "voxels"), [("Dice70CE30", 0.7, 0.3), ("Dice50CE50", 0.5, 0.5)])
@pytest.mark.parametrize(("make", "data"), [(of_regions, regions), (of_classes, classes)])
def test_weights_of_dice_and_cross_entropy(make, data, name, overlap, voxels):
    logits, target = data()
    usual = make()
    ours = with_parts(make(), name)(logits, target)
    parts = usual.dc(logits, target), usual.ce(logits, target.float() if make is of_regions else target)
    same(ours, overlap * parts[0] + voxels * parts[1], logits)


def test_nnunets_loss_is_left_as_it_is():
    logits, target = regions()
    assert torch.equal(with_parts(of_regions(), "DiceCE")(logits, target), of_regions()(logits, target))


def test_focal_by_hand():
    logits, target = torch.tensor([[[0.0, 2.0]]], requires_grad=True), torch.tensor([[[True, False]]])
    p = torch.sigmoid(torch.tensor(2.0))
    by_hand = (0.5**2 * torch.log(torch.tensor(2.0)) - p**2 * torch.log(1 - p)) / 2
    assert with_parts(of_regions(), "Focal")(logits, target).item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_focal_of_regions_is_monais():
    logits, target = regions()
    same(with_parts(of_regions(), "Focal")(logits, target), FocalLoss(gamma=2.0)(logits, target.float()), logits)


def test_focal_of_classes_is_monais():
    logits, target = classes()
    theirs = FocalLoss(gamma=2.0, use_softmax=True, to_onehot_y=True)(logits, target)
    # MONAI's mean is over the classes too, of which all but the true one are 0
    same(with_parts(of_classes(), "Focal")(logits, target), 4 * theirs, logits)


@pytest.mark.parametrize(("make", "data"), [(of_regions, regions), (of_classes, classes)])
def test_dice_focal_is_the_sum(make, data):
    logits, target = data()
    focal = with_parts(make(), "Focal")(logits, target)
    same(with_parts(make(), "DiceFocal")(logits, target), make().dc(logits, target) + focal, logits)


@pytest.mark.parametrize("batch_dice", [False, True])
def test_tversky_of_regions_is_monais(batch_dice):
    logits, target = regions()
    theirs = TverskyLoss(sigmoid=True, alpha=0.3, beta=0.7, smooth_nr=1e-5, smooth_dr=1e-5, batch=batch_dice)
    ours = with_parts(of_regions(batch_dice=batch_dice), "Tversky")(logits, target)
    same(ours, theirs(logits, target.float()) - 1, logits)


@pytest.mark.parametrize("batch_dice", [False, True])
def test_tversky_of_classes_is_monais_without_background(batch_dice):
    logits, target = classes()
    options = {"alpha": 0.3, "beta": 0.7, "smooth_nr": 1e-5, "smooth_dr": 1e-5, "batch": batch_dice}
    theirs = TverskyLoss(softmax=True, to_onehot_y=True, include_background=False, **options)(logits, target)
    same(with_parts(of_classes(batch_dice=batch_dice), "Tversky")(logits, target), theirs - 1, logits)


def test_tversky_by_hand():
    logits = torch.full((1, 1, 4), 40.0)
    logits[..., 2:] = -40
    target = torch.tensor([[[True, False, True, False]]])  # one found, one spurious, one missed
    loss = with_parts(of_regions(), "Tversky")(logits, target)
    assert loss.item() == pytest.approx(-1 / (1 + 0.3 + 0.7), rel=1e-4)


@pytest.mark.parametrize("name", LOSSES)
@given(seed=st.integers(0, 99))
def test_what_is_ignored_changes_nothing(name, seed):
    """The loss is that of the other voxels: those that are ignored may hold anything."""
    logits, target = regions(seed)
    mask = torch.rand(2, 1, *SHAPE, generator=torch.Generator().manual_seed(seed)) > 0.8
    loss = with_parts(of_regions(ignore=True), name)
    other = torch.where(mask, torch.randn_like(logits) * 5, logits)
    told = loss(logits, torch.cat([target, mask], 1))
    assert loss(other, torch.cat([target ^ mask, mask], 1)).item() == pytest.approx(told.item(), rel=1e-5)
    logits, labels = classes(seed)
    labels = torch.where(mask, 9, labels)
    loss = with_parts(of_classes(ignore=9), name)
    other = torch.where(mask, torch.randn_like(logits) * 5, logits)
    assert loss(other, labels).item() == pytest.approx(loss(logits, labels).item(), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_a_patch_of_which_all_is_ignored_has_a_finite_loss(name):
    logits, target = regions()
    loss = with_parts(of_regions(ignore=True), name)(logits, torch.cat([target, torch.ones_like(target[:, :1])], 1))
    assert torch.isfinite(loss)
    assert torch.isfinite(torch.autograd.grad(loss, logits)[0]).all()


def test_masked_focal_is_the_mean_over_what_counts():
    logits, target = regions(batch=1)
    mask = torch.zeros(1, 1, *SHAPE, dtype=torch.bool)
    mask[..., 0] = True
    loss = with_parts(of_regions(ignore=True), "Focal")(logits, torch.cat([target, mask], 1))
    surprise = binary_cross_entropy_with_logits(logits, target.float(), reduction="none")[..., 1:]
    assert loss.item() == pytest.approx(((1 - (-surprise).exp()) ** 2 * surprise).mean().item(), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("make", "data"), [(of_regions, regions), (of_classes, classes)])
def test_the_parts_of_deep_supervision_add_up_to_the_loss(make, data, name):
    weights = (0.75, 0.25, 0.0)
    loss = with_parts(DeepSupervisionWrapper(make(), weights), name)
    parts = LossParts(loss)
    outputs, targets = zip(data(0), data(1), data(2), strict=True)
    value = loss(list(outputs), list(targets))
    found = parts.take()
    mix = LOSSES[name]
    assert set(found) == {n for n, w in (("overlap", mix.overlap), ("voxels", mix.voxels)) if w}
    total = sum(w * found[n] for n, w in (("overlap", mix.overlap), ("voxels", mix.voxels)) if w)
    assert total.item() == pytest.approx(value.item(), rel=1e-5)
    assert parts.take() == {}


def test_the_parts_of_a_validation_are_not_of_the_training():
    loss = of_regions()
    parts = LossParts(loss)
    logits, target = regions()
    with torch.no_grad():
        loss(logits, target)
    assert parts.take() == {}


def test_the_one_hot_form_is_that_of_labels():
    logits, target = classes()
    hot = one_hot(target[:, 0], 4).movedim(-1, 1).float()
    tversky = with_parts(of_classes(), "Tversky")
    assert tversky(logits, target).item() == pytest.approx(tversky(logits, hot).item(), rel=1e-6)
