import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_ext.networks.channels import (
    ALIASES,
    DEFAULT_ORDER,
    channel_names,
    default_channels,
    modality_of,
    resolve_channels,
)
from nnunet_ext.networks.spec import MODALITIES

orders = st.one_of(st.permutations(MODALITIES), st.permutations(DEFAULT_ORDER[2]))


@st.composite
def datasets(draw):
    """Canonical names in some order, and a dataset.json's channel names for them."""
    order = draw(orders)
    spelt = [draw(st.sampled_from(ALIASES[m])) for m in order]
    cased = [draw(st.sampled_from((str.lower, str.upper, str.title)))(name) for name in spelt]
    return order, {str(i): draw(st.sampled_from(("", " "))) + name for i, name in enumerate(cased)}


@given(datasets(), st.data())
def test_each_modality_is_found_under_its_name(dataset, data):
    order, channel_names = dataset
    wanted = data.draw(st.lists(st.sampled_from(order), unique=True))
    channels = resolve_channels(wanted, channel_names)
    assert [order[c] for c in channels] == wanted


@pytest.mark.parametrize(
    "names",
    [
        ("T1", "T1ce", "T2", "FLAIR"),  # this converter, BraTS to 2021
        ("t1n", "t1c", "t2w", "t2f"),  # BraTS from 2023
        ("T1w", "T1gd", "T2w", "FLAIR"),  # the Medical Segmentation Decathlon, in another order
    ],
)
def test_the_names_of_the_public_datasets_are_known(names):
    assert resolve_channels(MODALITIES, {str(i): name for i, name in enumerate(names)}) == (0, 1, 2, 3)


@given(datasets())
def test_a_missing_modality_is_refused_by_name(dataset):
    order, channel_names = dataset
    missing = sorted(set(MODALITIES) - set(order))
    if not missing:
        assert len(resolve_channels(MODALITIES, channel_names)) == 4
        return
    with pytest.raises(ValueError, match=missing[0]) as error:
        resolve_channels([*order, *missing], channel_names)
    assert all(repr(name) in str(error.value) for name in channel_names.values())


@given(datasets(), st.text(), st.data())
def test_an_unknown_name_is_refused(dataset, name, data):
    order, channel_names = dataset
    index = data.draw(st.sampled_from(sorted(channel_names)))
    if modality_of(name) is None:
        with pytest.raises(ValueError, match=r"dataset\.json"):
            resolve_channels(order[:1], {**channel_names, index: name})


@pytest.mark.parametrize(
    "names",
    [
        ("t1", "t1n", "t2", "flair"),
        ("t1ce", "t1c", "t2", "flair"),
        ("t1ce", "t2", "flair"),
        ("t1ce",),
        (),
        ("t1ce", "flair", "flair"),
    ],
    ids=str,
)
def test_twice_the_same_or_another_number_is_refused(names):
    with pytest.raises(ValueError, match="each modality once"):
        resolve_channels(("t1ce",), {str(i): name for i, name in enumerate(names)})


def test_names_are_read_under_both_of_nnunets_keys():
    names = {"0": "T1", "1": "T1ce"}
    assert channel_names({"channel_names": names}) == channel_names({"modality": names}) == names
    assert channel_names({"modality": names, "channel_names": {}}) == names, "nnU-Net reads the older one first"
    with pytest.raises(ValueError, match=r"there/dataset\.json names no channels"):
        channel_names({"labels": {}}, "there/dataset.json")


def test_the_message_names_the_file():
    with pytest.raises(ValueError, match=r"give channel_names in there/dataset\.json known names"):
        resolve_channels(("t1ce",), {"0": "a", "1": "b"}, "there/dataset.json")


def test_no_name_stands_for_two_modalities():
    names = [name for aliases in ALIASES.values() for name in aliases]
    assert len(set(names)) == len(names)
    assert tuple(ALIASES) == MODALITIES


def test_the_converters_order_is_the_default():
    assert default_channels(("t1ce", "flair"), 4) == (1, 3)
    assert default_channels(("flair", "t1ce"), 2) == (1, 0)
    assert default_channels(MODALITIES, 4) == (0, 1, 2, 3)


@pytest.mark.parametrize("number", [0, 1, 3, 5])
def test_another_number_of_channels_is_refused(number):
    with pytest.raises(ValueError, match=f"it was given {number}"):
        default_channels(("t1ce", "flair"), number)


def test_two_channels_hold_no_t1():
    with pytest.raises(ValueError, match="'t1ce', 'flair'"):
        default_channels(MODALITIES, 2)
