"""Weights of another network are refused in one sentence, whoever loads them: nnU-Net's predictor or a trainer."""

from collections.abc import Mapping
from typing import Any

from torch import nn

RATES = "rates"  # buffer of an encoder: the dilation of every convolution, (convolutions, axes), if any is dilated
# the version since which the weights of the networks have the names and shapes that they have now
SINCE = "0.2.0"


class Network(nn.Module):
    """Base of all declared networks; ``title`` is how a sentence calls one."""

    title = "this network"

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As torch's, but says which network does not fit.

        Raises:
            ValueError: if ``strict`` and the names or shapes of the weights, or the rates at which convolutions are
                dilated, are not those of this network.
        """
        if strict:
            self._check(state_dict)
        return super().load_state_dict(state_dict, strict, assign)

    def _check(self, given: Mapping[str, Any]) -> None:
        wanted = self.state_dict()
        missing, unknown = wanted.keys() - given.keys(), given.keys() - wanted.keys()
        reshaped = [key for key in wanted.keys() & given.keys() if wanted[key].shape != given[key].shape]
        if missing or unknown or reshaped:
            raise ValueError(
                f"These weights are not those of {self.title} (of its {len(wanted)}, {len(missing)} are missing and "
                f"{len(reshaped)} have another shape, and {len(unknown)} are unknown to it): the checkpoint is of "
                f"another network, of another size or of a version before {SINCE}, whose networks differ; use it with "
                f"the trainer and the version that made it, or train anew."
            )
        # torch keeps the version of a module beside its weights; a mapping of other origin has none
        of_given = getattr(given, "_metadata", {}).get("", {}).get("version", self._version)
        if of_given != self._version:
            raise ValueError(
                f"The checkpoint of {self.title} reads coordinates of a version before {SINCE}, which were 0 in "
                "the volume's centre and outside; use it with the version that made it, or train anew."
            )
        for key in (key for key in wanted if key.endswith(f".{RATES}") and not wanted[key].is_meta):
            if wanted[key].tolist() != given[key].tolist():
                raise ValueError(
                    f"The convolutions of {self.title} are dilated otherwise than the checkpoint's: rates follow from "
                    f"the plan's patch, so use the checkpoint with the plans that it was trained with."
                )
