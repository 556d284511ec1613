"""Means of scores, and their intervals.

The scores of the sources of one mixture are not independent, so they are averaged first: the mixture is the
unit that is counted and resampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float

from sepnet.evaluation.rows import Row

N_RESAMPLES = 5000
RESAMPLES_AT_ONCE = 1 << 21  # indices drawn in one go: 16 MiB


@dataclass(frozen=True)
class Summary:
    """Statistics over mixtures; nan if there are too few.

    Attributes:
        n: The number of mixtures.
        mean: The mean.
        median: The median.
        low: The lower bound of the interval of the mean.
        high: Its upper bound.
    """

    n: int
    mean: float
    median: float
    low: float
    high: float


def summarise(
    values: Float[np.ndarray, " mixture"],
    *,
    confidence: float = 0.95,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Summary:
    """Compute the mean, the median, and the percentile bootstrap interval of the mean.

    The same values always have the same summary.

    Args:
        values: One for each mixture; nan is left out.
        confidence: The coverage of the interval.
        n_resamples: The number of resamples.
        seed: The seed of the resampling.

    Returns:
        The summary; a single value has no interval.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return Summary(0, math.nan, math.nan, math.nan, math.nan)
    low = high = math.nan
    if len(known) > 1:
        means = resampled_means(known, n_resamples=n_resamples, seed=seed)
        tail = (1 - confidence) / 2
        low, high = (float(bound) for bound in np.quantile(means, (tail, 1 - tail)))
    return Summary(len(known), float(known.mean()), float(np.median(known)), low, high)


def median_interval(
    values: Float[np.ndarray, " mixture"], *, confidence: float = 0.95
) -> tuple[float, float]:
    """Compute an interval of the median, which makes no assumption on the distribution.

    Its bounds are the order statistics x_(l) and x_(n - l + 1), with l the quantile of the binomial (n, 1/2)
    (Conover, "Practical nonparametric statistics", 3rd ed. 1999, section 3.2).

    Args:
        values: One for each mixture; nan is left out.
        confidence: The coverage of the interval.

    Returns:
        Both bounds; nan for fewer than 6 values.
    """
    known = np.sort(values[~np.isnan(values)])
    place = int(scipy.stats.binom.ppf((1 - confidence) / 2, len(known), 0.5)) if len(known) else 0
    if place < 1:
        return math.nan, math.nan
    return float(known[place - 1]), float(known[-place])


@dataclass(frozen=True)
class Share:
    """A share of mixtures and its interval; nan without mixtures.

    Attributes:
        n: The number of mixtures.
        share: 0 to 1.
        low: The lower bound of the interval.
        high: Its upper bound.
    """

    n: int
    share: float
    low: float
    high: float


def share_above(
    values: Float[np.ndarray, " mixture"], threshold: float = 0.0, *, confidence: float = 0.95
) -> Share:
    """Compute the share of values above a threshold, and Wilson's score interval.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.

    Args:
        values: One for each mixture; nan is left out.
        threshold: In the unit of the values.
        confidence: The coverage of the interval.

    Returns:
        The share and its interval.
    """
    known = values[~np.isnan(values)]
    n = len(known)
    if not n:
        return Share(0, math.nan, math.nan, math.nan)
    share = float((known > threshold).mean())
    z = float(scipy.stats.norm.ppf((1 + confidence) / 2))
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return Share(n, share, max(0.0, middle - half), min(1.0, middle + half))


def resampled_means(
    values: Float[np.ndarray, " mixture"], *, n_resamples: int, seed: int
) -> Float[np.ndarray, " resample"]:
    """Compute bootstrap means: the mean of as many values as there are, drawn with replacement, many times.

    Efron, "Bootstrap methods: another look at the jackknife", Ann. Stat. 7(1), 1979.

    Args:
        values: One for each mixture.
        n_resamples: The number of means.
        seed: The seed of the draws; it draws the same places of all values of the same length.

    Returns:
        The means.
    """
    rng = np.random.default_rng(seed)
    means = np.empty(n_resamples)
    step = max(1, RESAMPLES_AT_ONCE // len(values))
    for begin in range(0, n_resamples, step):
        part = means[begin : begin + step]
        drawn = rng.integers(len(values), size=(len(part), len(values)))
        part[:] = values[drawn].mean(axis=1)  # (resample, mixture) -> (resample,)
    return means


def mixture_means(rows: Iterable[Row], value: Callable[[Row], float]) -> dict[str, float]:
    """Average a value over the sources of each mixture.

    Args:
        rows: The rows; those without a score are left out.
        value: Computes the value of a row; rows for which it is nan are left out.

    Returns:
        The means by mixture id, sorted by it so that a bootstrap does not depend on the order of the rows.
    """
    by_mixture: dict[str, list[float]] = {}
    for row in rows:
        if row.status == "ok" and not math.isnan(number := value(row)):
            by_mixture.setdefault(row.mixture_id, []).append(number)
    return {name: math.fsum(numbers) / len(numbers) for name, numbers in sorted(by_mixture.items())}
