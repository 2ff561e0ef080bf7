"""The grammar of trainer names."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_ext.networks.registry import PREFIX, default_size, specs
from nnunet_ext.trainers.grammar import WORDS, parse

APPLICABLE = [w for w in WORDS if w.changes]
NAMES = [
    f"{PREFIX}{spec.trainer}{suffix}"
    for spec in specs()
    for suffix in [f"_{s}" for s in spec.sizes] + ([""] if default_size(spec) else [])
]


@pytest.mark.parametrize("name", NAMES)
def test_every_declared_network_has_its_trainers(name):
    parsed = parse(name)
    assert parsed is not None
    assert parsed.size in parsed.spec.sizes
    assert parsed.changes == {}
    assert "__" not in name, "nnU-Net splits the results folder's name on two underscores"


def test_the_spelled_out_default_size_is_the_same_network():
    plain, spelled = parse(PREFIX + "DualBranchGhost"), parse(PREFIX + "DualBranchGhost_S")
    assert (plain.spec, plain.size) == (spelled.spec, spelled.size)


@pytest.mark.parametrize(
    "name", ["nnUNetTrainer", "nnUNetTrainer_250epochs", "nnUNetTrainer_Else_XS", "Other", "__path__"]
)
def test_other_names_are_not_ours(name):
    assert parse(name) is None


def test_words_set_the_recipe():
    parsed = parse(PREFIX + "DualBranchGhost_XS_2epochs_iter10_seed0")
    assert parsed.size == "XS"
    assert parsed.changes == {"epochs": 2, "iterations": 10, "seed": 0}


@given(st.permutations(["M", "2epochs", "iter10", "seed1"]))
def test_one_order_is_legal_and_the_others_name_it(words):
    legal = PREFIX + "DualBranchGhost_M_2epochs_iter10_seed1"
    name = PREFIX + "DualBranchGhost_" + "_".join(words)
    if name == legal:
        assert parse(name).changes
    else:
        with pytest.raises(ValueError, match=f"the legal name is {legal}"):
            parse(name)


@pytest.mark.parametrize(
    ("suffix", "expected"),
    [
        ("2epoch", "nearest: 250epochs"),
        ("XS_seed", "nearest: seed42"),
        ("xs", "XS, S, M, L"),
        ("0epochs", "unknown word '0epochs'"),
        ("02epochs", "unknown word '02epochs'"),
        ("XS_M", "both set the size"),
        ("XS_2epochs_3epochs", "both set the epochs"),
        ("iter5_iter5", "both set the iterations"),
        ("AdamW3en4", "cannot apply 'AdamW3en4' (optimiser)"),
        ("", "unknown word ''"),
    ],
)
def test_illegal_words_are_explained(suffix, expected):
    with pytest.raises(ValueError, match="DualBranchGhost") as error:
        parse(f"{PREFIX}DualBranchGhost_{suffix}")
    assert expected in str(error.value)
    assert str(error.value).count(". ") <= 1, "one or two sentences"


@pytest.mark.parametrize("word", [w for w in WORDS if not w.changes], ids=lambda w: w.example)
def test_a_word_without_effect_is_refused(word):
    with pytest.raises(ValueError, match=f"cannot apply '{word.example}'"):
        parse(f"{PREFIX}DualBranchGhost_{word.example}")


def test_the_example_of_the_documents_is_in_the_legal_order():
    words = ["CoordConv", "AdamW3en4", "Cosine", "Dice70CE30", "Clip1", "Acc4", "250epochs", "seed42"]
    kinds = [next(i for i, w in enumerate(WORDS) if w.regex.fullmatch(word)) for word in words]
    assert kinds == sorted(kinds)


def test_no_two_kinds_share_a_word():
    for a, b in itertools.permutations(WORDS, 2):
        assert not a.regex.fullmatch(b.example), f"{b.example} is both {a.kind} and {b.kind}"
    assert all(w.regex.fullmatch(w.example) for w in WORDS)
    assert len(APPLICABLE) >= 3
