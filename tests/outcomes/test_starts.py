"""Where a case-level training starts: published classifiers, inflated kernels, other channels."""

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from nnunet_ext.cli import main
from nnunet_ext.networks import registry
from nnunet_ext.networks.inflation import fitted, import_encoder, with_channels
from nnunet_ext.outcomes import published
from tests.outcomes.test_case_networks import build
from tests.trainers import workspace


def test_an_inflated_kernel_sees_a_volume_of_equal_slices_as_the_slice():
    flat, deep = nn.Conv2d(2, 3, 5, padding=2, bias=False), nn.Conv3d(2, 3, 5, padding=2, bias=False)
    deep.weight.data.copy_(fitted(flat.weight.data, deep.weight))
    image = torch.randn(1, 2, 9, 8)
    volume = image[:, :, None].expand(-1, -1, 7, -1, -1)
    torch.testing.assert_close(deep(volume)[:, :, 3], flat(image), rtol=1e-4, atol=1e-5)


def test_an_image_that_is_the_same_in_all_channels_is_seen_alike_by_any_number_of_them():
    kernel = torch.randn(4, 3, 3, 3)
    image = torch.randn(1, 1, 6, 6)
    three = nn.functional.conv2d(image.expand(-1, 3, -1, -1), kernel)
    five = nn.functional.conv2d(image.expand(-1, 5, -1, -1), with_channels(kernel, 5))
    torch.testing.assert_close(five, three, rtol=1e-4, atol=1e-5)


def test_what_has_no_place_is_told():
    network = build(registry.find("CaseResNet18")[0], 3, channels=4)
    state = torchvision.models.resnet18(num_classes=7).state_dict()
    state["conv1.weight"] = state["conv1.weight"][:, :, :5, :5]
    result = import_encoder(network, {f"module.{name}": value for name, value in state.items()})
    assert result.unused == ["module.fc.weight", "module.fc.bias"]
    assert list(result.shape_differs) == ["encoder.conv1.weight"]
    assert len(result.matched) == len(state) - 3
    assert result.missing == ["heads.weight", "heads.bias"]
    kernel = state["layer1.0.conv1.weight"]
    assert torch.equal(result.weights["encoder.layer1.0.conv1.weight"][:, :, 1], kernel / 3)


def command(file, out, trainer="nnUNetTrainer_CaseResNet18"):
    return main(
        ["import-weights", str(file), "-tr", trainer, "-d", workspace.DATASET, "-c", "3d_fullres", "-o", str(out)]
    )


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_the_command_writes_what_nnunets_pretrained_weights_takes(nnunet, tmp_path, ending, capsys):
    state = torchvision.models.resnet18(num_classes=2).state_dict()
    file = tmp_path / f"resnet18.{ending}"
    save_file(state, file) if ending == "safetensors" else torch.save(state, file)
    assert command(file, tmp_path / "start.pth") == 0
    written = torch.load(tmp_path / "start.pth", weights_only=True)["network_weights"]
    expected = with_channels(state["conv1.weight"], 4) / 7
    torch.testing.assert_close(written["encoder.conv1.weight"][:, :, 5], expected)
    assert "matched" in capsys.readouterr().out


def test_a_file_of_another_family_is_refused(nnunet, tmp_path, capsys):
    torch.save({"a": torch.zeros(1), "b": torch.zeros(2)}, tmp_path / "other.pth")
    assert command(tmp_path / "other.pth", tmp_path / "start.pth") == 2
    assert "Only 0 of the 2 tensors" in capsys.readouterr().err
    assert not (tmp_path / "start.pth").exists()


def test_published_weights_that_cannot_be_had_are_one_sentence(nnunet, tmp_path, monkeypatch, capsys):
    def unreachable(*_args, **_kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(published.timm, "create_model", unreachable)
    assert command("published", tmp_path / "start.pth") == 2
    said = capsys.readouterr().err
    assert "resnet18.tv_in1k could not be downloaded (OSError: no route to host); bring model.safetensors" in said


def test_published_weights_are_taken(nnunet, tmp_path, monkeypatch):
    theirs = torchvision.models.resnet18()
    monkeypatch.setattr(published.timm, "create_model", lambda name, pretrained: theirs)
    assert command("published", tmp_path / "start.pth") == 0
    written = torch.load(tmp_path / "start.pth", weights_only=True)["network_weights"]
    assert torch.equal(written["encoder.bn1.weight"], theirs.bn1.weight)


def test_a_network_without_published_weights_says_so(nnunet, tmp_path, capsys):
    assert command("published", tmp_path / "start.pth", "nnUNetTrainer_CaseUNETR_XS") == 2
    assert "No weights are published for CaseUNETR" in capsys.readouterr().err
