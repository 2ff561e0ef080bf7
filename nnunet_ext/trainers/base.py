"""The one trainer of which all generated classes are subclasses: nnU-Net's trainer with our networks and recipes.

It overrides hooks only; every command and file of nnU-Net stays its own.
"""

import os
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_ext import __version__
from nnunet_ext.coordinates.augmentation import spare_coordinates
from nnunet_ext.coordinates.dataset import WITH_COORDINATES
from nnunet_ext.networks.channels import channel_names, resolve_channels
from nnunet_ext.networks.spec import NetworkSpec
from nnunet_ext.trainers.applying import RECIPE_FILE, write_json
from nnunet_ext.trainers.building import build_network
from nnunet_ext.trainers.detector import whole_tumor_only
from nnunet_ext.trainers.grammar import check_length
from nnunet_ext.trainers.recipe import Recipe
from nnunet_ext.trainers.reporting import ReportingTrainer
from nnunet_ext.trainers.seeding import seed_everything, without_timed_choices

# what nnU-Net's validation transforms take of the arguments of its training transforms
VALIDATION = ("deep_supervision_scales", "is_cascaded", "foreground_labels", "regions", "ignore_label")


class ExtTrainer(ReportingTrainer):
    """Trains a declared network by a recipe; the subclasses set the three class attributes and nothing else.

    The arguments are nnU-Net's. Before anything is created it raises ValueError if the dataset's channels are not the
    modalities that the network reads.
    """

    spec: ClassVar[NetworkSpec]
    size: ClassVar[str]
    recipe: ClassVar[Recipe]
    dataset_class: type[nnUNetBaseDataset]  # nnU-Net's

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature, which it reads by inspection
    ) -> None:
        check_length(f"{type(self).__name__}__{plans['plans_name']}__{configuration}")
        self.modality_channels = _modality_channels(self.spec, dataset_json, plans["dataset_name"])
        dataset_json = whole_tumor_only(dataset_json) if self.spec.detector else dataset_json
        super().__init__(plans, configuration, fold, dataset_json, device)
        self._take_place()
        self._apply_recipe()

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Builds and initialises the network for a plan; nnU-Net calls it in training and in inference."""
        return build_network(
            cls.spec,
            cls.size,
            cls.recipe,
            configuration_manager,
            num_input_channels,
            num_output_channels,
            enable_deep_supervision,
        )

    def initialize(self) -> None:
        """As nnU-Net's; the seed makes the initial weights repeatable, the dataset decides the branches' channels."""
        if self.recipe.seed is not None:
            seed_everything(self.recipe.seed)
        super().initialize()
        if self.recipe.coordinates:
            self.dataset_class = WITH_COORDINATES[self.dataset_class]
        self._use_channels_of_dataset()

    @classmethod
    def get_training_transforms(cls, *args: Any, **kwargs: Any) -> BasicTransform:
        """nnU-Net's augmentation, without its choices by run time where a seed asks for repeatable runs."""
        if cls.recipe.augmentation == "none":
            given = signature(super().get_training_transforms).bind(*args, **kwargs).arguments
            return cls.get_validation_transforms(**{name: given[name] for name in VALIDATION if name in given})
        transforms = super().get_training_transforms(*args, **kwargs)
        if cls.recipe.seed is not None:
            transforms = without_timed_choices(transforms)
        return spare_coordinates(transforms) if cls.recipe.coordinates else transforms

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(  # noqa: N802 - nnU-Net's name
        self,
    ) -> tuple[Any, bool, Any, tuple[int, ...] | None]:
        """As nnU-Net's; without mirroring in training there is none in prediction, and none needs no margin."""
        rotation, dummy_2d, loaded, mirrored = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        if self.recipe.augmentation != "full":
            mirrored = self.inference_allowed_mirroring_axes = None
        if self.recipe.augmentation == "none":
            loaded = self.configuration_manager.patch_size
        return rotation, dummy_2d, loaded, mirrored

    def on_train_start(self) -> None:
        """As nnU-Net's; also saves the recipe and resolves the channels again, now that pretrained weights are in.

        Raises:
            ValueError: a training that is continued was begun with another recipe.
        """
        if self.was_initialized and (loaded := self._use_channels_of_dataset()) != self.modality_channels:
            self.print_to_log_file(
                f"The pretrained weights read the channels {loaded} for {self.spec.modalities}; this dataset has them "
                f"at {self.modality_channels}, which are used."
            )
        if self.recipe.seed is not None:
            seed_everything(self.recipe.seed)
        super().on_train_start()
        if self.local_rank == 0:
            self._save_recipe()

    def load_checkpoint(self, filename_or_checkpoint: dict | str) -> None:
        """As nnU-Net's.

        Raises:
            ValueError: the checkpoint's branches read other channels than the dataset now has for their modalities.
        """
        super().load_checkpoint(filename_or_checkpoint)
        if (stored := self._stored_channels()) != self.modality_channels:
            raise ValueError(
                f"The checkpoint reads {self.spec.modalities} from the channels {stored}, but dataset.json has them at "
                f"{self.modality_channels}; restore the dataset's channel order, or use -pretrained_weights."
            )

    def _stored_channels(self) -> tuple[int, ...]:
        network = self.bare_network
        return tuple(network.encoder.modality_channels.tolist()) if self.spec.branches else ()

    def _use_channels_of_dataset(self) -> tuple[int, ...]:
        """Writes the dataset's channels into the network; returns those that it read before."""
        before = self._stored_channels()
        if self.spec.branches:
            buffer = self.bare_network.encoder.modality_channels
            buffer.copy_(torch.tensor(self.modality_channels))
        return before

    def _save_recipe(self) -> None:
        record = {
            "trainer": type(self).__name__,
            "network": self.spec.name,
            "size": self.size,
            "nnunet_ext": __version__,
            **self.recipe.as_dict(),
        }
        write_json(record, Path(self.output_folder, RECIPE_FILE))


def _modality_channels(spec: NetworkSpec, dataset_json: dict, dataset: str) -> tuple[int, ...]:
    """Channel of each modality that the branches read; empty for a network without branches."""
    if not spec.branches:
        return ()
    source = str(Path(os.environ.get("nnUNet_preprocessed", "nnUNet_preprocessed"), dataset, "dataset.json"))
    return resolve_channels(spec.modalities, channel_names(dataset_json, source), source)
