"""Model folders and cases for all tests; they do not write into them."""

import pytest

from tests.cascade import models
from tests.explain.models import write_cases


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Trainer's name without its prefix -> folder of an untrained model, made when it is asked for."""
    root, made = tmp_path_factory.mktemp("models"), {}

    def folder(name, **options):
        key = (name, *sorted(options.items()))
        if key not in made:
            made[key] = models.write(root / str(len(made)), f"nnUNetTrainer_{name}", "3d_fullres", **options)
        return made[key]

    return folder


@pytest.fixture(scope="session")
def raw(tmp_path_factory):
    """(images, labels) of two cases."""
    return write_cases(tmp_path_factory.mktemp("raw"), "first", "second")
