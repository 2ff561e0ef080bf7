"""nnU-Net's predictor with the cascade in place of its sliding window.

Only the way from a preprocessed volume to its logits is changed: reading, preprocessing, folds, mirroring, Gaussian
weights, resampling and export are nnU-Net's. Its worker processes are threads here, for starting them takes longer than
a cascade needs for a case.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from traceback import clear_frames
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from nnunetv2.utilities.helpers import empty_cache
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import Tensor
from tqdm import tqdm

from nnunet_ext.cascade.checks import check_channels, check_crop, check_models, folds_of
from nnunet_ext.cascade.components import Component, Crops, cover, find
from nnunet_ext.cascade.finite import FinitePredictor
from nnunet_ext.cascade.geometry import covered, crops_over
from nnunet_ext.cascade.loading import load_model
from nnunet_ext.cascade.report import NO_CASE, CaseReport
from nnunet_ext.cascade.settings import CascadeSettings
from nnunet_ext.cascade.threads import ThreadedPrediction
from nnunet_ext.coordinates.configuration import CoordinateConfiguration
from nnunet_ext.coordinates.field import AXES, coordinates
from nnunet_ext.networks.channels import channel_names

LOG = logging.getLogger(__name__)
TINY = 1e-4  # probability of tumour outside the crops
Take = Callable[[tuple[slice, ...], Tensor], None]


class nnUNetCascadePredictor(ThreadedPrediction, FinitePredictor):
    """Finds the tumour in the whole brain, then segments crops around it.

    Args:
        settings: of the cascade.
        others: nnU-Net's.

    Use it as nnU-Net's own, with a second model: ``initialize_from_trained_model_folder`` reads the segmentation
    network, ``initialize_detector_from_trained_model_folder`` the detector; ``predict_from_files`` and all other ways
    to predict are nnU-Net's. Reports are written beside the segmentations and kept in ``reports``.

    Raises:
        ValueError: from the initialisers and the ways to predict, for models or input that do not fit together.
    """

    def __init__(self, *others: Any, settings: CascadeSettings | None = None, **further: Any) -> None:
        super().__init__(*others, **further)
        self.settings = settings or CascadeSettings()
        self.detector = FinitePredictor(
            self.tile_step_size,
            self.use_gaussian,
            self.use_mirroring,
            self.perform_everything_on_device,
            self.device,
            self.verbose,
            self.verbose_preprocessing,
            allow_tqdm=False,
        )
        self.reports: list[CaseReport] = []
        self.failures: dict[str, str] = {}  # of the last prediction: case -> why
        self.case = NO_CASE  # for the log
        self._components: list[Component] | None = None  # of the case in work; None for the plain sliding window
        self._crops: Crops | None = None
        self._shape: tuple[int, ...] = ()

    def initialize_from_trained_model_folder(
        self,
        model_training_output_dir: str,
        use_folds: Sequence[int | str] | str | None,
        checkpoint_name: str = "checkpoint_final.pth",
    ) -> None:
        """Reads the segmentation network; arguments as nnU-Net's."""
        self._read(self, model_training_output_dir, use_folds, checkpoint_name, "-tr, -p and -c")

    def initialize_detector_from_trained_model_folder(
        self,
        model_training_output_dir: str,
        use_folds: Sequence[int | str] | str | None,
        checkpoint_name: str = "checkpoint_final.pth",
    ) -> None:
        """Reads the detector; arguments as nnU-Net's."""
        self._read(self.detector, model_training_output_dir, use_folds, checkpoint_name, "-roi_tr, -roi_p and -roi_c")

    def _read(
        self,
        predictor: nnUNetPredictor,
        model: str,
        folds: Sequence[int | str] | str | None,
        checkpoint: str,
        flags: str,
    ) -> None:
        folder = Path(model)
        load_model(predictor, folder, folds_of(folder, folds, checkpoint, flags), checkpoint)
        self._check()

    @property
    def crop_size(self) -> tuple[int, ...]:
        """Voxels (z, y, x) of a crop."""
        return self.settings.crop_size or tuple(self.configuration_manager.patch_size)

    def _check(self) -> None:
        if self.network is not None and self.detector.network is not None:
            check_models(self, self.detector)
            check_crop(self, self.crop_size)
            if not _reads_coordinates(self.configuration_manager):
                LOG.warning(
                    "%s reads no coordinates, so it cannot tell where in the brain a crop lies; it was made for "
                    "another input than crops, or train it with the word CoordConv.",
                    self.trainer_name,
                )

    @torch.inference_mode()
    def tumor_probability(self, data: Tensor) -> Tensor:
        """What the detector says of a volume that was preprocessed for the segmentation network.

        Args:
            data: (C, Z, Y, X), the image's channels first.

        Returns:
            (Z, Y, X), 0 to 1, in the main memory.

        Raises:
            ValueError: the detector's output is not finite.
        """
        plan, spacing = self.detector.configuration_manager, self.configuration_manager.spacing
        image = data[: len(plan.normalization_schemes)].cpu().numpy()
        shape = compute_new_shape(image.shape[1:], spacing, plan.spacing)
        small = plan.resampling_fn_data(image, shape, spacing, plan.spacing)
        if _reads_coordinates(plan):
            small = np.concatenate([small, coordinates(small.shape[1:])])
        self.detector.case = self.case
        logits = self.detector.predict_logits_from_preprocessed_data(torch.from_numpy(np.ascontiguousarray(small)))
        logits = torch.as_tensor(
            plan.resampling_fn_probabilities(logits, np.array(image.shape[1:]), plan.spacing, spacing)
        )
        labels = self.detector.label_manager
        probabilities = labels.apply_inference_nonlin(logits)
        return probabilities.amax(0) if labels.has_regions else 1 - probabilities[0]

    def predict_logits_from_preprocessed_data(self, data: Tensor) -> Tensor:
        """Logits (K, Z, Y, X) of a preprocessed volume (C, Z, Y, X), as nnU-Net's; reported in ``reports``."""
        if self.detector.network is None:
            raise ValueError("There is no detector; call initialize_detector_from_trained_model_folder first.")
        further = determine_num_input_channels(self.plans_manager, self.configuration_manager, self.dataset_json)
        further += AXES * _reads_coordinates(self.configuration_manager) - len(channel_names(self.dataset_json))
        check_channels(data.shape[0] - further, self, "The image")
        report = CaseReport.of(self, tuple(data.shape[1:]))
        with report.timed("detector"):
            mask = (self.tumor_probability(data) > self.settings.roi_threshold).numpy()
            components = find(mask, self.configuration_manager.spacing, self.settings)
        with report.timed("segmentation"):
            logits = self._segment(data, components)
        report.add(mask, components, self._crops)
        report.tell(LOG, self.case)
        self.reports.append(report)
        return logits

    def _segment(self, data: Tensor, components: list[Component]) -> Tensor:
        wanted = components if any(not component.dropped for component in components) else None
        with self._crops_for(wanted, tuple(data.shape[1:])):
            logits: Tensor = super().predict_logits_from_preprocessed_data(data)
        return logits

    @contextmanager
    def _crops_for(self, components: list[Component] | None, shape: tuple[int, ...]) -> Iterator[None]:
        """Within, nnU-Net's sliding window has the crop's size and our positions; without components its own."""
        plan, self._crops = self.configuration_manager, None
        if components is not None:
            self.configuration_manager = copy(plan)
            self.configuration_manager.configuration = {**plan.configuration, "patch_size": list(self.crop_size)}
        self._components, self._shape = components, shape
        try:
            yield
        finally:
            self.configuration_manager, self._components = plan, None

    def _internal_get_sliding_window_slicers(self, image_size: tuple[int, ...]) -> list[tuple[slice, ...]]:
        """The crops, where there are any; ``image_size`` is the padded volume's."""
        if self._components is None:
            plain: list[tuple[slice, ...]] = super()._internal_get_sliding_window_slicers(image_size)
            return plain
        self._crops = cover(self._components, self._shape, self.crop_size, image_size, self.tile_step_size)
        return [(slice(None), *box) for box in self._crops.boxes]

    def _internal_predict_sliding_window_return_logits(
        self, data: Tensor, slicers: list[tuple[slice, ...]], do_on_device: bool = True
    ) -> Tensor:
        """Logits of the padded volume; background where no crop is."""
        device = self.device if do_on_device else torch.device("cpu")
        if self._components is None or (self.settings.merge == "gaussian" and self._is_nnunets(slicers, data)):
            logits = super()._internal_predict_sliding_window_return_logits(data, slicers, do_on_device)
        else:
            logits = self._merged(data, slicers, device)
        if self._components is not None:
            outside = torch.from_numpy(~covered([s[1:] for s in slicers], data.shape[1:])).to(logits.device)
            for channel, value in zip(logits, self.background_logits(), strict=True):
                channel.masked_fill_(outside, value)
        return logits

    def _is_nnunets(self, slicers: list[tuple[slice, ...]], data: Tensor) -> bool:
        """Whether the crops are nnU-Net's own positions over the volume, so that its own sum gives its own output."""
        whole = tuple(slice(0, n) for n in data.shape[1:])
        return [s[1:] for s in slicers] == crops_over(whole, self.crop_size, data.shape[1:], self.tile_step_size)

    def _merged(self, data: Tensor, slicers: list[tuple[slice, ...]], device: torch.device) -> Tensor:
        merge = self._maximum if self.settings.merge == "max" else self._mean
        try:
            return merge(data, slicers, device)
        except RuntimeError as error:
            # where a GPU's memory is full nnU-Net tries again on the CPU, while the frames of this attempt are alive
            clear_frames(error.__traceback__)
            empty_cache(self.device)
            raise

    def _maximum(self, data: Tensor, slicers: list[tuple[slice, ...]], device: torch.device) -> Tensor:
        """The largest logit of all crops at each voxel; of a softmax the largest log-odds against the background.

        The logits of a softmax are defined up to a constant per voxel, which is another one in another crop.
        """
        best = torch.full(self._size(data), -torch.inf, device=device)

        def take(where: tuple[slice, ...], tile: Tensor) -> None:
            odds = tile if self.label_manager.has_regions else tile - tile[:1]
            torch.maximum(best[where], odds, out=best[where])

        self._fill(best, data, slicers, take)
        return best

    def _mean(self, data: Tensor, slicers: list[tuple[slice, ...]], device: torch.device) -> Tensor:
        """The mean of all crops at each voxel by nnU-Net's Gaussian weights.

        In single precision: in half precision, which is nnU-Net's, the weight of a crop's corner is one of the few
        smallest numbers, and so is what it multiplies. nnU-Net's corners are the volume's, the cascade's in the brain.
        """
        total, weight = torch.zeros(self._size(data), device=device), torch.zeros(data.shape[1:], device=device)
        weights = self._weights(device)

        def take(where: tuple[slice, ...], tile: Tensor) -> None:
            total[where] += tile * weights
            weight[where[1:]] += weights

        self._fill(total, data, slicers, take)
        return total.div_(weight)

    def _weights(self, device: torch.device) -> Tensor:
        if not self.use_gaussian:
            return torch.ones(self.crop_size, device=device)
        weights: Tensor = compute_gaussian(self.crop_size, value_scaling_factor=10, dtype=torch.float, device=device)
        return weights

    def _size(self, data: Tensor) -> tuple[int, ...]:
        return (self.label_manager.num_segmentation_heads, *data.shape[1:])

    def _fill(self, result: Tensor, data: Tensor, slicers: list[tuple[slice, ...]], take: Take) -> None:
        """Passes each crop through the network and hands the logits on, in single precision."""
        for s in tqdm(slicers, disable=not self.allow_tqdm):
            tile = data[s][None].contiguous().to(self.device)
            take(s, self._internal_maybe_mirror_and_predict(tile)[0].to(result.device, torch.float))

    def background_logits(self) -> list[float]:
        """Per class, logits with a probability of tumour just below 1e-4: resampling spreads larger ones further.

        Of a softmax they are log-odds against the background, as in the crops.
        """
        heads = self.label_manager.num_segmentation_heads
        if self.label_manager.has_regions:
            return [float(np.log(TINY)) - 0.1] * heads
        return [0.0] + [float(np.log(TINY / heads)) - 0.1] * (heads - 1)


def _reads_coordinates(configuration: ConfigurationManager) -> bool:
    return isinstance(configuration, CoordinateConfiguration)
