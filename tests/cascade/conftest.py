"""Two untrained models for all tests."""

import pytest

from tests.cascade import models


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """A folder like nnUNet_results."""
    root = tmp_path_factory.mktemp("results")
    models.write(root, models.SEGMENTATION, "3d_fullres", folds=(0, 1))
    models.write(root, models.DETECTOR, "3d_roi")
    return root


@pytest.fixture(scope="session")
def folders(results):
    """(segmentation, detector)."""
    dataset = next(results.iterdir())
    return (
        dataset / f"{models.SEGMENTATION}__nnUNetPlans__3d_fullres",
        dataset / f"{models.DETECTOR}__nnUNetPlans__3d_roi",
    )
