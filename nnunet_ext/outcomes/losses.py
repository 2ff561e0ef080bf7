"""Negative log-likelihoods of case-level targets, in log space, so that no probability is ever rounded to 0 or 1.

Every function gives one number per case: (B,) from a head's outputs (B, O) and the truth (B,). The package spacecutter
has a cumulative link too, but takes the logarithm of a difference of sigmoids, which in float32 is that of 0 from a
distance of 17 to a cut-point on; statsmodels' and lifelines' likelihoods know no gradients of torch, they are the
oracles of the tests.

Shape letters: B cases of a batch, K levels, O outputs of a head, T target columns.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, huber_loss, logsigmoid, softplus

from nnunet_ext.outcomes.columns import CLASS, ORDINAL, REGRESSION, SURVIVAL, Column

BETA = 0.5  # Seitzer 2022, section 5: between the plain likelihood (0) and squared errors (1)
HUBER_DELTA = 1.0  # in standard deviations of the training cases' values


def cut_points(outputs: Tensor) -> Tensor:
    """(B, K - 1), ascending, from an ordinal head's outputs (B, K): location, first cut-point, log gaps."""
    return torch.cat((outputs[:, 1:2], outputs[:, 1:2] + outputs[:, 2:].exp().cumsum(1)), 1)


def ordinal_log_probabilities(outputs: Tensor) -> Tensor:
    """(B, K): log P(y = k) of the cumulative link with logistic errors (McCullagh 1980, proportional odds).

    P(y <= k) = sigmoid(c_k - x). For an inner level the difference of two sigmoids is a product, whose logarithm is
    log sigmoid(c_k - x) + log sigmoid(x - c_(k-1)) + log(1 - exp(c_(k-1) - c_k)); the gap of the last part is the
    parameter itself and never a difference of large numbers.

    Args:
        outputs: (B, K): location x, first cut-point, logarithms of the K - 2 gaps between cut-points.
    """
    below = cut_points(outputs) - outputs[:, :1]  # (B, K - 1)
    gaps = outputs[:, 2:].exp()
    inner = logsigmoid(below[:, 1:]) + logsigmoid(-below[:, :-1]) + torch.log(-torch.expm1(-gaps))
    return torch.cat((logsigmoid(below[:, :1]), inner, logsigmoid(-below[:, -1:])), 1)


def ordinal_loss(outputs: Tensor, level: Tensor) -> Tensor:
    """Of the outputs of :func:`ordinal_log_probabilities` and levels 0 to K - 1 (B,)."""
    return -ordinal_log_probabilities(outputs).gather(1, level.long()[:, None])[:, 0]


def class_loss(outputs: Tensor, level: Tensor, weights: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits (B, K) and levels 0 to K - 1 (B,).

    Args:
        outputs: logits.
        level: the truth.
        weights: (K,), of each level, of mean 1 over the training cases; None for equal ones.
        smoothing: part of the truth that is spread over all levels (Szegedy 2016, arXiv:1512.00567).
    """
    return cross_entropy(outputs, level.long(), weights, reduction="none", label_smoothing=smoothing)


def regression_loss(outputs: Tensor, value: Tensor) -> Tensor:
    """Huber's loss (1964) of outputs (B, 1 or 2) and values (B,), both in standard deviations of the training cases."""
    return huber_loss(outputs[:, 0], value.to(outputs.dtype), reduction="none", delta=HUBER_DELTA)


def spread_loss(outputs: Tensor, value: Tensor) -> Tensor:
    """Negative log-likelihood of normal errors whose variance the network tells, weighed by the standard deviation.

    The likelihood is Nix and Weigend's (1994, 10.1109/ICNN.1994.374138). By it alone, cases of which the network is
    unsure hardly count for the value; the weight mends that (beta-NLL with beta = 0.5: Seitzer 2022, arXiv:2203.09168).
    No gradient flows through it, so each case's loss is stationary at the same value and variance.

    Args:
        outputs: (B, 2): the value and the logarithm of the variance, in standard deviations of the training cases.
        value: (B,), standardised as the outputs are.
    """
    centre, log_variance = outputs.unbind(1)
    surprise = (log_variance + (value.to(outputs.dtype) - centre) ** 2 * torch.exp(-log_variance)) / 2
    return surprise * torch.exp(log_variance.detach() * BETA)


def survival_loss(outputs: Tensor, log_time: Tensor, censored: Tensor) -> Tensor:
    """Accelerated failure time with log-logistic times: of a censored case all that is known is that it lived longer.

    With z = (log t - m) / s: log f(t) = z - 2 softplus(z) - log s (of log t), log S(t) = -softplus(z).

    Args:
        outputs: (B, 2): m and log s, of the standardised logarithm of the time.
        log_time: (B,), standardised as the outputs are.
        censored: (B,), 1 where the time is a lower bound.
    """
    z = (log_time.to(outputs.dtype) - outputs[:, 0]) * torch.exp(-outputs[:, 1])
    lived = softplus(z)
    return torch.where(censored.bool(), lived, 2 * lived - z + outputs[:, 1])


def widths(columns: Sequence[Column]) -> list[int]:
    """Outputs of each column's head."""
    fixed = {REGRESSION: 1, SURVIVAL: 2}
    return [fixed.get(column.kind, len(column.levels)) + column.spread for column in columns]


class CaseLoss(nn.Module):
    """The sum over the target columns of their mean losses; a case counts for the columns whose value it has.

    A sum, so that heads on a frozen encoder are trained as each would be alone.

    Args:
        columns: in the order of the heads.
        weights: name of a class column -> weight of each of its levels.
        smoothing: label smoothing of the class columns.
        values_alone: whether a regression's spread does not count, but its value as in :func:`regression_loss`.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        weights: Mapping[str, Sequence[float]] | None = None,
        smoothing: float = 0.0,
        *,
        values_alone: bool = False,
    ) -> None:
        super().__init__()
        self.columns, self.smoothing, self.values_alone = tuple(columns), smoothing, values_alone
        self.weights = {name: torch.tensor(list(of)) for name, of in (weights or {}).items()}
        self.latest: dict[str, Tensor] = {}

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Of outputs (B, O) and targets (B, T, 2): value (NaN where unknown) and whether it is censored."""
        means = []
        for column, part, truth in zip(
            self.columns, outputs.split(widths(self.columns), 1), target.unbind(1), strict=True
        ):
            known = ~truth[:, 0].isnan()
            value = self._of(column, part, torch.where(known, truth[:, 0], 0), truth[:, 1])
            means.append(torch.where(known, value, 0).sum() / known.sum().clamp(min=1))
        self.latest = {c.name: mean.detach() for c, mean in zip(self.columns, means, strict=True)}
        return torch.stack(means).sum()

    def _of(self, column: Column, outputs: Tensor, value: Tensor, censored: Tensor) -> Tensor:
        if column.kind == CLASS:
            weights = self.weights.get(column.name)
            given = None if weights is None else weights.to(outputs)
            return class_loss(outputs, value, given, self.smoothing)
        if column.kind == ORDINAL:
            return ordinal_loss(outputs, value)
        if column.kind == REGRESSION:
            told = column.spread and not self.values_alone
            return spread_loss(outputs, value) if told else regression_loss(outputs, value)
        return survival_loss(outputs, value, censored)


class ColumnParts:
    """What the columns' losses were in a training step; has the form of :class:`nnunet_ext.trainers.losses.LossParts`.

    Args:
        loss: it is listened to.
    """

    def __init__(self, loss: CaseLoss) -> None:
        self.NAMES: Mapping[str, str] = {column.name: f"loss of {column.name}" for column in loss.columns}
        self.seen: list[dict[str, Tensor]] = []
        loss.register_forward_hook(self._note)

    def _note(self, loss: nn.Module, _inputs: Any, value: Tensor) -> None:
        if value.requires_grad and isinstance(loss, CaseLoss):
            self.seen.append(loss.latest)

    def take(self) -> dict[str, Tensor]:
        """The parts since the last call, averaged over the batches of an accumulation."""
        seen, self.seen = self.seen, []
        if not seen:
            return {}
        return {label: torch.stack([each[name] for each in seen]).mean() for name, label in self.NAMES.items()}
