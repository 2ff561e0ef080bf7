"""Heads: from a case's pooled features to the outputs of its target columns, and from these to predictions.

Every head is made by ``Head(features, column)``, maps (B, F) to (B, O), is given the training cases' values once before
the training (:meth:`start`: the fold's own, so nothing of another fold enters), and reads its outputs (:meth:`read`).

Shape letters: B cases of a batch, F features, K levels, O outputs of a head.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from nnunet_ext.outcomes.columns import CLASS, ORDINAL, REGRESSION, SURVIVAL, Column
from nnunet_ext.outcomes.losses import ordinal_log_probabilities, widths

SMALLEST_SPREAD = 1e-8
SMALLEST_TIME = 0.5  # in the column's unit: the logarithm of a time of 0
GAIN = 10.0  # of parameters that stand alone: an optimiser like Adam moves each by no more than its rate in a step, and
# a location, which is a sum over all features, leaves cut-points and spreads behind that would have to widen with it
LEVEL = 0.9  # of intervals: so many of the cases lie within
NORMAL_REACH = NormalDist().inv_cdf((1 + LEVEL) / 2)  # in standard deviations


class Head(nn.Module, ABC):
    """One target column's.

    Attributes:
        column: what it predicts.
        center, scale: of the training cases' values (of their logarithm for a survival); 0 and 1 for levels.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, features: int, column: Column) -> None:
        super().__init__()
        self.column = column
        self.linear = nn.Linear(features, self.directions(column))

    @staticmethod
    def directions(column: Column) -> int:
        """Numbers that depend on the features."""
        return widths([column])[0]

    def forward(self, features: Tensor) -> Tensor:
        """(B, O)."""
        return self.linear(features)

    @abstractmethod
    def start(self, values: Tensor, censored: Tensor) -> None:
        """Takes what is known before any image is seen from the training cases' values (n,), NaN where unknown."""

    def standardised(self, values: Tensor) -> Tensor:
        """Values as the loss reads them."""
        return values

    @abstractmethod
    def read(self, outputs: Tensor) -> dict[str, Tensor]:
        """``probabilities`` (B, K) of levels, or ``value`` (B,) in the column's unit."""


def shares(values: Tensor, levels: int) -> Tensor:
    """(K,): how many of the values have each level, one more than there are, as parts of 1; no level has none."""
    known = values[~values.isnan()].long()
    counts = torch.bincount(known, minlength=levels).double() + 1
    return counts / counts.sum()


class ClassHead(Head):
    """A logit for each level; before training the levels are as frequent as among the training cases."""

    def start(self, values: Tensor, censored: Tensor) -> None:
        """See the base class."""
        self.linear.bias.data.copy_(shares(values, len(self.column.levels)).log())

    def read(self, outputs: Tensor) -> dict[str, Tensor]:
        """See the base class."""
        return {"probabilities": outputs.softmax(1)}


class OrdinalHead(Head):
    """Cumulative link: one location for all levels and ascending cut-points c_1, c_1 + sum of exp(d).

    Outputs (B, K): location, c_1, d_2 ... d_(K-1); see :func:`.losses.ordinal_log_probabilities`.
    """

    def __init__(self, features: int, column: Column) -> None:
        super().__init__(features, column)
        self.linear = nn.Linear(features, 1, bias=False)  # a bias would be the cut-points' shift a second time
        self.first = nn.Parameter(torch.zeros(1))  # this and the gaps in units of ``GAIN``
        self.gaps = nn.Parameter(torch.zeros(len(column.levels) - 2))

    def forward(self, features: Tensor) -> Tensor:
        """(B, K)."""
        location = self.linear(features)
        fixed = GAIN * torch.cat((self.first, self.gaps)).to(location)
        return torch.cat((location, fixed.expand(len(location), -1)), 1)

    def start(self, values: Tensor, censored: Tensor) -> None:
        """See the base class."""
        cuts = torch.logit(shares(values, len(self.column.levels)).cumsum(0)[:-1])
        self.first.data.copy_(cuts[:1] / GAIN)
        self.gaps.data.copy_(cuts.diff().log() / GAIN)

    def read(self, outputs: Tensor) -> dict[str, Tensor]:
        """See the base class; the ``location`` (B,) too."""
        return {"probabilities": ordinal_log_probabilities(outputs).exp(), "location": outputs[:, 0]}


class _Standardising(Head):
    def __init__(self, features: int, column: Column) -> None:
        super().__init__(features, column)
        self.register_buffer("center", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def _standardise(self, values: Tensor) -> None:
        known = values[~values.isnan()].double()
        self.center.copy_(known.mean())
        self.scale.copy_(known.std(correction=0).clamp(min=SMALLEST_SPREAD))

    def standardised(self, values: Tensor) -> Tensor:
        """See the base class."""
        return (values - self.center.to(values)) / self.scale.to(values)


class RegressionHead(_Standardising):
    """A number in standard deviations of the training cases' values.

    Outputs (B, 1), or (B, 2) where the column has a spread: the number and the logarithm of its error's variance.
    """

    def start(self, values: Tensor, censored: Tensor) -> None:
        """See the base class."""
        self._standardise(values)
        self.linear.bias.data.zero_()

    def read(self, outputs: Tensor) -> dict[str, Tensor]:
        """See the base class; with a spread ``lower`` and ``upper`` too, an interval for ``LEVEL`` of normal errors."""
        places = {"value": outputs[:, 0].double()}
        if self.column.spread:
            reach = NORMAL_REACH * (outputs[:, 1].double() / 2).exp()
            places |= {"lower": places["value"] - reach, "upper": places["value"] + reach}
        return {name: place * self.scale.double() + self.center.double() for name, place in places.items()}


class SurvivalHead(_Standardising):
    """The median of a log-logistic time; its spread is one parameter for all cases.

    Outputs (B, 2): median and log spread of the standardised logarithm of the time.
    """

    def __init__(self, features: int, column: Column) -> None:
        super().__init__(features, column)
        self.log_spread = nn.Parameter(torch.zeros(1))  # in units of ``GAIN``

    @staticmethod
    def directions(column: Column) -> int:
        """See the base class."""
        return 1

    def forward(self, features: Tensor) -> Tensor:
        """(B, 2)."""
        median = self.linear(features)
        return torch.cat((median, GAIN * self.log_spread.to(median).expand(len(median), 1)), 1)

    def start(self, values: Tensor, censored: Tensor) -> None:
        """See the base class; censored times count as they are, for a start alone."""
        self._standardise(values.clamp(min=SMALLEST_TIME).log())
        self.linear.bias.data.zero_()
        self.log_spread.data.fill_(-0.6 / GAIN)  # a logistic variable of spread 0.55 has the standard deviation 1

    def standardised(self, values: Tensor) -> Tensor:
        """See the base class."""
        return super().standardised(values.clamp(min=SMALLEST_TIME).log())

    def read(self, outputs: Tensor) -> dict[str, Tensor]:
        """The median, and ``lower`` and ``upper`` between which ``LEVEL`` of the times lie (B,)."""
        median, reach = outputs[:, 0].double(), outputs[:, 1].double().exp() * math.log((1 + LEVEL) / (1 - LEVEL))
        places = {"value": median, "lower": median - reach, "upper": median + reach}
        return {name: (place * self.scale.double() + self.center.double()).exp() for name, place in places.items()}


HEADS: Mapping[str, type[Head]] = {
    CLASS: ClassHead,
    ORDINAL: OrdinalHead,
    REGRESSION: RegressionHead,
    SURVIVAL: SurvivalHead,
}


class Projection(nn.Module):
    """(B, sum of F_i + V) -> (B, levels x P + V): the features of each level projected by a linear layer of its own.

    Args:
        widths: F_i of each level.
        projected: P.
        beside: V features after them that stay as they are.
    """

    def __init__(self, widths: Sequence[int], projected: int, beside: int = 0) -> None:
        super().__init__()
        self.widths, self.beside = list(widths), beside
        self.each = nn.ModuleList(nn.Linear(width, projected) for width in widths)
        self.n_features = projected * len(self.widths) + beside

    def forward(self, features: Tensor) -> Tensor:
        """The projected levels side by side, then the features beside them."""
        *parts, rest = features.split([*self.widths, self.beside], 1)
        return torch.cat([*(linear(part) for linear, part in zip(self.each, parts, strict=True)), rest], 1)


class Heads(nn.Module):
    """The heads of all target columns, after a common perceptron where one is declared.

    Args:
        features: F.
        columns: one head each.
        hidden: widths of the perceptron's layers; none for a linear head.
        dropout: before each layer of the perceptron and before the heads, if there is a perceptron.
        projection: of the features of several levels, before all else.
    """

    SKIPPED: ClassVar[str] = "seg_layers"  # nnU-Net's -pretrained_weights leaves what is called so as it is

    def __init__(
        self,
        features: int,
        columns: Sequence[Column],
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
        projection: Projection | None = None,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if projection is not None:
            layers.append(projection)
            features = projection.n_features
        for width in hidden:
            layers += [nn.Linear(features, width), nn.ReLU(), nn.Dropout(dropout)]
            features = width
        perceptron = nn.Sequential(*layers)
        self.seg_layers = nn.ModuleList([perceptron, *(HEADS[column.kind](features, column) for column in columns)])

    @property
    def each(self) -> list[Head]:
        """The heads, in the order of the columns."""
        return [cast(Head, head) for head in list(self.seg_layers)[1:]]

    def forward(self, features: Tensor) -> Tensor:
        """(B, O) of all heads side by side, in float32 or better: cut-points are small differences."""
        with torch.autocast(features.device.type, enabled=False):
            hidden = self.seg_layers[0](features if features.dtype == torch.float64 else features.float())
            return torch.cat([head(hidden) for head in self.each], 1)

    @torch.no_grad()
    def start(self, values: Tensor, censored: Tensor) -> None:
        """Before a training: the training cases' values (n, T), NaN where unknown, and which are censored (n, T)."""
        for head, of_head, flags in zip(self.each, values.unbind(1), censored.unbind(1), strict=True):
            head.start(of_head, flags)

    @torch.no_grad()
    def base_rates(self, cases: int) -> Tensor:
        """(n, O): the outputs for so many cases of which nothing is known; after :meth:`start` the base rates."""
        nothing = [torch.zeros(cases, head.linear.in_features, device=head.linear.weight.device) for head in self.each]
        return torch.cat([head(features) for head, features in zip(self.each, nothing, strict=True)], 1)

    @torch.no_grad()
    def target(self, values: Tensor, censored: Tensor) -> Tensor:
        """(n, T, 2) for :class:`.losses.CaseLoss` from values and flags (n, T)."""
        columns = [head.standardised(of_head) for head, of_head in zip(self.each, values.unbind(1), strict=True)]
        return torch.stack((torch.stack(columns, 1), censored.to(values)), 2)

    def read(self, outputs: Tensor) -> dict[str, dict[str, Tensor]]:
        """Name of a column -> what its head reads in the outputs (B, O)."""
        parts = outputs.split(widths([head.column for head in self.each]), 1)
        return {head.column.name: head.read(part) for head, part in zip(self.each, parts, strict=True)}
