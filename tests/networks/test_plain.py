"""Plain stages against the loops and functions that they stand for."""

from itertools import product

import pytest
import torch
from torch.nn.functional import batch_norm, pad

from nnunet_ext.networks.backbones.plain import PlainStage
from tests.networks.oracles import gradients, maps, randomise, stage_plan


def convolved(x, conv, dilation, stride):
    """Dilated convolution as it is written: a sum over the kernel's voxels of shifted maps."""
    margin = [dilation if k > 1 else 0 for k in conv.kernel_size]
    padded = pad(x, [m for m in reversed(margin) for _ in range(2)])
    y = 0
    for place in product(*map(range, conv.kernel_size)):
        starts = [p * dilation for p in place]
        shifted = padded[:, :, *(slice(s, s + n, step) for s, n, step in zip(starts, x.shape[2:], stride, strict=True))]
        y = y + torch.einsum("oi,bi...->bo...", conv.weight[:, :, *place], shifted)
    return y


def twin(stage, x, dilations, stride):
    for i, dilation in enumerate(dilations):
        layer = stage.get_submodule(f"conv{i}")
        y = convolved(x, layer.conv, dilation, stride if i == 0 else (1, 1, 1))
        norm = layer.norm
        x = batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()
    return x


@pytest.mark.parametrize("dilations", [(1, 2), (1, 2, 5)], ids=str)
@pytest.mark.parametrize(("kernel", "stride"), [((3, 3, 3), (2, 2, 2)), ((1, 3, 3), (1, 2, 2))])
def test_dilated_stage_is_its_twin_in_value_and_gradient(oracle_record, dilations, kernel, stride):
    stage = randomise(
        PlainStage(2, 3, stage_plan(kernel, stride, patch_size=(10, 10, 10)), dilations=dilations).double()
    )
    results = []
    for compute in (stage, lambda x: twin(stage, x, dilations, stride)):
        x = maps(2, 2, 5, 7, 9).double().requires_grad_()
        y = compute(x)
        results.append({"value": y.detach(), **gradients(stage, x, y)})
    ours, theirs = results
    for name, value in ours.items():
        what = f"rates {', '.join(map(str, dilations))}, kernel {kernel}: " + (
            "value" if name == "value" else "gradient"
        )
        oracle_record("dilated convolutions", "sum over shifted maps", what, value, theirs[name])
