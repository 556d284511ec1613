"""The table broken down: SI-SDRi by who speaks, condition, levels, overlap, number of sources and duration.

A bin is of sources: those of its mixtures, or for the level difference those that it holds itself. As in the
table, the sources of a mixture are averaged first, and mixtures are counted.
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

MOST_BINS = 4
FEWEST_MIXTURES = 5  # that a bin of numbers should hold
STEPS_IN_RANGE = 12  # edges are round to about this share of the middle half of the values


@dataclass(frozen=True)
class Facet:
    """One thing by which mixtures differ; value: of a source's row, None where it is not known."""

    key: str
    label: str
    meaning: str
    value: Callable[[Row], str | float | None]
    scale: float = 1.0  # to the unit in which it is shown
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
    """Some of the sources, each by (mixture, source)."""

    label: str
    members: frozenset[tuple[str, int]]

    @cached_property
    def n_mixtures(self) -> int:
        """Mixtures that have a source here."""
        return len({mixture for mixture, _ in self.members})


@dataclass(frozen=True, eq=False)
class Breakdown:
    """A facet, its bins in order, and what each separator scored in each: {separator: a summary a bin}."""

    facet: Facet
    bins: Sequence[Bin]
    scores: Mapping[str, Sequence[Summary]]


def breakdowns(table: Sequence[Line]) -> list[Breakdown]:
    """For each facet that varies among the mixtures that were scored."""
    scored = [line for line in table if line.improvements]
    found = []
    for facet in FACETS:
        values = {
            (row.mixture_id, row.source): value
            for line in scored
            for row in line.rows
            if row.status == "ok" and (value := facet.value(row)) is not None
        }
        bins = _bins(values, facet)
        if len(bins) > 1:
            found.append(Breakdown(facet, bins, {line.name: _scores(line, bins) for line in scored}))
    return found


def _scores(line: Line, bins: Sequence[Bin]) -> list[Summary]:
    summaries = []
    for part in bins:
        own = (row for row in line.rows if (row.mixture_id, row.source) in part.members)
        means = mixture_means(own, SI_SDRI.value)
        summaries.append(summarise(np.array(list(means.values()), float)))
    return summaries


def _bins(values: Mapping[tuple[str, int], str | float], facet: Facet) -> list[Bin]:
    """Those that hold anything."""
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
    """Labels that begin with a number by this number, before all others."""
    try:
        return float(label.partition(" ")[0]), label
    except ValueError:
        return math.inf, label


def round_edges(values: np.ndarray, n_mixtures: int) -> list[float]:
    """Round numbers near the quantiles that divide the values into up to four equal parts."""
    n_bins = min(MOST_BINS, n_mixtures // FEWEST_MIXTURES)
    if n_bins < 2:
        return []
    low, high = np.quantile(values, (0.25, 0.75))
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        return []
    size = (high - low) / STEPS_IN_RANGE * 2
    power = 10.0 ** math.floor(math.log10(size))
    step = power * max(multiple for multiple in (1, 2, 5) if multiple * power <= size)
    quantiles = np.quantile(values, np.arange(1, n_bins) / n_bins)
    rounded = {round(float(edge) / step) * step for edge in quantiles}
    return sorted(edge for edge in rounded if values.min() < edge <= values.max())


def _labels(edges: Sequence[float], unit: str) -> list[str]:
    """Of the intervals that these edges divide; an edge belongs to what lies above it."""
    texts = [f"{edge:g}".replace("-", "\N{MINUS SIGN}") for edge in edges]
    inner = [f"{low} to {high} {unit}" for low, high in pairwise(texts)]
    return [f"below {texts[0]} {unit}", *inner, f"from {texts[-1]} {unit}"] if edges else ["all"]
