"""The precision of a network's forward pass, decided in the network itself so that training and prediction share it."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

DEVICE = "device"  # nnU-Net's choice: its trainer and its predictor switch autocast on where they run on CUDA
DTYPES: Mapping[str, torch.dtype | None] = {"FP32": None, "BF16": torch.bfloat16, "AMP": torch.float16}


def compute_in(network: nn.Module, precision: str) -> None:
    """Makes a network compute in a precision whatever context it is called in; its logits are float32.

    Args:
        network: keeps its class, parameters and state-dict keys.
        precision: ``device`` leaves it as it is; else a key of :data:`DTYPES`.
    """
    if precision != DEVICE:
        network.forward = partial(_forward, network.forward, DTYPES[precision])


def _forward(forward: Callable[[Tensor], Any], dtype: torch.dtype | None, x: Tensor) -> Any:
    with torch.autocast(x.device.type, dtype, enabled=dtype is not None):
        logits = forward(x.float())
    return logits.float() if isinstance(logits, Tensor) else [each.float() for each in logits]


def loss_context(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """The context of network and loss in a training step: nnU-Net's on CUDA; of float32 logits it is float32's."""
    return torch.autocast(device.type, enabled=precision == DEVICE and device.type == "cuda")


def scaler_for(device: torch.device, precision: str, usual: Any) -> Any:
    """The scaler of the loss: float16 needs one on every device, bfloat16 and float32 none.

    Args:
        device: of the training.
        precision: the recipe's.
        usual: nnU-Net's own choice for the device.
    """
    if precision == DEVICE or (precision == "AMP" and usual is not None):
        return usual
    return torch.GradScaler(device.type) if precision == "AMP" else None
