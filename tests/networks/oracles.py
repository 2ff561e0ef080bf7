"""Holds a block of ours against an independent implementation in 2D, and its 3D form against its 2D form."""

import torch
from torch import nn

from nnunet_ext.networks.encoder import StagePlan
from nnunet_ext.networks.topology import Topology

BATCH_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}


def operators(dims=2, act=nn.ReLU, norm=None, bias=False, patch_size=None):
    """A topology whose blocks have the operators of most published implementations: batch normalisation, no bias."""
    return Topology(
        conv_op=CONVOLUTION[dims],
        strides=((1,) * dims,),
        kernel_sizes=((3,) * dims,),
        norm_op=norm or BATCH_NORM[dims],
        nonlin=act,
        conv_bias=bias,
        patch_size=patch_size,
    )


def stage_plan(kernel_size, stride, *, index=1, **operator_options):
    """A stage with these kernel sizes and strides (z, y, x); ``index`` counts from 0."""
    return StagePlan(index, tuple(kernel_size), tuple(stride), operators(len(kernel_size), **operator_options))


@torch.no_grad()
def randomise(module, seed=0):
    """Draws every parameter and buffer anew, so that no part is left at a value that hides it; returns the module.

    Layer scales, biases, the affine part and the statistics of norms included; outputs stay of order one.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if not value.is_floating_point():
            continue
        drawn = torch.randn(value.shape, generator=generator, dtype=value.dtype)
        if name.endswith("var"):
            drawn = 0.5 + drawn.abs()
        elif value.ndim > 1:
            drawn = drawn / value[0].numel() ** 0.5
        value.copy_(drawn)
    return module.eval()


def values(module):
    """Name -> parameter or buffer; counters of batches are left out."""
    return {k: v for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}


def renamed(name, prefixes):
    """The name with its first fitting prefix (of whole dotted parts) exchanged."""
    for ours, theirs in prefixes.items():
        if f"{name}.".startswith(f"{ours}."):
            return theirs + name[len(ours) :]
    return name


@torch.no_grad()
def copy_weights(target, source, prefixes=None):
    """Fills every weight of ``target`` from ``source``, whose weights must all be used; returns ``target.eval()``.

    ``prefixes`` maps the beginning of a name in ``target`` to that in ``source``. Shapes may differ by axes of one
    voxel: a 2D kernel fills a flat 3D one, a linear layer a 1x1 convolution.
    """
    wanted, given = values(target), values(source)
    names = {name: renamed(name, prefixes or {}) for name in wanted}
    assert sorted(names.values()) == sorted(given)
    for name, value in wanted.items():
        new = given[names[name]]
        assert [n for n in value.shape if n > 1] == [n for n in new.shape if n > 1], name
        value.copy_(new.reshape(value.shape))
    return target.eval()


@torch.no_grad()
def copy_permuted(target, source, axes):
    """Fills ``target`` with the weights of ``source``, kernels with their spatial axes permuted."""
    given = values(source)
    for name, value in values(target).items():
        value.copy_(permuted(given[name], axes))
    return target.eval()


def permuted(x, axes):
    """Maps or kernels (B, C, Z, Y, X) with permuted spatial axes; other tensors as they are."""
    return x.permute(0, 1, *(2 + a for a in axes)) if x.ndim == 2 + len(axes) else x


def slicewise(flat, x):
    """A 2D module over the slices of (B, C, Z, Y, X)."""
    return torch.stack([flat(plane) for plane in x.unbind(2)], 2)


def maps(*shape, seed=1, grad=False):
    """Reproducible maps."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).requires_grad_(grad)


def gradients(module, x, y):
    """Gradients of a generic function of ``y`` by the input and by every parameter: name -> tensor."""
    weights = maps(*y.shape, seed=2).to(y.dtype)
    named = {"input": x, **dict(module.named_parameters())}
    return dict(zip(named, torch.autograd.grad((y * weights).sum(), list(named.values())), strict=True))
