"""Names from patterns and words, against the grammar and its slow twin: trying all subsets of the words."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_ext.networks.registry import PREFIX, specs
from nnunet_ext.networks.tasks import SEGMENTATION
from nnunet_ext.trainers.grammar import parse
from nnunet_ext.trainers.naming import kind_of, legal_name, merged, networks_like, parts
from nnunet_ext.trainers.words import WORDS

PLAIN = [spec for spec in specs() if "S" in spec.sizes and spec.task == SEGMENTATION]
NO_EXAMPLE = ("frozen encoder", "unfrozen stages")  # of few epochs, and only after it
EXAMPLES = [w.example for w in WORDS if w.kind not in NO_EXAMPLE and SEGMENTATION in w.tasks]
BY_TRAINER = {spec.trainer: spec for spec in specs()}


@given(st.sampled_from(PLAIN), st.lists(st.sampled_from([*EXAMPLES, "XS", "S", "SGD", "Poly"]), max_size=4))
def test_a_legal_name_is_legal_and_means_all_words(spec, words):
    kinds = [kind_of(spec, word) for word in words]
    if len(set(kinds)) < len(kinds):
        with pytest.raises(ValueError, match="both set the"):
            legal_name(spec, words)
        return
    name = legal_name(spec, words)
    parsed = parse(name)
    size = next((word for word in words if word in spec.sizes), "S")
    assert (parsed.spec, parsed.size) == (spec, size)
    assert parsed.recipe == twin(spec, [word for word in words if word not in spec.sizes])


def twin(spec, words):
    """The recipe of the longest legal name that can be made of the words; it must take all that change anything."""
    recipes = []
    ordered = sorted(words, key=lambda word: next(i for i, kind in enumerate(WORDS) if kind.regex.fullmatch(word)))
    for count in range(len(ordered), -1, -1):
        for chosen in combinations(ordered, count):
            try:
                recipes.append(parse("_".join([PREFIX + spec.trainer, *chosen])).recipe)
            except ValueError:
                continue
        if recipes:
            break
    return recipes[0]


@pytest.mark.parametrize(
    ("network", "words", "name"),
    [
        ("UNet3D", ["2epochs", "XS"], "UNet3D_XS_2epochs"),
        ("UNet3D", ["S", "SGD1en2"], "UNet3D"),
        ("UNETR", ["Cosine", "SGD"], "UNETR_SGD"),
        ("DualBranchConvNeXt", ["AdamW", "WD3en5"], "DualBranchConvNeXt"),
        ("UNet3D", ["AdamW1en3"], "UNet3D_AdamW"),
        ("ROIUNet3D", ["seed3", "Tiny"], "ROIUNet3D_Tiny_seed3"),
    ],
)
def test_names(network, words, name):
    assert legal_name(BY_TRAINER[network], words) == PREFIX + name


def test_words_that_make_no_training_are_refused():
    with pytest.raises(ValueError, match="unknown word 'cosine' \\(nearest: Cosine\\)"):
        legal_name(BY_TRAINER["UNet3D"], ["cosine"])
    with pytest.raises(ValueError, match="20 epochs of warm-up leave none of 2"):
        legal_name(BY_TRAINER["UNet3D"], ["Warmup20", "2epochs"])
    with pytest.raises(ValueError, match="always written"):
        legal_name(BY_TRAINER["ROIUNet3D"], [])


def test_a_later_group_replaces_words_of_its_kind():
    spec = BY_TRAINER["UNETR"]
    assert merged(spec, [["250epochs", "SGD"], ["Adam3en4"], ["XS"]]) == ["XS", "Adam3en4", "250epochs"]
    with pytest.raises(ValueError, match="'XS' and 'M' both set the size of UNETR"):
        merged(spec, [["XS", "M"]])


def test_patterns():
    assert [spec.trainer for spec in networks_like("UNet3DS*")] == ["UNet3DStride"]
    assert networks_like("UNETR") == (BY_TRAINER["UNETR"],)
    assert networks_like("unetr") == ()
    assert len(networks_like("*")) == len(specs())
    assert parts("nnUNetTrainer_UNETR_XS_NoMirror") == ("UNETR", ["XS", "NoMirror"]) == parts("UNETR_XS_NoMirror")
