"""What one process does: it separates mixtures with one contender, and scores the estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sepnet.evaluation.attempt import (
    Attempt,
    LoadedContender,
    attempt,
    estimate_n_sources,
    load_contender,
    one_line,
)
from sepnet.evaluation.contender import Contender
from sepnet.evaluation.cost import Cost, measure
from sepnet.evaluation.facts import condition, level_differences_db, overlap, sexes
from sepnet.evaluation.rows import SILENT_ESTIMATE, Row, Status
from sepnet.evaluation.scoring import score
from sepnet.inference.pipeline import PipelineSettings
from sepnet.metrics.sdr import is_silent
from sepnet.types import Mixture, Mixtures, SepnetError

Scores = Sequence[Mapping[str, float]]
"""For each source, {measure: value}."""


class Worker:
    """Scores one contender on the mixtures of a test set, in the current process.

    Args:
        contender: The separator; it is loaded at first use.
        mixtures: The test set.
        measures: Names in ``scoring.MEASURES``.
        settings: Settings of the pipeline around the separator; None for the defaults.
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
        self._loaded: LoadedContender | None = None

    def cost(self, index: int) -> Cost:
        """Measure the cost of separating one mixture.

        Args:
            index: Of the mixture in the test set.

        Returns:
            The cost.

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
            known: The scores of the mixture itself, if the rows of another separator contain them.
            cost: The cost as measured before.

        Returns:
            A row for each source.

        Raises:
            LoadError: The separator cannot be loaded.
            SepnetError: The mixture cannot be read.
        """
        mixture, references = self._read(index)
        silent, is_only = is_silent(references), is_silent(mixture.audio[:1] - references)
        is_target = torch.tensor(mixture.is_target or [True] * len(references))
        is_scored = is_target & ~(silent | is_only)
        loaded = self._load(mixture.sample_rate)
        if known is None:
            unprocessed = mixture.audio[:1].expand_as(references)
            known = self._scores(unprocessed, references, is_scored, mixture.sample_rate)
        outcome = attempt(loaded, mixture, references) if bool(is_scored.any()) else Attempt("excluded")
        n_estimated = estimate_n_sources(loaded.pipeline, mixture)
        scores: Scores = [{} for _ in references]
        if outcome.estimates is not None:
            scores = self._scores(outcome.estimates, references, is_scored, mixture.sample_rate)
        rows = []
        speakers, overlapping = sexes(self.mixtures, index), overlap(references, mixture.sample_rate)
        differences_db = level_differences_db(references)
        for source in range(len(references)):
            exclusion = _exclusion(bool(is_target[source]), bool(silent[source]), bool(is_only[source]))
            status, reason = _status(outcome, source, exclusion)
            row = Row(
                separator=self.contender.name,
                mixture_id=self.mixtures.id(index),
                source=source + 1,
                n_sources=len(references),
                seconds=mixture.audio.shape[-1] / mixture.sample_rate,
                sample_rate=mixture.sample_rate,
                status=status,
                reason=reason,
                permutation=outcome.order[source] + 1 if outcome.order else None,
                scores=scores[source],
                mixture_scores=known[source],
                compute_seconds=outcome.compute_seconds,
                peak_memory_mb=outcome.peak_memory_mb,
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

    def _load(self, sample_rate: int) -> LoadedContender:
        if self._loaded is None:
            # The measures import and allocate at first use; that is not the separator's memory.
            noise = torch.randn(1, sample_rate, generator=torch.Generator().manual_seed(0))
            score(self.measures, noise, noise, sample_rate)
            self._loaded = load_contender(self.contender, self.settings)
        return self._loaded

    def _scores(self, estimates: Tensor, references: Tensor, is_scored: Tensor, sample_rate: int) -> Scores:
        """Score the sources that are to be scored; the others have no measures."""
        scores: Scores = []
        if bool(is_scored.any()):
            scores = score(self.measures, estimates[is_scored], references[is_scored], sample_rate)
        remaining = iter(scores)
        return [next(remaining) if scored else {} for scored in is_scored.tolist()]


def _exclusion(is_target: bool, silent: bool, is_only: bool) -> str:
    """Why no estimate of a source can be scored; empty if it can."""
    if not is_target:
        return "no query asks for this source"
    if silent:
        return "the reference is silent"
    return "the mixture holds nothing but this source" if is_only else ""


def _status(outcome: Attempt, source: int, exclusion: str) -> tuple[Status, str]:
    if exclusion:
        return "excluded", exclusion
    if outcome.estimates is not None and bool(is_silent(outcome.estimates[source])):
        return outcome.status, SILENT_ESTIMATE
    return outcome.status, outcome.reason


def mixture_scores(rows: Sequence[Row]) -> dict[str, Scores]:
    """Collect the scores of the mixtures themselves from rows.

    Args:
        rows: Rows of any separators.

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
