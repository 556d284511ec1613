"""One process's work: load one separator, separate mixtures with it, and score what comes out."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sepnet.evaluation.contender import Contender, LoadError
from sepnet.evaluation.cost import Cost, given_to, measure
from sepnet.evaluation.facts import condition, level_differences_db, overlap, sexes
from sepnet.evaluation.memory import forget_peak, resident_mb
from sepnet.evaluation.rows import SILENT_ESTIMATE, Role, Row, Status
from sepnet.evaluation.scoring import score
from sepnet.metrics import align, represents_all
from sepnet.metrics.sdr import is_silent
from sepnet.separators.identity import Identity
from sepnet.types import (
    CannotSeparate,
    CountingSeparator,
    Mixture,
    Mixtures,
    SeparationWarning,
    Separator,
    SepnetError,
)

Scores = Sequence[Mapping[str, float]]  # a dict of measures per source
LONGEST_REASON = 300


@dataclass(frozen=True)
class _Loaded:
    separator: Separator
    role: Role
    parameters: int
    loading_mb: float  # the highest resident memory while loading, above what it was before
    held_mb: float  # what is left of that


@dataclass(frozen=True)
class _Attempt:
    """What became of one mixture: estimates (source, time) in the order of the references, or why none."""

    status: Status
    reason: str = ""
    estimates: Tensor | None = None
    order: tuple[int, ...] = ()
    compute_seconds: float | None = None
    peak_memory_mb: float | None = None


class Worker:
    """Scores one contender on mixtures of one set, in the process that it is in."""

    def __init__(self, contender: Contender, mixtures: Mixtures, measures: Sequence[str]) -> None:
        self.contender, self.mixtures, self.measures = contender, mixtures, tuple(measures)
        self._loaded: _Loaded | None = None

    def cost(self, index: int) -> Cost:
        """What mixture ``index`` costs, in this process. Raises as ``score``."""
        mixture, _ = self._read(index)
        return measure(self._load(mixture.sample_rate).separator, mixture)

    def score(self, index: int, known: Scores | None = None, cost: Cost = Cost()) -> list[Row]:  # noqa: B008
        """The rows of mixture ``index``, one per source.

        known: the mixture's own scores where another separator's rows hold them. cost: what was measured of
        it apart. Raises LoadError if the
        separator can't be made, SepnetError if the mixture can't be read; whatever goes wrong while
        separating is a row instead.
        """
        mixture, references = self._read(index)
        silent, alone = is_silent(references), is_silent(mixture.audio[:1] - references)
        asked = torch.tensor(mixture.asked or [True] * len(references))
        judged = asked & ~(silent | alone)
        loaded = self._load(mixture.sample_rate)
        if known is None:
            same = mixture.audio[:1].expand_as(references)
            known = self._scores(same, references, judged, mixture.sample_rate)
        attempt = _attempt(loaded, mixture, references) if bool(judged.any()) else _Attempt("excluded")
        n_found = _count(loaded.separator, mixture)
        scores: Scores = [{} for _ in references]
        if attempt.estimates is not None:
            scores = self._scores(attempt.estimates, references, judged, mixture.sample_rate)
        rows = []
        who, together = sexes(self.mixtures, index), overlap(references, mixture.sample_rate)
        differences_db = level_differences_db(references)
        for source in range(len(references)):
            left_out = _left_out(bool(asked[source]), bool(silent[source]), bool(alone[source]))
            status, reason = _verdict(attempt, source, left_out)
            row = Row(
                separator=self.contender.name,
                mixture_id=self.mixtures.id(index),
                source=source + 1,
                n_sources=len(references),
                seconds=mixture.audio.shape[-1] / mixture.sample_rate,
                sample_rate=mixture.sample_rate,
                status=status,
                reason=reason,
                permutation=attempt.order[source] + 1 if attempt.order else None,
                scores=scores[source],
                mixture_scores=known[source],
                compute_seconds=attempt.compute_seconds,
                peak_memory_mb=attempt.peak_memory_mb,
                parameters=loaded.parameters,
                role=loaded.role,
                sexes=who,
                overlap=together,
                level_difference_db=differences_db[source],
                two_thread_seconds=cost.two_thread_seconds,
                macs_per_second=cost.macs_per_second,
                n_found=n_found,
                condition=condition(self.mixtures, index),
            )
            rows.append(row)
        return rows

    def _read(self, index: int) -> tuple[Mixture, Tensor]:
        try:
            mixture = self.mixtures[index]
        except Exception as error:
            raise SepnetError(
                f"mixture {self.mixtures.id(index)} can't be read: {one_line(error)}"
            ) from error
        if mixture.references is None:
            raise SepnetError(f"mixture {self.mixtures.id(index)} has no references to judge by")
        return mixture, mixture.references

    def _load(self, sample_rate: int) -> _Loaded:
        if self._loaded is None:
            # The measures import and allocate on first use; that is not the separator's memory.
            noise = torch.randn(1, sample_rate, generator=torch.Generator().manual_seed(0))
            score(self.measures, noise, noise, sample_rate)
            idle_mb = resident_mb("VmRSS")
            forget_peak()
            try:
                separator = self.contender.load()
                role, parameters = _role(separator), count_parameters(separator)
            except Exception as error:
                raise LoadError(f"{self.contender.name} can't be loaded: {one_line(error)}") from error
            loading_mb, held_mb = (resident_mb(field) - idle_mb for field in ("VmHWM", "VmRSS"))
            self._loaded = _Loaded(separator, role, parameters, loading_mb, held_mb)
        return self._loaded

    def _scores(self, estimates: Tensor, references: Tensor, judged: Tensor, sample_rate: int) -> Scores:
        found: Scores = []
        if bool(judged.any()):
            found = score(self.measures, estimates[judged], references[judged], sample_rate)
        scores = iter(found)
        return [next(scores) if scored else {} for scored in judged.tolist()]


def _attempt(loaded: _Loaded, mixture: Mixture, references: Tensor) -> _Attempt:
    separator = loaded.separator
    built_for = separator.info.n_sources
    by_class = represents_all(separator.info.labels, mixture.labels)
    if built_for not in (None, len(references)) and not by_class:
        return _Attempt("cannot_separate", f"gives {built_for} sources, not {len(references)}")
    try:
        given = given_to(separator, mixture)
        forget_peak()
        # Against this moment, not against the idle process: reading and measuring leave memory behind.
        before_mb = resident_mb("VmRSS")
        begin = time.process_time()  # of one thread: wall time too, unless others use the processor
        with _reservations() as reservations:
            separation = separator.separate(given)
        compute_seconds = time.process_time() - begin
        taken_mb = resident_mb("VmHWM") - before_mb
        peak_mb = max(loaded.loading_mb, loaded.held_mb + taken_mb, 0.0)
        estimates, order = align(separation, references, needs=separator.info.needs, labels=mixture.labels)
    except CannotSeparate as error:
        return _Attempt("cannot_separate", one_line(error))
    except Exception as error:
        return _Attempt("failed", one_line(error))
    return _Attempt("ok", "; ".join(reservations), estimates, order, compute_seconds, peak_mb)


def _count(separator: Separator, mixture: Mixture) -> int | None:
    """How many sources it finds; None where it can't count, and with a warning where it fails to."""
    if not (isinstance(separator, CountingSeparator) and separator.info.counts_sources):
        return None
    try:
        return separator.estimate_n_sources(mixture.only(()))
    except CannotSeparate:
        return None  # separating tells why
    except Exception as error:  # no reason to lose the mixture's scores, nor to keep silent
        warnings.warn(f"{type(separator).__name__} can't count: {one_line(error)}", stacklevel=2)
        return None


@contextmanager
def _reservations() -> Iterator[list[str]]:
    """Collects what SeparationWarnings say, each once; other warnings are shown as ever."""
    said: dict[str, None] = {}
    found: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SeparationWarning)
        yield found
    for warning in caught:
        if issubclass(warning.category, SeparationWarning):
            said[one_line(SepnetError(str(warning.message)))] = None
        else:
            warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno)
    found.extend(said)


def _left_out(asked: bool, silent: bool, alone: bool) -> str:
    """Why a source is not judged, whatever the method did, so the same ones for each; empty if it is."""
    if not asked:
        return "no query asks for this source"
    if silent:
        return "the reference is silent"
    return "the mixture holds nothing but this source" if alone else ""


def _verdict(attempt: _Attempt, source: int, left_out: str) -> tuple[Status, str]:
    if left_out:
        return "excluded", left_out
    if attempt.estimates is not None and bool(is_silent(attempt.estimates[source])):
        return attempt.status, SILENT_ESTIMATE
    return attempt.status, attempt.reason


def one_line(error: BaseException) -> str:
    """An exception as one short line; its type is named unless it is sepnet's own."""
    kind = "" if isinstance(error, SepnetError) else f"{type(error).__name__}: "
    text = " ".join(f"{kind}{error}".split())
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "…"


def _role(separator: Separator) -> Role:
    if "references" in separator.info.needs:
        return "ceiling"
    return "floor" if type(separator) is Identity else "method"


def count_parameters(separator: object) -> int:
    """Parameters of a separator's networks, also where separators are wrapped around one another."""
    found: dict[int, int] = {}
    seen: set[int] = set()
    queue = [separator]
    while queue:
        part = queue.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, nn.Module):
            found |= {id(parameter): parameter.numel() for parameter in part.parameters()}
        elif isinstance(part, list | tuple):
            queue.extend(part)
        elif isinstance(part, Separator):
            queue.extend(vars(part).values())
    return sum(found.values())


def mixture_scores(rows: Sequence[Row]) -> dict[str, Scores]:
    """Each mixture's own scores, from the rows of whichever separator came first."""
    known: dict[str, dict[int, Mapping[str, float]]] = {}
    for row in rows:
        known.setdefault(row.mixture_id, {}).setdefault(row.source, row.mixture_scores)
    return {
        mixture_id: [by_source[source] for source in sorted(by_source)]
        for mixture_id, by_source in known.items()
    }
