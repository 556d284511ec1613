"""Separate the recording of a request, in memory; the page and both APIs use this."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float

from sepnet.data.audio.memory import DecodedSound, decode
from sepnet.inference.pipeline import Pipeline, PipelineSettings
from sepnet.metrics import align, sdr, si_sdr, si_sdr_improvement
from sepnet.serving.limits import Limits
from sepnet.serving.models import Models
from sepnet.types import Mixture, Query, Separation, Separator, SepnetError

ReadUpload = Callable[[], bytes]
"""Returns the bytes of a sound file; called when a job begins, so that waiting requests need no memory."""
CHANNELS: Mapping[str, Literal["mean", "all"]] = {"mean": "mean", "all": "all"}


@dataclass(frozen=True, kw_only=True)
class SeparationRequest:
    """A request of a client.

    Attributes:
        mixture: The recording.
        model: Name of a model.
        n_sources: The number of sources, for models that need it; others ignore it.
        query: An example of the sound to extract, for models that need one; others ignore it.
        references: The true sources, for scores.
        channels: ``mean`` separates the average of all channels; ``all`` uses all of them, for methods that
            compare microphones.
    """

    mixture: ReadUpload
    model: str
    n_sources: int | None = None
    query: ReadUpload | None = None
    references: tuple[ReadUpload, ...] = ()
    channels: str = "mean"


@dataclass(frozen=True)
class Score:
    """The scores of one reference.

    Attributes:
        reference: Its number, from 1.
        output: The number of the output that is assigned to it, from 1.
        si_sdr: SI-SDR in dB.
        si_sdri: SI-SDR improvement in dB.
        sdr: SDR in dB.
    """

    reference: int
    output: int
    si_sdr: float
    si_sdri: float
    sdr: float


@dataclass(frozen=True, kw_only=True)
class SeparationResult:
    """The sources of a request, with their description.

    Attributes:
        model: Name of the model.
        pipeline: The settings of the pipeline; see ``PipelineSettings``.
        sample_rate: Hz.
        mixture: (time,), the signal to which the sources should sum.
        sources: (source, time).
        labels: A name for each source.
        scores: One for each reference.
        residual_db: Level of mixture - sum of sources relative to the mixture; None for rounding errors only.
        compute_seconds: Time of the separation, without decoding.
        warnings: In sentences: defects of the files, such as that one is cut off, or that it is too short.
    """

    model: str
    pipeline: Mapping[str, Any]
    sample_rate: int
    mixture: Float[np.ndarray, " time"]
    sources: Float[np.ndarray, "source time"]
    labels: tuple[str, ...]
    scores: tuple[Score, ...]
    residual_db: float | None
    compute_seconds: float
    warnings: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Duration of the recording."""
        return len(self.mixture) / self.sample_rate


class SeparationService:
    """Separates recordings of requests, within limits. It stores nothing of a request.

    Args:
        models: The models that requests can use.
        limits: The limits of each request.
    """

    def __init__(self, models: Models, limits: Limits) -> None:
        self.models, self.limits = models, limits

    def separate(self, request: SeparationRequest) -> SeparationResult:
        """Decode the recording, separate it, and score the sources if there are references.

        Args:
            request: The request.

        Returns:
            The sources and their description.

        Raises:
            CannotSeparate: The model can't separate this recording.
            SepnetError: The request can't be used; the message is for the client.
        """
        separator = self.models[request.model]
        pipeline = Pipeline(separator, self._settings(separator, request))
        recording = decode(request.mixture(), limits=self.limits.sound, name="the mixture")
        audio, sample_rate = recording.audio, recording.sample_rate
        references = self._references(request, sample_rate, audio.shape[-1])
        query = self._query(separator, request)
        queries = (
            None if query is None else (Query(torch.from_numpy(query.audio.mean(0)), query.sample_rate),)
        )
        mixture = Mixture(torch.from_numpy(audio), sample_rate, queries=queries)
        begin = time.perf_counter()
        separation = pipeline.separate(mixture)
        compute_seconds = time.perf_counter() - begin
        separation = replace(separation, sources=separation.sources.detach().cpu())
        sources = separation.sources.numpy()
        reservation = pipeline.reservation(audio.shape[-1] / sample_rate)
        separated = audio.mean(axis=0) if request.channels == "mean" else audio[0]
        return SeparationResult(
            model=request.model,
            pipeline=pipeline.describe(),
            sample_rate=sample_rate,
            mixture=separated,
            sources=sources,
            labels=separation.labels or tuple(f"source {k + 1}" for k in range(len(sources))),
            scores=_scores(separation, separated, references, separator.info.needs),
            residual_db=_residual_db(separated, sources),
            compute_seconds=compute_seconds,
            warnings=(
                *(sound.defect for sound in (recording, query) if sound and sound.defect),
                *((f"the mixture: {reservation}",) if reservation else ()),
            ),
        )

    def _settings(self, separator: Separator, request: SeparationRequest) -> PipelineSettings:
        """The settings of the pipeline. Raises SepnetError, before anything is decoded, for a bad request."""
        needs = separator.info.needs
        if request.channels not in CHANNELS:
            raise SepnetError(f"channels is {request.channels[:20]!r}: give {' or '.join(CHANNELS)}")
        n_sources = None
        if "n_sources" in needs:
            if request.n_sources is None:
                raise SepnetError(f"{request.model} needs the number of sources: give n_sources")
            self.limits.check_n_sources(request.n_sources)
            n_sources = request.n_sources
        if "queries" in needs and request.query is None:
            raise SepnetError(f"{request.model} needs an example of the sound to extract: give a query")
        if len(request.references) > self.limits.sources:
            raise SepnetError(
                f"{len(request.references)} references were sent: send {self.limits.sources} at most"
            )
        return PipelineSettings(channels=CHANNELS[request.channels], n_sources=n_sources)

    def _query(self, separator: Separator, request: SeparationRequest) -> DecodedSound | None:
        if "queries" not in separator.info.needs or request.query is None:
            return None
        return decode(request.query(), limits=self.limits.sound, name="the query")

    def _references(
        self, request: SeparationRequest, sample_rate: int, n_samples: int
    ) -> Float[np.ndarray, "source time"] | None:
        """The true sources. Raises SepnetError unless each has the rate and the length of the mixture."""
        references = []
        for number, read in enumerate(request.references, 1):
            name = f"reference {number}"
            sound = decode(read(), limits=self.limits.sound, name=name)
            audio, own_rate = sound.audio, sound.sample_rate
            if (own_rate, audio.shape[-1]) != (sample_rate, n_samples):
                raise SepnetError(
                    f"{name} has {audio.shape[-1]} samples at {own_rate} Hz, but the mixture {n_samples} at "
                    f"{sample_rate} Hz: send references of the same length and sample rate"
                )
            references.append(audio.mean(axis=0))
        return np.stack(references) if references else None


def _scores(
    separation: Separation, mixture: np.ndarray, references: np.ndarray | None, needs: frozenset[str]
) -> tuple[Score, ...]:
    """Scores of each reference, with the outputs in the order that fits best."""
    if references is None:
        return ()
    true = torch.from_numpy(references)
    estimates, order = align(separation, true, needs=needs)
    unprocessed = torch.from_numpy(mixture).expand_as(true)
    columns = si_sdr(estimates, true), si_sdr_improvement(estimates, true, unprocessed), sdr(estimates, true)
    rows = torch.stack(columns, dim=1).tolist()  # (source, measure)
    return tuple(
        Score(k + 1, output + 1, *row) for k, (output, row) in enumerate(zip(order, rows, strict=True))
    )


def _residual_db(mixture: np.ndarray, sources: np.ndarray) -> float | None:
    power = float(np.square(mixture, dtype=np.float64).mean())
    residual = float(np.square(mixture - sources.sum(axis=0), dtype=np.float64).mean())
    return None if power == 0 or residual <= 1e-12 * power else float(10 * np.log10(residual / power))
