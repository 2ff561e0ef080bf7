"""Published weights of photographs' classifiers, from timm's hub where the machine reaches it, or from a file of it."""

from pathlib import Path
from typing import Any

import timm
from torch import Tensor

from nnunet_ext.networks.spec import NetworkSpec

RESNET18 = "resnet18.tv_in1k"  # torchvision's weights under timm's names, which are the same


def model_of(spec: NetworkSpec) -> str:
    """The name that timm has for the architecture whose weights fit a network.

    Raises:
        ValueError: there is none.
    """
    if spec.network == "resnet.ResNet18":
        return RESNET18
    if "model" not in spec.options:
        raise ValueError(f"No weights are published for {spec.trainer}; give a file, or a network of timm or ResNet18.")
    return str(spec.options["model"])


def published(spec: NetworkSpec) -> dict[str, Tensor]:
    """The weights that timm has for a network.

    Raises:
        ValueError: they cannot be downloaded; the sentence says which file to bring.
    """
    model = model_of(spec)
    try:
        network: Any = timm.create_model(model, pretrained=True)
    except Exception as error:  # the hub's client fails in its own ways, all of which end in this sentence
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"The weights of {model} could not be downloaded ({type(error).__name__}: {reason}); bring "
            f"model.safetensors from https://huggingface.co/timm/{model} and give it as FILE."
        ) from error
    state: dict[str, Tensor] = network.state_dict()
    return state


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of the hub's format.

    Raises:
        ValueError: it is none.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is no whole file of safetensors ({error}); copy it again.") from error
    return state
