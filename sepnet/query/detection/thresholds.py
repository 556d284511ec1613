"""Thresholds chosen from the data: Otsu's method, and hysteresis between two thresholds.

N. Otsu, "A threshold selection method from gray-level histograms", IEEE Transactions on Systems, Man, and
Cybernetics 9(1), 1979. Values are sorted instead of binned: n of them have n - 1 splits, and the best is
found exactly. With w the share of the values below a split, m0 and m1 the means on both sides, m of all,

    between = w (1 - w) (m1 - m0)^2       (1)
    total   = mean (x - m)^2              (2)

eta = between / total is 1 where the values have two levels only; the best split of a uniform distribution
has 3/4, that of a normal one 2/pi. Values are called bimodal where eta is above ``BIMODAL_ETA`` and the means
on both sides differ by a given minimum.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

BIMODAL_ETA = 0.75  # that of a uniform distribution


@dataclass(frozen=True)
class OtsuSplit:
    """A split of values into low and high ones.

    Attributes:
        threshold: Half-way between the two values next to the split.
        low_mean: Mean of the values below it.
        high_mean: Mean of the values above it.
        eta: Share of the variance that lies between the two sides, 0 to 1.
    """

    threshold: float
    low_mean: float
    high_mean: float
    eta: float

    def is_bimodal(self, min_gap: float) -> bool:
        """Tell whether the values have two levels, whose means differ by at least ``min_gap``."""
        return self.eta > BIMODAL_ETA and self.high_mean - self.low_mean >= min_gap


def otsu_split(values: Float[Tensor, " value"]) -> OtsuSplit:
    """Find the split with the largest between-class variance (1).

    Args:
        values: One or more numbers, in any order.

    Returns:
        The split; its ``eta`` is 0 for a single value, and where all values are equal.
    """
    x = values.double().sort().values
    n, mean = len(x), float(x.mean())
    variance = float((x - mean).square().mean())
    if n < 2 or variance <= 1e-12:
        return OtsuSplit(mean, mean, mean, 0.0)
    n_below = torch.arange(1, n, dtype=torch.float64)
    sums = x.cumsum(0)[:-1]
    low, high = sums / n_below, (x.sum() - sums) / (n - n_below)
    between = n_below / n * (1 - n_below / n) * (high - low).square()  # (1)
    best = int(between.argmax())
    threshold = float(x[best] + x[best + 1]) / 2
    return OtsuSplit(threshold, float(low[best]), float(high[best]), float(between[best]) / variance)


def hysteresis_gate(values: Float[Tensor, " value"], *, low: float, high: float) -> Bool[Tensor, " value"]:
    """Mark each run of values at or above ``low`` that reaches ``high`` somewhere."""
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
