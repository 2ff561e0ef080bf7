import subprocess
import sys

import pytest

from nnunet_ext.networks import models, registry
from nnunet_ext.networks.spec import SIZES
from tests.networks import plans

SPEC = registry.find("DualBranchGhost")[0]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("dualbranch_14_ghostnet", "S"),
        ("DualBranchGhost", "S"),
        ("nnUNetTrainer_DualBranchGhost", "S"),
        ("DualBranchGhost_S", "S"),
        ("nnUNetTrainer_DualBranchGhost_XS", "XS"),
        ("dualbranch_14_ghostnet_l", "L"),
        ("DUALBRANCHGHOST_m", "M"),
    ],
)
def test_a_network_is_found_under_all_its_names(name, size):
    assert registry.find(name) == (SPEC, size)


def test_every_spelling_of_every_network_is_found():
    for spec in registry.specs():
        for name, size in registry.full_names(spec).items():
            assert registry.find(name) == (spec, size)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"nearest: .*dualbranchghost"):
        registry.find("DualBranchGost")
    with pytest.raises(ValueError, match="nnunet_ext list"):
        registry.find("!")


def test_an_unknown_size_is_answered_with_the_sizes():
    with pytest.raises(ValueError, match=f"{', '.join(SIZES)}, not 'XXL'"):
        plans.build(SPEC, plans.isotropic(3), size="XXL")


REFUSED = [(spec, dims) for spec in registry.specs() for dims in (2, 3) if dims not in spec.dimensions]


@pytest.mark.parametrize(("spec", "dims"), REFUSED, ids=[f"{spec.trainer}-{dims}d" for spec, dims in REFUSED])
def test_other_dimensions_than_the_declared_are_refused(spec, dims):
    with pytest.raises(ValueError, match=f"the configuration is {dims}D.*-c"):
        plans.build(spec, plans.isotropic(dims))


def test_the_size_without_a_suffix_is_s():
    assert registry.default_size(SPEC) == "S"
    network = registry.build(SPEC, 4, 3, plans.isotropic(2))
    assert network.encoder.output_channels[0] == SPEC.widths["S"]


def test_dotted_paths_know_only_networks():
    assert models.DualBranchGhost.args == (SPEC,)
    with pytest.raises(AttributeError, match="DualBranchGost"):
        models.DualBranchGost  # noqa: B018 - reading the attribute is what fails
    assert not hasattr(models, "__path__")


def test_listing_imports_no_torch():
    listing = "from nnunet_ext.networks import registry; [registry.full_names(s) for s in registry.specs()]"
    check = "import sys; assert not {'torch', 'nnunetv2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", f"{listing}; {check}"], check=True)
