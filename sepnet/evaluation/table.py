"""From rows to the lines of the table: what each separator scored, cost and refused."""

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
LONGEST_REASON = 90  # in a cell of the table; the remarks tell all of it


@dataclass(frozen=True)
class Quantity:
    """A column of scores: its measure, unit and digits, and what it means, in one line."""

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
        "BSS-eval: the reference over the rest, any filter of 512 taps forgiven; higher is better",
        False,
    ),
    _quantity("sdr", "SDRi", "dB", 1, "SDR of the estimate less SDR of the mixture; higher is better", True),
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
)


@dataclass(frozen=True, eq=False)
class Line:
    """One separator and all of its rows."""

    name: str
    rows: Sequence[Row]

    @property
    def role(self) -> Role:
        """floor, method or ceiling."""
        return self.rows[0].role

    @cached_property
    def scores(self) -> Mapping[str, Summary]:
        """A summary over mixtures for the key of each quantity."""
        return {
            quantity.key: summarise(np.array(list(mixture_means(self.rows, quantity.value).values()), float))
            for quantity in QUANTITIES
        }

    @cached_property
    def improvements(self) -> Mapping[str, float]:
        """SI-SDRi in dB of each mixture, averaged over its sources."""
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
        """Of the separator's networks."""
        return self.rows[0].parameters

    @cached_property
    def real_time_factor(self) -> float:
        """Seconds of compute on one thread for a second of audio: the median over mixtures, nan if none."""
        return self._median(
            None if row.compute_seconds is None else row.compute_seconds / row.seconds
            for row in self.rows
            if row.source == 1
        )

    @cached_property
    def two_thread_factor(self) -> float:
        """The same on two threads, nan if not measured."""
        return self._median(
            None if row.two_thread_seconds is None else row.two_thread_seconds / row.seconds
            for row in self.rows
            if row.source == 1
        )

    @cached_property
    def macs_per_second(self) -> float:
        """Multiply-accumulates for a second of audio, the median over the mixtures on which it was counted.

        nan if on none, and for a method that does nothing of what is counted.
        """
        found = self._median(row.macs_per_second for row in self.rows if row.source == 1)
        return found if found or self.role == "floor" else math.nan

    @staticmethod
    def _median(values: Iterable[float | None]) -> float:
        known = [value for value in values if value is not None]
        return float(np.quantile(known, REAL_TIME_QUANTILE)) if known else math.nan

    @cached_property
    def peak_memory_mb(self) -> float:
        """The highest of all mixtures in MiB, nan if none."""
        return max(
            (row.peak_memory_mb for row in self.rows if row.peak_memory_mb is not None), default=math.nan
        )

    @cached_property
    def counts(self) -> Mapping[Status, int]:
        """How many sources have each status."""
        return Counter(row.status for row in self.rows)

    @cached_property
    def refusal(self) -> str:
        """Why nothing of it was scored, in a few words; empty where something was."""
        if self.counts["ok"]:
            return ""
        for status, verb in (("cannot_separate", "refused"), ("failed", "failed")):
            reasons = Counter(row.reason for row in self.rows if row.status == status)
            if reasons:
                reason = reasons.most_common(1)[0][0]
                # A refusal ends with its remedy, for which a table has no room.
                why = reason.partition(": ")[0] if status == "cannot_separate" else reason
                return f"{verb}: {shortened(why, LONGEST_REASON)}"
        return ""

    def remarks(self, measures: Sequence[str]) -> list[str]:
        """What the means leave out and why, a sentence each."""
        ok = [row for row in self.rows if row.status == "ok"]
        found = [
            f"{measure.upper().replace('_', '-')} is undefined for {count} of {len(ok)} sources"
            for measure in measures
            if (count := sum(math.isnan(row.scores.get(measure, math.nan)) for row in ok))
        ]
        found += self._counted()
        noted = Counter(row.reason for row in ok if row.reason)
        if silent := noted.pop(SILENT_ESTIMATE, 0):
            found.append(f"{silent} of {len(ok)} estimates are silent, and score the worst that there is")
        found += [f"{count} of {len(ok)} scored with a reservation: {r}" for r, count in noted.most_common(3)]
        if len(noted) > 3:
            found.append(f"others were scored with {len(noted) - 3} more reservations")
        for status, verb in (("cannot_separate", "refused"), ("failed", "failed")):
            reasons = Counter(row.reason for row in self.rows if row.status == status)
            found += [f"{verb} {count} sources: {reason}" for reason, count in reasons.most_common(3)]
            if len(reasons) > 3:
                found.append(f"{verb} others for {len(reasons) - 3} more reasons")
        return found

    def _counted(self) -> list[str]:
        """How well it counts the sources, for each number of them."""
        counted = [row for row in self.rows if row.source == 1 and row.n_found is not None]
        told = []
        for n_sources in sorted({row.n_sources for row in counted}):
            found = [row.n_found for row in counted if row.n_sources == n_sources]
            right = found.count(n_sources)
            told.append(
                f"counts right in {right} of {len(found)} mixtures of {n_sources} ({right / len(found):.0%})"
            )
        return told


def shortened(text: str, length: int) -> str:
    """The beginning of a text, at most that long."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def lines(rows: Sequence[Row]) -> list[Line]:
    """Floors, then methods from the best SI-SDRi to the worst and those without any, then ceilings."""
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        by_name.setdefault(row.separator, []).append(row)

    def order(line: Line) -> tuple[int, float]:
        mean = line.scores[SI_SDRI.key].mean
        worst_last = math.inf if math.isnan(mean) else -mean
        return ("floor", "method", "ceiling").index(line.role), worst_last

    return sorted((Line(name, own) for name, own in by_name.items()), key=order)
