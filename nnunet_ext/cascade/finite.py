"""nnU-Net's predictor, but logits that are no numbers are an error: the largest of several NaN is background."""

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import Tensor

from nnunet_ext.cascade.report import NO_CASE

OVERFLOW = "Encountered inf"  # nnU-Net's words for a sum beyond half precision


class FinitePredictor(nnUNetPredictor):
    """Predicts as nnU-Net does.

    The error is no RuntimeError: nnU-Net takes those for a GPU whose memory is full, and computes everything again on
    the CPU.

    Attributes:
        case: in work, for the message.

    Raises:
        ValueError: a logit is not finite; names network and case.
    """

    case: str = NO_CASE

    @torch.inference_mode()
    def _internal_maybe_mirror_and_predict(self, x: Tensor) -> Tensor:
        logits: Tensor = super()._internal_maybe_mirror_and_predict(x)
        if not logits.isfinite().all():
            raise self._not_finite()
        return logits

    def _internal_predict_sliding_window_return_logits(
        self, data: Tensor, slicers: list[tuple[slice, ...]], do_on_device: bool = True
    ) -> Tensor:
        try:
            logits: Tensor = super()._internal_predict_sliding_window_return_logits(data, slicers, do_on_device)
        except RuntimeError as error:
            if OVERFLOW not in str(error):
                raise
            raise self._not_finite() from error
        return logits

    def _not_finite(self) -> ValueError:
        return ValueError(
            f"{self.trainer_name} gives NaN or infinite values for {self.case}; look at the images, or train the "
            "network again."
        )
