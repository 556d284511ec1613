"""Break the table down: SI-SDRi by sexes, condition, levels, overlap, number of sources and duration.

A bin is a set of sources: all sources of some mixtures, or single ones for the level difference. As in the
table, the scores of the sources of a mixture are averaged first, and mixtures are counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from sepnet.evaluation.rows import Row
from sepnet.evaluation.statistics import Summary, mixture_means, summarise
from sepnet.evaluation.table import SI_SDRI, Line

MAX_BINS = 4
MIN_MIXTURES_PER_BIN = 5  # for facets that are numbers
STEPS_IN_RANGE = 12  # the middle half of the values has about this many round numbers


@dataclass(frozen=True)
class Facet:
    """A property by which mixtures differ.

    Attributes:
        key: A name for files.
        label: A name for readers.
        meaning: An explanation in a few words.
        value: Reads the property from the row of a source; None if it is unknown.
        scale: The factor from the value in the row to the value in the table.
        unit: The unit in the table.
    """

    key: str
    label: str
    meaning: str
    value: Callable[[Row], str | float | None]
    scale: float = 1.0
    unit: str = ""


FACETS = (
    Facet("sexes", "Voices", "f: female, m: male", lambda row: row.sexes or None),
    Facet("condition", "Condition", "as the test set was made", lambda row: row.condition or None),
    Facet(
        "level",
        "Level difference",
        "this source against the sum of the others",
        lambda row: row.level_difference_db,
        unit="dB",
    ),
    Facet(
        "overlap",
        "Overlap",
        "share of the time in which two sources or more are active: within 40 dB of their loudest 20 ms",
        lambda row: row.overlap,
        scale=100,
        unit="%",
    ),
    Facet("sources", "Sources", "in the mixture", lambda row: str(row.n_sources)),
    Facet("seconds", "Duration", "of the mixture", lambda row: row.seconds, unit="s"),
)


@dataclass(frozen=True, eq=False)
class Bin:
    """A set of sources.

    Attributes:
        label: A name for readers.
        members: The sources, each as (mixture id, number of the source).
    """

    label: str
    members: frozenset[tuple[str, int]]

    @cached_property
    def n_mixtures(self) -> int:
        """The number of mixtures with a source in this bin."""
        return len({mixture for mixture, _ in self.members})


@dataclass(frozen=True, eq=False)
class Breakdown:
    """The scores of all separators by one facet.

    Attributes:
        facet: The property.
        bins: The bins, in order.
        scores: {separator: a summary for each bin}.
    """

    facet: Facet
    bins: Sequence[Bin]
    scores: Mapping[str, Sequence[Summary]]


def breakdowns(table: Sequence[Line]) -> list[Breakdown]:
    """Break a table down by each facet that varies among the scored mixtures.

    Args:
        table: The lines of the table.

    Returns:
        A breakdown for each of these facets.
    """
    scored = [line for line in table if line.improvements]
    results = []
    for facet in FACETS:
        values = {
            (row.mixture_id, row.source): value
            for line in scored
            for row in line.rows
            if row.status == "ok" and (value := facet.value(row)) is not None
        }
        bins = _bins(values, facet)
        if len(bins) > 1:
            results.append(Breakdown(facet, bins, {line.name: _scores(line, bins) for line in scored}))
    return results


def _scores(line: Line, bins: Sequence[Bin]) -> list[Summary]:
    summaries = []
    for part in bins:
        own = (row for row in line.rows if (row.mixture_id, row.source) in part.members)
        means = mixture_means(own, SI_SDRI.value)
        summaries.append(summarise(np.array(list(means.values()), float)))
    return summaries


def _bins(values: Mapping[tuple[str, int], str | float], facet: Facet) -> list[Bin]:
    """The bins of a facet that are not empty."""
    if not values:
        return []
    if all(isinstance(value, str) for value in values.values()):
        labels = {key: str(value) for key, value in values.items()}
        order = sorted(set(labels.values()), key=_natural)
    else:
        numbers = {key: float(value) * facet.scale for key, value in values.items()}
        edges = round_edges(np.array(list(numbers.values())), len({mixture for mixture, _ in numbers}))
        order = _labels(edges, facet.unit)
        labels = {key: order[int(np.searchsorted(edges, number, "right"))] for key, number in numbers.items()}
    members = {label: frozenset(key for key, own in labels.items() if own == label) for label in order}
    return [Bin(label, own) for label, own in members.items() if own]


def _natural(label: str) -> tuple[float, str]:
    """A sort key: labels that begin with a number by this number, before all others."""
    try:
        return float(label.partition(" ")[0]), label
    except ValueError:
        return math.inf, label


def round_edges(values: np.ndarray, n_mixtures: int) -> list[float]:
    """Choose round numbers near the quantiles that divide the values into up to four equal parts.

    Args:
        values: One for each source.
        n_mixtures: The number of mixtures; few mixtures are divided into fewer parts.

    Returns:
        The edges between the parts, in ascending order.
    """
    n_bins = min(MAX_BINS, n_mixtures // MIN_MIXTURES_PER_BIN)
    if n_bins < 2:
        return []
    low, high = np.quantile(values, (0.25, 0.75))
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        return []
    size = (high - low) / STEPS_IN_RANGE * 2
    power = 10.0 ** math.floor(math.log10(size))
    step = power * max(multiple for multiple in (1, 2, 5) if multiple * power <= size * (1 + 1e-9))
    quantiles = np.quantile(values, np.arange(1, n_bins) / n_bins)
    rounded = {round(float(edge) / step) * step for edge in quantiles}
    return sorted(edge for edge in rounded if values.min() < edge <= values.max())


def _labels(edges: Sequence[float], unit: str) -> list[str]:
    """Labels of the intervals between edges; an edge belongs to the interval above it."""
    texts = [f"{edge:g}".replace("-", "\N{MINUS SIGN}") for edge in edges]
    inner = [f"{low} to {high} {unit}" for low, high in pairwise(texts)]
    return [f"below {texts[0]} {unit}", *inner, f"from {texts[-1]} {unit}"] if edges else ["all"]
