"""Coordinates in prediction: the configuration that a predictor asks for its preprocessor gives one that appends them.

nnU-Net's predictor hands its configuration to the builder of the network and preprocesses with the same object later.
Changing the class of that object is the one liberty taken here: no file and no class of nnU-Net changes, it may be done
again at any time, and the builder of a network without coordinates undoes it.
"""

from typing import Any

import numpy as np
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from numpy.typing import NDArray

from nnunet_ext.coordinates.field import coordinates


class CoordinatePreprocessor(DefaultPreprocessor):
    """The configuration's own preprocessor, with the coordinates behind the image's channels."""

    def run_case_npy(
        self,
        data: NDArray[Any],
        seg: NDArray[Any] | None,
        properties: dict,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        dataset_json: dict | str,
    ) -> tuple[NDArray[Any], NDArray[Any], dict]:
        """As nnU-Net's, (C, Z, Y, X) -> (C + 3, Z, Y, X); files go through here as well."""
        plain = ConfigurationManager.preprocessor_class.fget(configuration_manager)(verbose=self.verbose)
        image, labels, properties = plain.run_case_npy(
            data, seg, properties, plans_manager, configuration_manager, dataset_json
        )
        return np.concatenate([image, coordinates(image.shape[1:])]), labels, properties


class CoordinateConfiguration(ConfigurationManager):
    """nnU-Net's configuration with another preprocessor. At module level: spawned workers unpickle it."""

    @property
    def preprocessor_class(self) -> type[DefaultPreprocessor]:
        """The preprocessor that appends coordinates."""
        return CoordinatePreprocessor


def set_coordinates(configuration: ConfigurationManager, wanted: bool) -> None:
    """Makes a predictor that uses this object feed coordinates, or not."""
    assert type(configuration) in (ConfigurationManager, CoordinateConfiguration), "a configuration of somebody else"
    configuration.__class__ = CoordinateConfiguration if wanted else ConfigurationManager
