"""The work of one process: load a separator, separate mixtures with it, and score its estimates."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sepnet.evaluation.contender import Contender, LoadError
from sepnet.evaluation.cost import Cost, measure, visible_copy
from sepnet.evaluation.facts import condition, level_differences_db, overlap, sexes
from sepnet.evaluation.memory import forget_peak, resident_mb
from sepnet.evaluation.rows import SILENT_ESTIMATE, Role, Row, Status
from sepnet.evaluation.scoring import score
from sepnet.inference.pipeline import Pipeline, PipelineSettings
from sepnet.metrics import align, represents_all
from sepnet.metrics.sdr import is_silent
from sepnet.separators.identity import Identity
from sepnet.types import (
    CannotSeparate,
    Mixture,
    Mixtures,
    SeparationWarning,
    Separator,
    SepnetError,
)

Scores = Sequence[Mapping[str, float]]  # a dict of measures per source
MAX_REASON_LENGTH = 300


@dataclass(frozen=True)
class _Loaded:
    pipeline: Pipeline
    role: Role
    parameters: int
    loading_mb: float  # the peak of the resident memory while loading, above that before
    held_mb: float  # the resident memory after loading, above that before


@dataclass(frozen=True)
class _Attempt:
    """The outcome of separating one mixture: estimates in the order of the references, or why none."""

    status: Status
    reason: str = ""
    estimates: Tensor | None = None
    order: tuple[int, ...] = ()
    compute_seconds: float | None = None
    peak_memory_mb: float | None = None


class Worker:
    """Scores one contender on the mixtures of a test set, in the current process.

    Args:
        contender: Loaded at first use.
        mixtures: The test set.
        measures: Names in ``scoring.MEASURES``.
        settings: Of the pipeline around the separator; None: the defaults.
    """

    def __init__(
        self,
        contender: Contender,
        mixtures: Mixtures,
        measures: Sequence[str],
        settings: PipelineSettings | None = None,
    ) -> None:
        self.contender, self.mixtures, self.measures = contender, mixtures, tuple(measures)
        self.settings = settings or PipelineSettings()
        self._loaded: _Loaded | None = None

    def cost(self, index: int) -> Cost:
        """Measure the cost of separating mixture ``index``.

        Raises:
            LoadError: The separator cannot be loaded.
            SepnetError: The mixture cannot be read.
        """
        mixture, _ = self._read(index)
        return measure(self._load(mixture.sample_rate).pipeline, mixture)

    def score(self, index: int, known: Scores | None = None, cost: Cost = Cost()) -> list[Row]:  # noqa: B008
        """Separate mixture ``index``, and score the estimates. An error while separating becomes a row.

        Args:
            index: In the test set.
            known: The mixture's own scores, where the rows of another separator hold them.
            cost: Measured before.

        Returns:
            A row for each source.

        Raises:
            LoadError: The separator cannot be loaded.
            SepnetError: The mixture cannot be read.
        """
        mixture, references = self._read(index)
        silent, is_only = is_silent(references), is_silent(mixture.audio[:1] - references)
        asked = torch.tensor(mixture.is_target or [True] * len(references))
        judged = asked & ~(silent | is_only)
        loaded = self._load(mixture.sample_rate)
        if known is None:
            same = mixture.audio[:1].expand_as(references)
            known = self._scores(same, references, judged, mixture.sample_rate)
        attempt = _attempt(loaded, mixture, references) if bool(judged.any()) else _Attempt("excluded")
        n_estimated = _estimate_n_sources(loaded.pipeline, mixture)
        scores: Scores = [{} for _ in references]
        if attempt.estimates is not None:
            scores = self._scores(attempt.estimates, references, judged, mixture.sample_rate)
        rows = []
        speakers, overlapping = sexes(self.mixtures, index), overlap(references, mixture.sample_rate)
        differences_db = level_differences_db(references)
        for source in range(len(references)):
            exclusion = _exclusion(bool(asked[source]), bool(silent[source]), bool(is_only[source]))
            status, reason = _status(attempt, source, exclusion)
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
                sexes=speakers,
                overlap=overlapping,
                level_difference_db=differences_db[source],
                two_thread_seconds=cost.two_thread_seconds,
                macs_per_second=cost.macs_per_second,
                n_estimated=n_estimated,
                condition=condition(self.mixtures, index),
            )
            rows.append(row)
        return rows

    def _read(self, index: int) -> tuple[Mixture, Tensor]:
        try:
            mixture = self.mixtures[index]
        except Exception as error:
            raise SepnetError(
                f"mixture {self.mixtures.id(index)} cannot be read: {one_line(error)}"
            ) from error
        if mixture.references is None:
            raise SepnetError(f"mixture {self.mixtures.id(index)} has no references to score by")
        return mixture, mixture.references

    def _load(self, sample_rate: int) -> _Loaded:
        if self._loaded is None:
            # The measures import and allocate at first use; that is not the separator's memory.
            noise = torch.randn(1, sample_rate, generator=torch.Generator().manual_seed(0))
            score(self.measures, noise, noise, sample_rate)
            idle_mb = resident_mb("VmRSS")
            forget_peak()
            try:
                pipeline = self.contender.pipeline(self.settings)
                separator = pipeline.separator
                role, parameters = _role(separator), count_parameters(separator)
            except Exception as error:
                raise LoadError(f"{self.contender.name} cannot be loaded: {one_line(error)}") from error
            loading_mb, held_mb = (resident_mb(field) - idle_mb for field in ("VmHWM", "VmRSS"))
            self._loaded = _Loaded(pipeline, role, parameters, loading_mb, held_mb)
        return self._loaded

    def _scores(self, estimates: Tensor, references: Tensor, judged: Tensor, sample_rate: int) -> Scores:
        judged_scores: Scores = []
        if bool(judged.any()):
            judged_scores = score(self.measures, estimates[judged], references[judged], sample_rate)
        scores = iter(judged_scores)
        return [next(scores) if scored else {} for scored in judged.tolist()]


def _attempt(loaded: _Loaded, mixture: Mixture, references: Tensor) -> _Attempt:
    separator = loaded.pipeline
    built_for = separator.info.n_sources
    by_class = represents_all(separator.info.labels, mixture.labels)
    if built_for not in (None, len(references)) and not by_class:
        return _Attempt("cannot_separate", f"gives {built_for} sources, not {len(references)}")
    try:
        given = visible_copy(separator, mixture)
        forget_peak()
        # Compared with this moment, not with the idle process: reading and scoring leave memory allocated.
        before_mb = resident_mb("VmRSS")
        begin = time.process_time()  # with one thread as long as wall time, unless others use the processor
        with _collected_warnings() as messages:
            separation = separator.separate(given)
        compute_seconds = time.process_time() - begin
        taken_mb = resident_mb("VmHWM") - before_mb
        peak_mb = max(loaded.loading_mb, loaded.held_mb + taken_mb, 0.0)
        estimates, order = align(separation, references, needs=separator.info.needs, labels=mixture.labels)
    except CannotSeparate as error:
        return _Attempt("cannot_separate", one_line(error))
    except Exception as error:
        return _Attempt("failed", one_line(error))
    return _Attempt("ok", "; ".join(messages), estimates, order, compute_seconds, peak_mb)


def _estimate_n_sources(pipeline: Pipeline, mixture: Mixture) -> int | None:
    """The estimated number of sources; None where the separator cannot count, with a warning if it fails."""
    if not pipeline.info.counts_sources:
        return None
    try:
        return pipeline.estimate_n_sources(mixture.only(()))
    except CannotSeparate:
        return None  # separating gives the reason
    except Exception as error:  # no reason to lose the mixture's scores, nor to keep silent
        warnings.warn(f"{type(pipeline.separator).__name__} cannot count: {one_line(error)}", stacklevel=2)
        return None


@contextmanager
def _collected_warnings() -> Iterator[list[str]]:
    """Collect the messages of SeparationWarnings, each once; other warnings are shown as usual."""
    messages: dict[str, None] = {}
    collected: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SeparationWarning)
        yield collected
    for warning in caught:
        if issubclass(warning.category, SeparationWarning):
            messages[one_line(SepnetError(str(warning.message)))] = None
        else:
            warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno)
    collected.extend(messages)


def _exclusion(asked: bool, silent: bool, is_only: bool) -> str:
    """Why a source is not scored, whatever the method gives; empty if it is scored."""
    if not asked:
        return "no query asks for this source"
    if silent:
        return "the reference is silent"
    return "the mixture holds nothing but this source" if is_only else ""


def _status(attempt: _Attempt, source: int, exclusion: str) -> tuple[Status, str]:
    if exclusion:
        return "excluded", exclusion
    if attempt.estimates is not None and bool(is_silent(attempt.estimates[source])):
        return attempt.status, SILENT_ESTIMATE
    return attempt.status, attempt.reason


def one_line(error: BaseException) -> str:
    """Write an exception as one short line, with its type unless it is sepnet's own."""
    kind = "" if isinstance(error, SepnetError) else f"{type(error).__name__}: "
    text = " ".join(f"{kind}{error}".split())
    return text if len(text) <= MAX_REASON_LENGTH else text[: MAX_REASON_LENGTH - 1] + "…"


def _role(separator: Separator) -> Role:
    if "references" in separator.info.needs:
        return "ceiling"
    return "floor" if type(separator) is Identity else "method"


def count_parameters(separator: object) -> int:
    """Count the parameters of a separator's networks, also where separators are nested, each once."""
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
    """Collect the mixtures' own scores from rows.

    Args:
        rows: Of any separators.

    Returns:
        {mixture id: a dict of measures for each source}.
    """
    known: dict[str, dict[int, Mapping[str, float]]] = {}
    for row in rows:
        known.setdefault(row.mixture_id, {}).setdefault(row.source, row.mixture_scores)
    return {
        mixture_id: [by_source[source] for source in sorted(by_source)]
        for mixture_id, by_source in known.items()
    }
