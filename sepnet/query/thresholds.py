"""Where a track of scores is high: thresholds from the data, and whether there are two levels at all.

N. Otsu, "A threshold selection method from gray-level histograms", IEEE Transactions on Systems, Man, and
Cybernetics 9(1), 1979. Values are sorted instead of binned: n of them have n - 1 splits, and the best is
found exactly. With w the share of the values below a split, m0 and m1 the means on both sides, m of all,

    between = w (1 - w) (m1 - m0)^2       (1)
    all     = mean (x - m)^2              (2)

eta = between / all is 1 where there are but two levels; of a uniform track the best split has 3/4, of a
normal one 2/pi. A track has two modes where eta is above ``LEAST_ETA`` and the modes are ``least_gap`` apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LEAST_ETA = 0.75  # what a uniform track has


@dataclass(frozen=True)
class Split:
    """threshold: half-way between the values on both sides. low, high: the means of both; eta: see above."""

    threshold: float
    low: float
    high: float
    eta: float

    def has_two_modes(self, least_gap: float) -> bool:
        """Whether the split is one that the data make, and not any would do."""
        return self.eta > LEAST_ETA and self.high - self.low >= least_gap


def otsu(values: Float[Tensor, " value"]) -> Split:
    """The split of largest between-class variance (1); eta is 0 for one value, or where all are the same."""
    x = values.double().sort().values
    n, mean = len(x), float(x.mean())
    power = float((x - mean).square().mean())
    if n < 2 or power <= 1e-12:
        return Split(mean, mean, mean, 0.0)
    below = torch.arange(1, n, dtype=torch.float64)
    sums = x.cumsum(0)[:-1]
    low, high = sums / below, (x.sum() - sums) / (n - below)
    between = below / n * (1 - below / n) * (high - low).square()  # (1)
    best = int(between.argmax())
    threshold = float(x[best] + x[best + 1]) / 2
    return Split(threshold, float(low[best]), float(high[best]), float(between[best]) / power)


def hysteresis(values: Float[Tensor, " value"], *, low: float, high: float) -> Bool[Tensor, " value"]:
    """True in each stretch of values of at least ``low`` that reaches ``high`` somewhere."""
    above, gate = values >= low, torch.zeros(len(values), dtype=torch.bool)
    start = 0
    while start < len(values):
        end = start + 1
        if above[start]:
            while end < len(values) and above[end]:
                end += 1
            gate[start:end] = bool((values[start:end] >= high).any())
        start = end
    return gate
