"""Heads and losses against statsmodels, lifelines, torch and slow twins."""

import itertools
import math
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.miscmodels.ordinal_model import OrderedModel
from torch import nn

from nnunet_ext.outcomes import losses
from nnunet_ext.outcomes.columns import Column
from nnunet_ext.outcomes.conformal import half_width
from nnunet_ext.outcomes.heads import GAIN, HEADS, Heads, OrdinalHead, SurvivalHead
from nnunet_ext.outcomes.losses import CaseLoss

GRADE = Column("grade", "ordinal", ("low", "middle", "high"))
TYPE = Column("type", "class", ("A", "B", "C", "D"))
SCORE = Column("score", "regression")
DAYS = Column("days", "survival")
ALL = (GRADE, TYPE, SCORE, DAYS)


def fit(parameters, closure_of, steps=40):
    """Full-batch minimisation in float64."""
    optimiser = torch.optim.LBFGS(parameters, max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = closure_of()
        loss.backward()
        return loss

    for _ in range(steps):
        optimiser.step(closure)
    return closure_of().item()


# --- ordinal


def test_the_ordinal_head_on_a_linear_encoder_is_statsmodels_ordered_model():
    """On its own test data (https://stats.oarc.ucla.edu/r/dae/ordinal-logistic-regression/).

    The numbers at the end are what statsmodels prints with its default tolerance, which ends 2e-4 before the optimum.
    """
    table = pd.read_csv(files("statsmodels.miscmodels.tests.results").joinpath("ologit_ucla.csv"))
    levels, names = ("unlikely", "somewhat likely", "very likely"), ["pared", "public", "gpa"]
    table["apply"] = pd.Categorical(table["apply"], levels, ordered=True)
    oracle = OrderedModel(table["apply"], table[names], distr="logit").fit(
        method="bfgs", disp=0, gtol=1e-8, maxiter=1000
    )
    x, y = torch.tensor(table[names].to_numpy(float)), torch.tensor(table["apply"].cat.codes.to_numpy(int))
    head = OrdinalHead(3, Column("apply", "ordinal", levels)).double()
    head.start(y.double(), torch.zeros(len(y)))
    loss = fit(list(head.parameters()), lambda: losses.ordinal_loss(head(x), y).sum())
    cuts = oracle.params.iloc[3] + np.array([0, math.exp(oracle.params.iloc[4])])
    found = [*head.linear.weight[0].tolist(), *losses.cut_points(head(x))[0].tolist()]
    np.testing.assert_allclose(found, [*oracle.params.iloc[:3], *cuts], atol=1e-4)
    assert loss == pytest.approx(-oracle.llf, abs=1e-6)
    np.testing.assert_allclose(found, [1.04763, -0.05861, 0.61582, 2.20355, 4.29897], atol=2.5e-4)
    assert loss == pytest.approx(358.51244, abs=1e-4)


def test_cut_points_widen_as_fast_as_a_location_of_many_features_sharpens():
    torch.manual_seed(3)
    value = torch.rand(300)
    level = (3 * value).long().clamp(max=2)
    features = 3.46 * (value[:, None] - 0.5) * 0.3 * torch.randn(400) + 0.5 * torch.randn(300, 400)
    head = OrdinalHead(400, Column("stage", "ordinal", ("I", "II", "III")))
    head.start(level.float(), torch.zeros(300))
    optimiser = torch.optim.AdamW(head.parameters(), lr=1e-3)
    for _ in range(200):
        optimiser.zero_grad()
        (-losses.ordinal_log_probabilities(head(features)).gather(1, level[:, None]).mean()).backward()
        optimiser.step()
    most_probable = head.read(head(features))["probabilities"].argmax(1)
    found = [(most_probable == 1)[level == i].float().mean().item() for i in range(3)]
    assert found[1] > 0.85, "the level in the middle is lost between cut-points that stay close together"
    assert max(found[0], found[2]) < 0.1


def probabilities(location, cuts):
    """The slow twin, in Python's exact floats: differences of sigmoids."""

    def below(cut):
        return 1 / (1 + math.exp(location - cut))

    cumulative = [0.0, *(below(cut) for cut in cuts), 1.0]
    return [b - a for a, b in itertools.pairwise(cumulative)]


@given(
    location=st.floats(-8, 8),
    first=st.floats(-4, 4),
    gaps=st.lists(st.floats(-2, 1.5), min_size=0, max_size=4),
)
@settings(max_examples=80, deadline=None)
def test_ordinal_probabilities_are_differences_of_sigmoids(location, first, gaps):
    cuts = [first]
    for gap in gaps:
        cuts.append(cuts[-1] + math.exp(gap))
    found = losses.ordinal_log_probabilities(torch.tensor([[location, first, *gaps]], dtype=torch.float64)).exp()[0]
    np.testing.assert_allclose(found.tolist(), probabilities(location, cuts), rtol=1e-7, atol=1e-12)
    assert found.sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("location", [-200.0, -17.0, 17.0, 200.0])
def test_the_ordinal_loss_and_its_gradient_are_finite_and_exact_in_float32_where_sigmoids_are_0_or_1(location):
    outputs = torch.tensor([[location, -1.0, math.log(2.0)]], requires_grad=True)  # cut-points -1 and 1
    loss = losses.ordinal_loss(outputs, torch.tensor([1]))
    exact = abs(location) - 1 - math.log1p(-math.exp(-2.0))  # of sigmoid tails exp(-|x|): exp(-|x|) (e - 1 / e)
    assert loss.item() == pytest.approx(exact, rel=1e-6)
    loss.backward()
    assert outputs.grad.isfinite().all()
    assert outputs.grad[0, 0].item() == pytest.approx(math.copysign(1, location), rel=1e-5)
    naive = -torch.log(torch.sigmoid(1 - torch.tensor(location)) - torch.sigmoid(-1 - torch.tensor(location)))
    assert location > 0 or abs(naive.item() - exact) > 0.01, "in float32 the sigmoids are all but 1"


def test_two_ordered_levels_are_logistic_regression():
    outputs = torch.tensor([[0.7, 0.2]])
    assert losses.ordinal_loss(outputs, torch.tensor([1])).item() == pytest.approx(math.log1p(math.exp(-0.5)), rel=1e-6)


# --- survival


def survivors():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(80, 2))
    times = np.exp(5 + x @ [0.6, -0.4] + 0.3 * rng.logistic(size=80))
    end = rng.uniform(60, 500, 80)
    return x, np.minimum(times, end), (times > end).astype(float)


def test_the_survival_head_on_a_linear_encoder_is_lifelines_log_logistic_model():
    from lifelines import LogLogisticAFTFitter

    x, times, censored = survivors()
    oracle = LogLogisticAFTFitter().fit(
        pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "t": times, "event": 1 - censored}), "t", "event"
    )
    head = SurvivalHead(2, DAYS).double()
    given_times, flags = torch.tensor(times), torch.tensor(censored)
    head.start(given_times, flags)
    features, target = torch.tensor(x), head.standardised(given_times)
    fit(list(head.parameters()), lambda: losses.survival_loss(head(features), target, flags).sum())
    expected = oracle.summary["coef"]
    slopes = (head.linear.weight[0] * head.scale).tolist()
    np.testing.assert_allclose(slopes, [expected["alpha_"]["a"], expected["alpha_"]["b"]], atol=1e-3)
    spread = ((GAIN * head.log_spread).exp() * head.scale).item()
    assert spread == pytest.approx(math.exp(-expected["beta_"]["Intercept"]), rel=1e-3)
    medians = head.read(head(features))["value"].detach().numpy()
    predicted = oracle.predict_median(pd.DataFrame(x, columns=["a", "b"])).to_numpy()
    np.testing.assert_allclose(medians, predicted, rtol=1e-3)


def test_a_censored_case_is_no_worse_predicted_by_any_longer_time():
    outputs = torch.tensor([[1.0, 0.0], [5.0, 0.0], [50.0, 0.0]])
    found = losses.survival_loss(outputs, torch.zeros(3), torch.ones(3)).tolist()
    assert found == sorted(found, reverse=True)
    assert found[-1] < 1e-6


# --- class and regression


def test_class_loss_smoothing_and_weights_by_hand():
    logits = torch.tensor([[2.0, 0.0, -1.0]])
    logs = logits.log_softmax(1)[0]
    weights = torch.tensor([1.0, 3.0, 0.5])
    plain = losses.class_loss(logits, torch.tensor([1]))
    weighed = losses.class_loss(logits, torch.tensor([1]), weights)
    smooth = losses.class_loss(logits, torch.tensor([1]), smoothing=0.3)
    assert plain.item() == pytest.approx(-logs[1].item())
    assert weighed.item() == pytest.approx(-3 * logs[1].item())
    assert smooth.item() == pytest.approx(-(0.7 * logs[1] + 0.1 * logs.sum()).item(), rel=1e-6)


def test_regression_loss_is_hubers():
    found = losses.regression_loss(torch.tensor([[0.0], [0.0]]), torch.tensor([0.5, -3.0]))
    assert found.tolist() == pytest.approx([0.125, 2.5])


def test_the_loss_of_a_spread_by_hand():
    outputs = torch.tensor([[1.0, 0.0], [1.0, math.log(4.0)]], requires_grad=True)
    found = losses.spread_loss(outputs, torch.tensor([3.0, 3.0]))
    assert found.tolist() == pytest.approx([2.0, 2 * (math.log(4) / 2 + 0.5)])
    found.sum().backward()
    # by the likelihood alone the gradient of the value is residual / variance; it counts by the deviation
    assert outputs.grad[:, 0].tolist() == pytest.approx([-2.0, -2 / 4 * 2])
    assert outputs.grad[:, 1].tolist() == pytest.approx([0.5 - 2, (0.5 - 2 / 4) * 2])


def noisy(n, seed):
    """A number whose noise grows with x: features (n, 1), values (n,), and the noise's standard deviation."""
    x = torch.rand(n, 1, generator=torch.Generator().manual_seed(seed)).double() * 4 - 2
    deviation = torch.exp(0.8 * x[:, 0] - 0.5)
    noise = torch.randn(n, generator=torch.Generator().manual_seed(seed + 1)).double()
    return x, 10 + 3 * x[:, 0] + deviation * noise, deviation


def fitted_to_noise(column):
    x, y, _ = noisy(2000, 0)
    heads = Heads(1, (column,)).double()
    heads.start(y[:, None], torch.zeros(len(y), 1))
    target, loss = heads.target(y[:, None], torch.zeros(len(y), 1)), CaseLoss((column,))
    optimiser = torch.optim.Adam(heads.parameters(), 0.05)
    for _ in range(400):
        optimiser.zero_grad()
        loss(heads(x), target).backward()
        optimiser.step()
    return heads


def test_intervals_of_a_spread_cover_where_the_noise_is_small_and_where_it_is_large_and_conformal_ones_do_not():
    """Known noise that grows with x, on new cases; both kinds cover nine of ten in all."""
    x, y, deviation = noisy(4000, 7)
    heads = fitted_to_noise(replace(SCORE, spread=True))
    told = heads.read(heads(x))["score"]
    reach = (told["upper"] - told["value"]).detach()
    np.testing.assert_allclose((reach / (1.6449 * deviation)).numpy(), 1, atol=0.15)
    plain = fitted_to_noise(SCORE)
    calibration = noisy(1000, 17)
    residuals = calibration[1] - plain.read(plain(calibration[0]))["score"]["value"].detach()
    half = half_width(residuals.numpy(), 0.9)
    value = plain.read(plain(x))["score"]["value"].detach()
    inside = {
        "spread": ((told["lower"] <= y) & (y <= told["upper"])).double(),
        "conformal": ((value - half <= y) & (y <= value + half)).double(),
    }
    shares = {k: [part.mean().item() for part in (v, v[x[:, 0] < -1], v[x[:, 0] > 1])] for k, v in inside.items()}
    assert shares["spread"] == pytest.approx([0.9, 0.9, 0.9], abs=0.03)
    assert shares["conformal"][0] == pytest.approx(0.9, abs=0.03)
    assert shares["conformal"][1] > 0.99, "too wide where the noise is small"
    assert shares["conformal"][2] < 0.8, "too narrow where it is large"
    assert reach.mean() < half, "and wider on the whole"


# --- all together


def targets(n=40):
    rng = np.random.default_rng(1)
    values = np.stack(
        (rng.integers(0, 3, n), rng.integers(0, 4, n), rng.normal(50, 9, n), rng.uniform(20, 900, n)), 1
    ).astype(float)
    values[rng.random(values.shape) < 0.1] = np.nan
    censored = np.zeros_like(values)
    censored[:, 3] = rng.random(n) < 0.3
    return torch.tensor(values), torch.tensor(censored)


def trained(columns, features, values, censored):
    torch.manual_seed(0)
    heads = Heads(features.shape[1], columns).double()
    with torch.no_grad():
        for p in heads.parameters():
            p.fill_(0.01)
    heads.start(values, censored)
    target, loss = heads.target(values, censored), CaseLoss(columns)
    optimiser = torch.optim.SGD(heads.parameters(), 0.1)
    for _ in range(60):
        optimiser.zero_grad()
        loss(heads(features), target).backward()
        optimiser.step()
    return heads


def test_heads_on_one_frozen_encoder_are_separate_fits():
    values, censored = targets()
    features = torch.randn(len(values), 5, generator=torch.Generator().manual_seed(2)).double()
    together = trained(ALL, features, values, censored)
    for i, column in enumerate(ALL):
        alone = trained((column,), features, values[:, i : i + 1], censored[:, i : i + 1])
        for mine, its in zip(together.each[i].parameters(), alone.each[0].parameters(), strict=True):
            torch.testing.assert_close(mine, its)


def test_a_case_counts_only_for_the_columns_whose_value_it_has():
    heads, loss = Heads(3, ALL), CaseLoss(ALL)
    features = torch.randn(2, 3)
    values = torch.tensor([[1.0, 2.0, 5.0, 30.0], [math.nan] * 4])
    target = heads.target(values, torch.zeros(2, 4))
    both = loss(heads(features), target)
    torch.testing.assert_close(both, loss(heads(features[:1]), target[:1]))
    torch.testing.assert_close(torch.stack(list(loss.latest.values())).sum(), both.detach())


def test_a_batch_without_any_value_has_a_gradient_of_zero_for_every_parameter():
    """DDP waits for a gradient of each."""
    heads, loss = Heads(3, ALL, hidden=(4,)), CaseLoss(ALL)
    loss(heads(torch.randn(2, 3)), torch.full((2, 4, 2), math.nan)).backward()
    for name, parameter in heads.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


def test_before_training_predictions_are_the_training_cases_frequencies_and_means():
    values, censored = targets(400)
    heads = Heads(3, ALL)
    heads.start(values, censored)
    found = heads.read(heads(torch.zeros(1, 3)))
    for i, column in enumerate(ALL[:2]):
        known = values[:, i][~values[:, i].isnan()]
        share = torch.tensor([(known == level).double().mean() for level in range(len(column.levels))])
        torch.testing.assert_close(found[column.name]["probabilities"][0].double(), share, atol=0.01, rtol=0)
    assert found["score"]["value"].item() == pytest.approx(np.nanmean(values[:, 2].numpy()), rel=1e-6)
    assert found["days"]["value"].item() == pytest.approx(math.exp(np.nanmean(values[:, 3].log().numpy())), rel=1e-5)


def test_a_level_that_no_training_case_has_still_has_cut_points_that_ascend():
    heads = Heads(3, (GRADE,))
    heads.start(torch.tensor([[0.0], [2.0], [2.0]]), torch.zeros(3, 1))
    cuts = losses.cut_points(heads(torch.zeros(1, 3)))[0]
    assert cuts[0] < cuts[1]
    assert cuts.isfinite().all()


def test_constant_values_are_no_division_by_zero():
    heads = Heads(3, (SCORE,))
    heads.start(torch.tensor([[4.0], [4.0]]), torch.zeros(2, 1))
    assert heads.target(torch.tensor([[4.0]]), torch.zeros(1, 1))[0, 0, 0].item() == 0


@pytest.mark.parametrize("kind", HEADS)
def test_heads_compute_in_float32_under_autocast(kind):
    column = next(c for c in ALL if c.kind == kind)
    with torch.autocast("cpu", torch.bfloat16):
        features = nn.Linear(4, 3)(torch.randn(2, 4))
        assert features.dtype == torch.bfloat16
        assert Heads(3, (column,))(features).dtype == torch.float32
