"""Paired comparisons of separators on the mixtures that both scored.

The mean difference of SI-SDRi has a percentile bootstrap interval over mixtures; p is that of the Wilcoxon
signed-rank test (F. Wilcoxon, "Individual comparisons by ranking methods", Biometrics Bulletin 1(6), 1945),
corrected for the number of pairs after S. Holm, "A simple sequentially rejective multiple test procedure",
Scand. J. Stat. 6(2), 1979.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations

import numpy as np
import scipy

from sepnet.evaluation.statistics import N_RESAMPLES, resampled_means

TAIL = 0.025  # outside the 95 % interval, on each side
SIGNIFICANCE_LEVEL = 0.05  # of a corrected p


@dataclass(frozen=True)
class Comparison:
    """The SI-SDRi of one separator minus that of another; nan where there are too few mixtures.

    Attributes:
        better: The separator with the larger mean.
        worse: The other one.
        n: The number of mixtures with scores of both.
        mean: The mean difference in dB.
        low: The lower bound of the 95 % interval of the mean, not corrected for the number of pairs.
        high: Its upper bound.
        p: The p-value, corrected for the number of pairs.
    """

    better: str
    worse: str
    n: int
    mean: float
    low: float
    high: float
    p: float

    @property
    def differs(self) -> bool:
        """Whether the difference is significant."""
        return self.p < SIGNIFICANCE_LEVEL

    def from_side_of(self, name: str) -> Comparison:
        """Return the comparison with ``name`` first; the difference is negative if it is the worse."""
        if name == self.better:
            return self
        return Comparison(self.worse, self.better, self.n, -self.mean, -self.high, -self.low, self.p)


def compare(scores: Mapping[str, Mapping[str, float]]) -> list[Comparison]:
    """Compare all pairs of separators that share a mixture.

    Args:
        scores: {separator: {mixture id: SI-SDRi in dB}}.

    Returns:
        The pairs, in the order of ``scores``.
    """

    @cache
    def resampled(name: str, mixtures: tuple[str, ...]) -> np.ndarray:
        # One seed draws the same mixtures for all separators, so the difference of their means is the
        # mean of their differences, and need not be resampled for each pair.
        values = np.array([scores[name][mixture] for mixture in mixtures])
        return resampled_means(values, n_resamples=N_RESAMPLES, seed=0)

    comparisons = []
    for first, second in combinations(scores, 2):
        shared = tuple(mixture for mixture in scores[first] if mixture in scores[second])
        if not shared:
            continue
        gained = np.array([scores[first][mixture] - scores[second][mixture] for mixture in shared])
        low = high = math.nan
        if len(shared) > 1:
            means = resampled(first, shared) - resampled(second, shared)
            low, high = (float(bound) for bound in np.quantile(means, (TAIL, 1 - TAIL)))
        mean, p = float(gained.mean()), signed_rank(gained)
        comparison = Comparison(first, second, len(shared), mean, low, high, p)
        comparisons.append(comparison if mean >= 0 else comparison.from_side_of(second))
    corrected = holm([comparison.p for comparison in comparisons])
    return [replace(comparison, p=p) for comparison, p in zip(comparisons, corrected, strict=True)]


def signed_rank(differences: np.ndarray) -> float:
    """Compute the p-value of the two-sided Wilcoxon signed-rank test.

    Args:
        differences: (mixture,).

    Returns:
        p; 1 if all differences are zero, nan for fewer than two.
    """
    if len(differences) < 2:
        return math.nan
    if not differences.any():
        return 1.0
    return float(scipy.stats.wilcoxon(differences).pvalue)


def holm(values: Sequence[float]) -> list[float]:
    """Correct p-values for their number with the method of Holm.

    The i-th smallest of n is multiplied by n - i + 1; none becomes smaller than those before it, or larger
    than 1.

    Args:
        values: p-values; nan stays nan, and does not count as a test.

    Returns:
        The corrected p-values, in the same order.
    """
    corrected = [math.nan] * len(values)
    ranked = sorted((p, index) for index, p in enumerate(values) if not math.isnan(p))
    highest = 0.0
    for rank, (p, index) in enumerate(ranked):
        highest = max(highest, min(1.0, p * (len(ranked) - rank)))
        corrected[index] = highest
    return corrected
