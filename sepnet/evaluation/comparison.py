"""Any two separators on the same mixtures: who is better, by how much, and whether that can be chance.

Of each pair the mixtures that both scored are taken, and the difference of SI-SDRi on each. Its mean has a
percentile bootstrap interval over mixtures; p is that of the Wilcoxon signed-rank test (F. Wilcoxon,
"Individual comparisons by ranking methods", Biometrics Bulletin 1(6), 1945), corrected for the number of
pairs as by S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Stat. 6(2), 1979.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations

import numpy as np
from scipy.stats import wilcoxon

from sepnet.evaluation.statistics import N_RESAMPLES, resampled_means

TAIL = 0.025  # of the 95 % interval, on each side
LEVEL = 0.05  # below it a corrected p is told as a difference


@dataclass(frozen=True)
class Comparison:
    """``better`` less ``worse`` in dB on the ``n`` mixtures that both scored; nan where these are too few.

    p: corrected for the number of pairs. low, high: the 95 % interval of the mean, not corrected.
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
        """Whether the difference is more than chance would make."""
        return self.p < LEVEL

    def seen_from(self, name: str) -> Comparison:
        """The same with ``name`` in the first place: the difference is negative where it is the worse."""
        if name == self.better:
            return self
        return Comparison(self.worse, self.better, self.n, -self.mean, -self.high, -self.low, self.p)


def compare(scores: Mapping[str, Mapping[str, float]]) -> list[Comparison]:
    """Every pair of separators that share a mixture, in the order of scores: {separator: {mixture: dB}}."""

    @cache
    def resampled(name: str, mixtures: tuple[str, ...]) -> np.ndarray:
        # One seed draws the same mixtures for all separators, so the difference of their means is the
        # mean of their differences, and need not be resampled for each pair.
        values = np.array([scores[name][mixture] for mixture in mixtures])
        return resampled_means(values, n_resamples=N_RESAMPLES, seed=0)

    found = []
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
        found.append(comparison if mean >= 0 else comparison.seen_from(second))
    corrected = holm([comparison.p for comparison in found])
    return [replace(comparison, p=p) for comparison, p in zip(found, corrected, strict=True)]


def signed_rank(differences: np.ndarray) -> float:
    """p of the two-sided Wilcoxon signed-rank test; 1 where all are zero, nan for less than two."""
    if len(differences) < 2:
        return math.nan
    if not differences.any():
        return 1.0
    return float(wilcoxon(differences).pvalue)


def holm(values: Sequence[float]) -> list[float]:
    """Holm's correction: the i-th smallest of n times n - i + 1, never below a smaller one's, at most 1.

    Those that are nan stay so, and are no tests.
    """
    corrected = [math.nan] * len(values)
    known = sorted((p, index) for index, p in enumerate(values) if not math.isnan(p))
    highest = 0.0
    for rank, (p, index) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        corrected[index] = highest
    return corrected
