"""Summarise rows as the lines of a table: scores, cost and refusals of each separator."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sepnet.evaluation.rows import SILENT_ESTIMATE, Role, Row, Status
from sepnet.evaluation.statistics import (
    Share,
    Summary,
    median_interval,
    mixture_means,
    share_above,
    summarise,
)

REAL_TIME_QUANTILE = 0.5
MAX_REASON_LENGTH = 90  # in a cell of the table; the remarks have the full reason


@dataclass(frozen=True)
class Quantity:
    """A column of scores.

    Attributes:
        key: The measure, with ``_improvement`` if it is the difference to that of the mixture.
        measure: The name in ``scoring.MEASURES``.
        label: The title of the column.
        unit: The unit in the title.
        digits: The number of digits after the decimal point.
        meaning: An explanation in one line.
        value: Computes the quantity from a row; nan if it is undefined.
    """

    key: str
    measure: str
    label: str
    unit: str
    digits: int
    meaning: str
    value: Callable[[Row], float]


def _quantity(measure: str, label: str, unit: str, digits: int, meaning: str, improved: bool) -> Quantity:
    def value(row: Row) -> float:
        return row.improvement(measure) if improved else row.scores.get(measure, math.nan)

    key = f"{measure}_improvement" if improved else measure
    return Quantity(key, measure, label, unit, digits, meaning, value)


SI_SDRI = _quantity(
    "si_sdr",
    "SI-SDRi",
    "dB",
    2,
    "how much closer to the reference the estimate is than the mixture, at any level; higher is better",
    True,
)
QUANTITIES = (
    SI_SDRI,
    _quantity(
        "sdr",
        "SDR",
        "dB",
        1,
        "BSS-eval: the reference over the rest, after any filter of 512 taps; higher is better",
        False,
    ),
    _quantity("sdr", "SDRi", "dB", 1, "SDR of the estimate minus SDR of the mixture; higher is better", True),
    _quantity(
        "pesq",
        "PESQ",
        "MOS",
        2,
        "predicted opinion of listeners on quality, about 1 to 4.6; higher is better",
        False,
    ),
    _quantity(
        "estoi",
        "ESTOI",
        "0 to 1",
        3,
        "predicted intelligibility; higher is better",
        False,
    ),
    _quantity(
        "dnsmos",
        "DNSMOS",
        "MOS",
        2,
        "predicted opinion of listeners without a reference, 1 to 5, trained on noisy and not on separated "
        "speech; higher is better",
        False,
    ),
)


@dataclass(frozen=True, eq=False)
class Line:
    """A separator and all of its rows."""

    name: str
    rows: Sequence[Row]

    @property
    def role(self) -> Role:
        """Whether it is a floor, a method or a ceiling."""
        return self.rows[0].role

    @cached_property
    def scores(self) -> Mapping[str, Summary]:
        """A summary over mixtures for each quantity, by its key."""
        return {
            quantity.key: summarise(np.array(list(mixture_means(self.rows, quantity.value).values()), float))
            for quantity in QUANTITIES
        }

    @cached_property
    def improvements(self) -> Mapping[str, float]:
        """The SI-SDRi in dB of each mixture, averaged over its sources."""
        return mixture_means(self.rows, SI_SDRI.value)

    @cached_property
    def median_interval(self) -> tuple[float, float]:
        """The 95 % interval of the median SI-SDRi in dB."""
        return median_interval(np.array(list(self.improvements.values()), float))

    @cached_property
    def above_zero(self) -> Share:
        """The share of mixtures that gain anything: whose SI-SDRi is above 0 dB."""
        return share_above(np.array(list(self.improvements.values()), float))

    @property
    def parameters(self) -> int:
        """The number of parameters of the separator's networks."""
        return self.rows[0].parameters

    @cached_property
    def real_time_factor(self) -> float:
        """Seconds on one thread for a second of audio, as a median over mixtures; nan if unknown."""
        return self._median(
            None if row.compute_seconds is None else row.compute_seconds / row.seconds
            for row in self.rows
            if row.source == 1
        )

    @cached_property
    def two_thread_factor(self) -> float:
        """Seconds on two threads for a second of audio, as a median over mixtures; nan if unknown."""
        return self._median(
            None if row.two_thread_seconds is None else row.two_thread_seconds / row.seconds
            for row in self.rows
            if row.source == 1
        )

    @cached_property
    def macs_per_second(self) -> float:
        """Multiply-accumulates for a second of audio, the median over mixtures.

        nan if unknown, and for a method whose operations are not counted.
        """
        macs = self._median(row.macs_per_second for row in self.rows if row.source == 1)
        return macs if macs or self.role == "floor" else math.nan

    @staticmethod
    def _median(values: Iterable[float | None]) -> float:
        known = [value for value in values if value is not None]
        return float(np.quantile(known, REAL_TIME_QUANTILE)) if known else math.nan

    @cached_property
    def peak_memory_mb(self) -> float:
        """The highest peak of all mixtures in MiB; nan if unknown."""
        return max(
            (row.peak_memory_mb for row in self.rows if row.peak_memory_mb is not None), default=math.nan
        )

    @cached_property
    def counts(self) -> Mapping[Status, int]:
        """The number of sources with each status."""
        return Counter(row.status for row in self.rows)

    @cached_property
    def refusal(self) -> str:
        """Why none of its estimates was scored, in a few words; empty if some were."""
        if self.counts["ok"]:
            return ""
        for status, verb in (("cannot_separate", "refused"), ("failed", "failed")):
            reasons = Counter(row.reason for row in self.rows if row.status == status)
            if reasons:
                reason = reasons.most_common(1)[0][0]
                # A refusal ends with its remedy, for which a table has no room.
                why = reason.partition(": ")[0] if status == "cannot_separate" else reason
                return f"{verb}: {shortened(why, MAX_REASON_LENGTH)}"
        return ""

    def remarks(self, measures: Sequence[str]) -> list[str]:
        """Explain what the means leave out and why, in a sentence each.

        Args:
            measures: The measures of the evaluation.

        Returns:
            The sentences, without a full stop.
        """
        ok = [row for row in self.rows if row.status == "ok"]
        remarks = [
            f"{measure.upper().replace('_', '-')} is undefined for {count} of {len(ok)} sources"
            for measure in measures
            if (count := sum(math.isnan(row.scores.get(measure, math.nan)) for row in ok))
        ]
        remarks += self._counting_remarks()
        warned = Counter(row.reason for row in ok if row.reason)
        if silent := warned.pop(SILENT_ESTIMATE, 0):
            remarks.append(f"{silent} of {len(ok)} estimates are silent, and have the lowest possible scores")
        remarks += [
            f"{count} of {len(ok)} were scored with a warning: {r}" for r, count in warned.most_common(3)
        ]
        if len(warned) > 3:
            remarks.append(f"others were scored with {len(warned) - 3} other warnings")
        for status, verb in (("cannot_separate", "refused"), ("failed", "failed")):
            reasons = Counter(row.reason for row in self.rows if row.status == status)
            remarks += [f"{verb} {count} sources: {reason}" for reason, count in reasons.most_common(3)]
            if len(reasons) > 3:
                remarks.append(f"{verb} others for {len(reasons) - 3} other reasons")
        return remarks

    def _counting_remarks(self) -> list[str]:
        """How well it counts the sources, for each number of sources."""
        counted = [row for row in self.rows if row.source == 1 and row.n_estimated is not None]
        remarks = []
        for n_sources in sorted({row.n_sources for row in counted}):
            estimates = [row.n_estimated for row in counted if row.n_sources == n_sources]
            n_correct = estimates.count(n_sources)
            remarks.append(
                f"counts correctly in {n_correct} of {len(estimates)} mixtures of {n_sources} "
                f"({n_correct / len(estimates):.0%})"
            )
        return remarks


def shortened(text: str, length: int) -> str:
    """Shorten a text to at most ``length`` characters."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def lines(rows: Sequence[Row]) -> list[Line]:
    """Sort rows into the lines of a table.

    Args:
        rows: The rows of an evaluation, in any order.

    Returns:
        Floors, then methods, then ceilings; each from the best SI-SDRi to the worst, then those without one.
    """
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        by_name.setdefault(row.separator, []).append(row)

    def order(line: Line) -> tuple[int, float]:
        mean = line.scores[SI_SDRI.key].mean
        worst_last = math.inf if math.isnan(mean) else -mean
        return ("floor", "method", "ceiling").index(line.role), worst_last

    return sorted((Line(name, own) for name, own in by_name.items()), key=order)
