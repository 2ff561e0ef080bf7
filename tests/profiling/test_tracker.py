import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nnunet_ext.profiling.autocast import precision_of
from nnunet_ext.profiling.predict import _follow_forward, memory, predict
from nnunet_ext.profiling.stages import stage_of_parameters, stages_of
from nnunet_ext.profiling.timeline import find_peak
from nnunet_ext.profiling.tracker import ACTIVATION, Block, Tracker
from tests.profiling.small import FAMILIES, PATCH, build

FLOAT = 4


class Chain(nn.Module):
    """Two squares with a shortcut, and something between the stages."""

    def __init__(self):
        super().__init__()
        self.first, self.second = Square(), Square()

    def forward(self, x):
        x = self.first(x)
        y = torch.cat((x, x))
        return self.second(y).sum()


class Square(nn.Module):
    def forward(self, x):
        return x * x


def follow(n: int) -> Tracker:
    network = Chain()
    tracker = Tracker(network, {network.first: "first", network.second: "second"})
    x = torch.empty(n, device="meta", requires_grad=True)
    tracker.declare([x], "input")
    with tracker:
        loss = network(x)
        with tracker.stage("loss"):
            loss = loss + loss
        loss.backward()
    tracker.declare([x.grad], "gradient")
    return tracker


def test_what_is_made_belongs_to_a_stage_in_both_passes():
    made: dict[str, int] = {}
    for block in follow(100).blocks:
        if block.kind == ACTIVATION and block.nbytes >= 100 * FLOAT:
            made[block.stage] = made.get(block.stage, 0) + block.nbytes // (100 * FLOAT)
    # second: cat (2), its square (2); backward: two products (2 + 2), their sum (2), the two halves' gradients and sum
    assert made["first"] >= 1 + 2
    assert made["second"] >= 2 + 2 + 2 + 2 + 2
    assert set(made) <= {"first", "second"}


def test_peak_of_a_chain_by_hand():
    with torch.no_grad():
        network = Chain()
        tracker = Tracker(network, {network.first: "first", network.second: "second"})
        x = torch.empty(100, device="meta")
        tracker.declare([x], "input")
        with tracker:
            network(x)
    peak = find_peak(tracker.blocks)
    # the square of the first stage, its doubled form, the latter's square and the sum live at once
    assert peak.by_stage == {"first": 100 * FLOAT, "second": (200 + 200 + 1) * FLOAT}
    assert peak.by_kind == peak.highest == {"input": 100 * FLOAT, ACTIVATION: 501 * FLOAT}


def test_activations_peak_at_another_moment_than_all_memory():
    """By hand: ten bytes of activations at once, five when the gradient is there."""
    blocks = [Block(10, "a", ACTIVATION, 1, 2), Block(100, "b", "gradient", 3), Block(5, "b", ACTIVATION, 4)]
    peak = find_peak(blocks)
    assert peak.by_kind == {ACTIVATION: 5, "gradient": 100}
    assert peak.highest == {ACTIVATION: 10, "gradient": 100}
    assert peak.by_stage == {"a": 10, "b": 0}
    assert peak.own_peaks == {"a": 10, "b": 5}
    assert (memory(peak).pam, memory(peak).total, memory(peak).stage) == (10, 105, "a")


def test_half_precision_copies_of_weights_are_no_activations():
    """By hand: of 64 numbers 32 are made, all in half precision, and so is the copy of 64 x 32 weights."""
    network = nn.Linear(64, 32, bias=False, device="meta")
    seen = _follow_forward(network, (1, 64), precision_of("cuda", "amp"), "cuda")
    found = memory(find_peak(seen.blocks))
    assert (found.pam, found.most_copies, found.copies) == (2 * (64 + 32), 2 * 64 * 32, 2 * 64 * 32)
    assert found.parameters == FLOAT * 64 * 32
    assert found.total == found.pam + found.copies + found.parameters + FLOAT * 64


def test_views_and_changes_in_place_take_no_memory():
    class InPlace(nn.Module):
        def forward(self, x):
            return x.view(2, 50).transpose(0, 1).add_(1)

    network = InPlace()
    tracker = Tracker(network, {})
    x = torch.empty(100, device="meta")
    tracker.declare([x], "input")
    with tracker:
        network(x)
    assert [block.nbytes for block in tracker.blocks] == [100 * FLOAT]


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_of_stages_add_up(name):
    network = build(name)
    cost = predict(network, (2, 4, *PATCH))
    rows = cost.stages
    assert sum(r.parameters for r in rows) == cost.parameters == sum(p.numel() for p in network.parameters())
    assert sum(r.macs for r in rows) == cost.macs
    assert sum(r.training for r in rows) == cost.training.pam
    assert sum(r.inference for r in rows) == cost.inference.pam
    assert all(r.training_peak >= r.training and r.inference_peak >= r.inference for r in rows)
    # of UNETR the position of each token is a parameter of the encoder itself
    loose = sum(p.numel() for part, p in network.named_parameters() if part == "encoder.position")
    assert next(r.parameters for r in rows if r.stage == "other") == loose
    assert bool(loose) == (name == "unetr_xs")


def test_stages_have_the_names_of_the_plan():
    network = build("dualbranch_14_ghostnet_xs")
    labels = list(dict.fromkeys(stages_of(network).values()))
    branches = [f"{modality} stage {i}" for modality in ("t1ce", "flair") for i in (1, 2, 3)]
    fusions = [f"fusion {i}" for i in (1, 2, 3)]
    decoder = [f"decoder stage {i}" for i in (3, 2, 1)]
    assert labels == [*branches, *fusions, "bottleneck", *decoder, "heads"]


def test_stages_of_a_shifted_window_transformer_have_the_resolution_of_their_blocks():
    labels = list(dict.fromkeys(stages_of(build("swin_unetr_xs")).values()))
    encoder = ["patch embedding", "encoder stage 2", "encoder stage 3"]
    skips, decoder = [f"skip {i}" for i in (1, 2, 3, 4)], [f"decoder stage {i}" for i in (3, 2, 1)]
    assert labels == [*encoder, *skips, *decoder, "heads"]


def test_blocks_of_a_transformer_are_one_stage():
    labels = list(dict.fromkeys(stages_of(build("unetr_xs")).values()))
    skips, decoder = [f"skip {i}" for i in (1, 2, 3)], [f"decoder stage {i}" for i in (3, 2, 1)]
    assert labels == ["patch embedding", "transformer", *skips, *decoder, "heads"]


def test_digits_of_a_modules_own_name_stay():
    network = nn.Module()
    network.encoder1, network.down = nn.Identity(), nn.ModuleList([nn.Identity()])
    assert list(stages_of(network).values()) == ["encoder1", "down 1"]


def test_an_encoder_that_its_decoder_holds_as_well_is_counted_in_its_stages():
    encoder, decoder = nn.Module(), nn.Module()
    encoder.stages = nn.Sequential(nn.Conv3d(1, 1, 1), nn.Conv3d(1, 1, 1))
    decoder.encoder, decoder.stages = encoder, nn.ModuleList([nn.Conv3d(1, 1, 1)])
    network = nn.Module()
    network.encoder, network.decoder = encoder, decoder
    stages = stages_of(network)
    assert list(stages.values()) == ["encoder stage 1", "bottleneck", "decoder stage 1"]
    assert set(stage_of_parameters(network, stages, "other").values()) == set(stages.values())


blocks = st.lists(
    st.builds(
        lambda nbytes, stage, kind, born, life: Block(nbytes, stage, kind, born, life and born + life),
        st.integers(1, 9),
        st.sampled_from(["a", "b", None]),
        st.sampled_from([ACTIVATION, "parameter"]),
        st.integers(0, 40).map(lambda t: 2 * t),
        st.one_of(st.none(), st.integers(0, 20).map(lambda t: 2 * t + 1)),
    ),
    min_size=1,
    max_size=12,
    unique_by=(lambda b: b.born, lambda b: b.died or -b.born),
)


@settings(deadline=None, max_examples=50)
@given(blocks)
def test_peak_is_the_highest_of_all_moments(blocks):
    def live(moment, **wanted):
        return sum(
            b.nbytes
            for b in blocks
            if b.born <= moment and (b.died is None or moment < b.died)
            if all((getattr(b, name) or "other") == value for name, value in wanted.items())
        )

    moment = max(range(130), key=live)
    peak = find_peak(blocks)
    assert sum(peak.by_kind.values()) == live(moment)
    assert peak.by_kind == {kind: live(moment, kind=kind) for kind in peak.by_kind}
    assert peak.highest == {kind: max(live(t, kind=kind) for t in range(130)) for kind in peak.by_kind}
    assert sum(peak.by_stage.values()) == peak.highest.get(ACTIVATION, 0)
    for stage, nbytes in peak.own_peaks.items():
        assert nbytes == max(live(t, kind=ACTIVATION, stage=stage) for t in range(130))
