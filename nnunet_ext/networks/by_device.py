"""Where an operator takes the form that is fastest on a CPU; :mod:`.conv` and :mod:`.norm` hold the forms.

Parameters, state-dict keys, errors and values are torch's. What the forms of ours are not made for is left to torch.
"""

import torch
from torch import Tensor

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by number of the tensor's dimensions


def on_cpu(x: Tensor, dims: int) -> bool:
    """Whether ``x`` is a batch (B, C, ...) of maps with ``dims`` axes on a CPU that torch itself works for.

    A compiler chooses layouts and forms by itself, and sees torch's operators.
    """
    return x.device.type == "cpu" and x.ndim == dims + 2 and not torch.compiler.is_compiling()


def predicting_on_cpu(x: Tensor, dims: int) -> bool:
    """The same, and no gradient is wanted."""
    return on_cpu(x, dims) and not torch.is_grad_enabled()
