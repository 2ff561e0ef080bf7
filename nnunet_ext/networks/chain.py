"""Modules in a row, such as convolution, normalisation and activation, that save the memory between them.

A map that nothing but the next module reads is overwritten by it: in prediction on a CPU by a normalisation, and
wherever the plan asks for activations in place, as nnU-Net's plans do, by the activation. What a hook may have kept is
never overwritten, so that features and their gradients (Grad-CAM) can be read from every module.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.modules.conv import _ConvNd

from nnunet_ext.networks.norm import InstanceNorm

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
GLOBAL_HOOKS = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks")


def watched(*modules: nn.Module) -> bool:
    """Whether a hook may keep what goes into or comes out of one of the modules."""
    everywhere = any(getattr(torch_module, kind) for kind in GLOBAL_HOOKS)
    return everywhere or any(getattr(module, kind) for module in modules for kind in HOOKS)


def in_turn(x: Tensor, source: nn.Module, *modules: nn.Module) -> Tensor:
    """What the modules make of ``x``, one after the other.

    Args:
        x: maps (B, C, ...) in memory of their own: they are lost unless a module is watched.
        source: the module that gave ``x``, whose hooks may hold it.
        modules: normalisation, activation and the like.
    """
    kept = watched(source, *modules)
    for module in modules:
        if isinstance(module, InstanceNorm):
            x = module(x, overwrite=not kept)
        else:
            x = module(x.clone() if kept and getattr(module, "inplace", False) else x)
    return x


class Chain(nn.Sequential):
    """A convolution, then modules that overwrite its output unless one of them is watched."""

    def forward(self, input: Any) -> Tensor:  # a fusion reads several maps
        """As of :class:`torch.nn.Sequential`."""
        first, *further = self
        assert isinstance(first, _ConvNd), "only a convolution is known to give memory of its own"
        return in_turn(first(input), first, *further)
