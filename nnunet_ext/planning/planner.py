"""nnU-Net's planner with the predicted memory of one of our networks in place of its own estimate.

nnU-Net's estimate is calibrated for its own networks: it adds up feature maps of the convolutions and compares the sum
with that of a network that is known to fit. Only its hooks are overridden: its rules for spacing, aspect, divisibility
and anisotropy, and its way down from the largest patch, are its own.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name
from nnunetv2.utilities.json_export import recursive_fix_for_json_export
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_ext.networks.channels import channel_names, resolve_channels
from nnunet_ext.planning.memory import TrainingMemory
from nnunet_ext.planning.search import GB, Fit, Plan, Search, patch_of
from nnunet_ext.planning.sharing import share_data
from nnunet_ext.profiling.cost import RESERVE

CASCADE = "3d_cascade_fullres"
STANDARD = ("2d", "3d_fullres", "3d_lowres", CASCADE)
RESTS_ON = {"3d_lowres": {"3d_fullres"}, CASCADE: {"3d_fullres", "3d_lowres"}}  # in the order of planning


class FittingPlanner(ExperimentPlanner):
    """Plans every configuration that the network can be trained in.

    Args:
        folder: of the dataset in nnUNet_preprocessed.
        base: plans of the dataset, as read from their file, whose preprocessed data are used where they fit.
        memory: of the network.
        gpu_memory: GB (2^30 bytes) of the card.
        plans_name: name of the plans that are written.
        reserve: GB of it that hold no tensor.

    Raises:
        ValueError: the network's modalities are not in the dataset, or its input size is fixed. From
            ``plan_experiment``: nothing fits, or no configuration has the network's dimensions.
    """

    def __init__(
        self,
        folder: Path,
        base: Mapping[str, Any],
        memory: TrainingMemory,
        gpu_memory: float,
        plans_name: str,
        *,
        reserve: float = RESERVE / GB,
    ) -> None:
        super().__init__(folder.name, gpu_memory - reserve, plans_name=plans_name)
        self.folder, self.base, self.memory, self.reserve = folder, base, memory, reserve
        self.UNet_reference_val_2d = self.UNet_reference_val_3d = GB
        self.UNet_reference_val_corresp_GB = 1
        self.UNet_reference_val_corresp_bs_2d = self.UNet_reference_val_corresp_bs_3d = self.UNet_min_batch_size
        labels = LabelManager(self.dataset_json["labels"], self.dataset_json.get("regions_class_order"))
        self._classes, self._labels = labels.num_segmentation_heads, len(labels.foreground_labels)
        self._source = str(Path(self.raw_dataset_folder, "dataset.json"))  # which planning copies to the plans
        self._channel_names = channel_names(self.dataset_json, self._source)
        self._image_channels = len(self._channel_names)
        self._further_channels = 0  # one-hot labels of a previous stage
        self.refused: dict[str, str] = {}  # configuration -> why it is left out
        self._fits: dict[str, Fit] = {}
        self._refusals: dict[str, ValueError] = {}
        self._asked: dict[str, tuple[Any, ...]] = {}
        self._bounded, self._least = False, math.inf
        self._check()

    @property
    def path(self) -> Path:
        """The plans file."""
        return self.folder / f"{self.plans_identifier}.json"

    @property
    def limit(self) -> int:
        """Bytes for all tensors of a training step."""
        return int(self.UNet_vram_target_GB * GB)

    @property
    def fits(self) -> dict[str, Fit]:
        """What was found for each configuration, once planned."""
        names = [name for name in STANDARD if name in self.plans["configurations"]]
        return {name: self._fits[self.generate_data_identifier(name)] for name in names}

    def determine_reader_writer(self) -> type[BaseReaderWriter]:
        """That of the base plans: it is known to read these images."""
        return recursive_find_reader_writer_by_name(self.base["image_reader_writer"])

    def static_estimate_VRAM_usage(  # noqa: N802 - nnU-Net's name
        self,
        patch_size: Sequence[int],
        input_channels: int,
        output_channels: int,
        arch_class_name: str,
        arch_kwargs: Mapping[str, Any],
        arch_kwargs_req_import: Sequence[str],
    ) -> int:
        """Bytes of a training step with the smallest batch, or 1 where nnU-Net is to plan as if memory were no matter.

        Raises:
            ValueError: nnU-Net has come to a patch that the network cannot be built for, because nothing larger fits.
        """
        if not self._bounded:
            return 1
        patch = [int(size) for size in patch_size]
        if arch_kwargs["n_stages"] == 1 or min(patch) < 1:
            raise self._refusal()
        try:
            needed = self._needed(arch_kwargs, patch, self.UNet_min_batch_size)
        except ValueError as error:
            if math.isinf(self._least):
                raise
            raise self._refusal() from error  # some families need several stages
        self._least = min(self._least, needed)
        return needed

    def get_plans_for_configuration(
        self,
        spacing: Sequence[float],
        median_shape: Sequence[float],
        data_identifier: str,
        approximate_n_voxels_dataset: float,
        _cache: dict[str, Any],
    ) -> dict[str, Any]:
        """nnU-Net's plan with the largest patch and batch that fit.

        Args:
            spacing: in mm, (z, y, x) or (y, x).
            median_shape: of the images at this spacing, in voxels.
            data_identifier: folder of the preprocessed data.
            approximate_n_voxels_dataset: voxels of all images together.
            _cache: nnU-Net's, for estimates that depend on nothing but the patch; ours are kept elsewhere.
        """
        plan_for = super().get_plans_for_configuration

        def offer(shape: Sequence[float], bounded: bool = False) -> dict[str, Any]:
            self._bounded, self._least = bounded, math.inf
            return plan_for(spacing, shape, data_identifier, approximate_n_voxels_dataset, {})

        unbounded = offer(median_shape)
        if len(spacing) not in self.memory.spec.dimensions or self._rests_on_refused(data_identifier):
            return unbounded  # nnU-Net always asks for all; save_plans leaves it out
        self._refusals.pop(data_identifier, None)  # of another spacing
        try:
            start = offer(median_shape, bounded=True)
        except ValueError as error:  # the other configurations may fit: save_plans leaves this one out and tells
            self._refusals[data_identifier] = error
            return unbounded
        image, largest = median_shape[: len(spacing)], patch_of(unbounded)
        search = Search(offer, self._needed_by, self.limit, image, largest, self.UNet_min_batch_size)
        plan, fit = search.fit(start)
        self._fits[data_identifier] = fit
        self._asked[data_identifier] = (spacing, median_shape, approximate_n_voxels_dataset)
        return {**plan, "batch_size": fit.batch, "median_image_size_in_voxels": median_shape}

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Keeps what the network can be trained in and what fits, with the base plans' data where they are the same."""
        configurations = plans["configurations"]
        for name in [n for n in configurations if int(n[0]) not in self.memory.spec.dimensions]:
            del configurations[name]
        if not configurations:
            wanted = " or ".join(f"{d}D" for d in self.memory.spec.dimensions)
            raise ValueError(f"{self.memory.spec.trainer} is a {wanted} network, which this dataset is not for.")
        if CASCADE in configurations and not self._rests_on_refused(self.generate_data_identifier(CASCADE)):
            configurations[CASCADE] |= self._plan_cascade()
        self._leave_out_refused(configurations)
        recursive_fix_for_json_export(plans)
        share_data(plans, self.base)
        self.write(plans)

    def write(self, plans: dict[str, Any]) -> None:
        """Writes the final plans."""
        self._forget_earlier()
        super().save_plans(plans)

    def _rests_on_refused(self, data_identifier: str) -> bool:
        needed = next((n for c, n in RESTS_ON.items() if self.generate_data_identifier(c) == data_identifier), set())
        return any(self.generate_data_identifier(name) in self._refusals for name in needed)

    def _leave_out_refused(self, configurations: dict[str, Any]) -> None:
        """Removes what does not fit and what rests on it; if that is all, its refusal is the answer."""
        refusals = {name: self._refusals.get(self.generate_data_identifier(name)) for name in configurations}
        self.refused = {name: str(error) for name, error in refusals.items() if error}
        for name, needed in RESTS_ON.items():
            if name in configurations and (lacking := sorted(needed & self.refused.keys())):
                self.refused.setdefault(name, f"It rests on {lacking[0]}.")
        if self.refused.keys() >= configurations.keys():
            raise next(error for name in reversed(STANDARD) if (error := refusals.get(name)))
        for name in self.refused:
            del configurations[name]
        if CASCADE in self.refused:
            configurations.get("3d_lowres", {}).pop("next_stage", None)  # its trainer would predict for the cascade

    def _plan_cascade(self) -> dict[str, Any]:
        """The labels of the low resolution are further channels, for which the plan of 3d_fullres may have no room."""
        self._further_channels = self._labels
        spacing, image, voxels = self._asked[self.generate_data_identifier("3d_fullres")]
        plan = self.get_plans_for_configuration(spacing, image, self.generate_data_identifier(CASCADE), voxels, {})
        self._further_channels = 0
        return {key: plan[key] for key in ("patch_size", "batch_size", "architecture")}

    def _forget_earlier(self) -> None:
        """nnU-Net keeps what it finds in an earlier file; a standard configuration in it was for another target."""
        if self.path.is_file():
            earlier = json.loads(self.path.read_text(encoding="utf-8"))
            earlier["configurations"] = {k: c for k, c in earlier["configurations"].items() if k not in STANDARD}
            self.path.write_text(json.dumps(earlier), encoding="utf-8")

    def _needed_by(self, plan: Plan, batch: int) -> int:
        return self._needed(plan["architecture"]["arch_kwargs"], patch_of(plan), batch)

    def _needed(self, architecture: Mapping[str, Any], patch: Sequence[int], batch: int) -> int:
        shape = (batch, self._image_channels + self._further_channels, *patch)
        return self.memory(architecture, shape, classes=self._classes, image_channels=self._image_channels)

    def _refusal(self) -> ValueError:
        if math.isinf(self._least):
            return ValueError(
                "The median image is so small that nnU-Net halves none of its axes; nothing can be planned."
            )
        least = math.ceil((self._least / GB + self.reserve) * 1000) / 1000
        return ValueError(
            f"{self.memory.spec.trainer}_{self.memory.size} does not fit {self.UNet_vram_target_GB + self.reserve:g} "
            f"GB with the smallest legal patch and batch {self.UNet_min_batch_size}; it needs {least:g} GB."
        )

    def _check(self) -> None:
        spec = self.memory.spec
        if spec.detector:
            raise ValueError(
                f"{spec.trainer} is a detector, which has a plan of its own; `nnunet_ext plan-roi` adds it."
            )
        if not spec.task.decodes:
            raise ValueError(
                f"{spec.trainer} has no decoder whose memory could be predicted; train it with nnU-Net's plan or with "
                f"that of the network that segments."
            )
        if spec.branches:
            resolve_channels(spec.modalities, self._channel_names, self._source)
        if spec.input_size:
            size = "x".join(map(str, spec.input_size))
            raise ValueError(f"{spec.trainer} reads images of {size} voxels only, so no patch can be planned for it.")
