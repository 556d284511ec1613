"""From an upload to its sources, in memory: what the page and both APIs do."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from sepnet import inference
from sepnet.data.audio_memory import decode
from sepnet.metrics import align, sdr, si_sdr, si_sdr_improvement
from sepnet.serving.limits import Limits
from sepnet.serving.models import Model, Models
from sepnet.types import Separation, SepnetError

Upload = Callable[[], bytes]
"""A sound file's bytes, fetched when it is its turn: those who wait hold no memory."""
CHANNELS = ("mean", "all")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request. n_sources, query: for models that need them, and ignored by the others. references: the
    true sources, to be scored by. channels: those of the mixture averaged to one (mean), or all kept, for
    methods with several microphones."""

    mixture: Upload
    model: str
    n_sources: int | None = None
    query: Upload | None = None
    references: tuple[Upload, ...] = ()
    channels: str = "mean"


@dataclass(frozen=True)
class Score:
    """One reference, and the output (from 1) that was found to belong to it; all values in dB."""

    reference: int
    output: int
    si_sdr: float
    si_sdri: float
    sdr: float


@dataclass(frozen=True, kw_only=True)
class Result:
    """mixture: (time,), what the sources should sum to. left_over_db: their sum's error, re the mixture;
    None: no more than the rounding of floats, or the mixture is silent."""

    model: str
    sample_rate: int
    mixture: Float[np.ndarray, " time"]
    sources: Float[np.ndarray, "source time"]
    labels: tuple[str, ...]
    scores: tuple[Score, ...]
    left_over_db: float | None
    compute_seconds: float

    @property
    def seconds(self) -> float:
        """The duration."""
        return len(self.mixture) / self.sample_rate


class Service:
    """The models and the limits, and what is done with them; it keeps nothing of a request."""

    def __init__(self, models: Models, limits: Limits) -> None:
        self.models, self.limits = models, limits

    def separate(self, asked: Asked) -> Result:
        """Decode, separate and score. Raises SepnetError for what can't be, in words for whoever asked."""
        model = self.models[asked.model]
        self._check(model, asked)
        sound, rate = decode(asked.mixture(), limits=self.limits.sound, name="the mixture")
        if asked.channels == "mean":
            sound = sound.mean(axis=0, keepdims=True)
        references = self._references(asked, rate, sound.shape[-1])
        needs = model.separator.info.needs
        begin = time.perf_counter()
        separation = inference.separate(
            sound,
            rate,
            model.separator,
            n_sources=asked.n_sources if "n_sources" in needs else None,
            query=self._query(asked) if "queries" in needs else None,
        )
        taken = time.perf_counter() - begin
        sources = separation.sources.detach().cpu()
        return Result(
            model=model.name,
            sample_rate=rate,
            mixture=sound[0],
            sources=sources.numpy(),
            labels=separation.labels or tuple(f"source {k + 1}" for k in range(len(sources))),
            scores=_scores(separation, sound[0], references, needs),
            left_over_db=_left_over_db(sound[0], sources.numpy()),
            compute_seconds=taken,
        )

    def _check(self, model: Model, asked: Asked) -> None:
        """Raises SepnetError for what is missing or too much, before anything is decoded."""
        needs = model.separator.info.needs
        if asked.channels not in CHANNELS:
            raise SepnetError(f"channels is {asked.channels[:20]!r}: say {' or '.join(CHANNELS)}")
        if "n_sources" in needs:
            if asked.n_sources is None:
                raise SepnetError(f"{model.name} has to be told how many sources there are: give n_sources")
            self.limits.check_sources(asked.n_sources)
        if "queries" in needs and asked.query is None:
            raise SepnetError(f"{model.name} takes out what it is given an example of: give a query")
        if len(asked.references) > self.limits.sources:
            raise SepnetError(
                f"{len(asked.references)} references were given, of {self.limits.sources} at the most"
            )

    def _query(self, asked: Asked) -> tuple[np.ndarray, int]:
        assert asked.query is not None  # checked
        sound, rate = decode(asked.query(), limits=self.limits.sound, name="the query")
        return sound.mean(axis=0), rate

    def _references(self, asked: Asked, rate: int, n_samples: int) -> Float[np.ndarray, "source time"] | None:
        """(source, time); SepnetError unless each is as long as the mixture, at its rate."""
        sounds = []
        for number, upload in enumerate(asked.references, 1):
            name = f"reference {number}"
            sound, own = decode(upload(), limits=self.limits.sound, name=name)
            if (own, sound.shape[-1]) != (rate, n_samples):
                raise SepnetError(
                    f"{name} has {sound.shape[-1]} samples at {own} Hz, but the mixture {n_samples} at "
                    f"{rate} Hz: references have its length and its rate"
                )
            sounds.append(sound.mean(axis=0))
        return np.stack(sounds) if sounds else None


def _scores(
    separation: Separation, mixture: np.ndarray, references: np.ndarray | None, needs: frozenset[str]
) -> tuple[Score, ...]:
    """Of each reference, by the outputs' best order."""
    if references is None:
        return ()
    true = torch.from_numpy(references)
    estimates, order = align(separation, true, needs=needs)
    heard = torch.from_numpy(mixture).expand_as(true)
    columns = si_sdr(estimates, true), si_sdr_improvement(estimates, true, heard), sdr(estimates, true)
    values = torch.stack(columns, dim=1).tolist()  # (source, measure)
    return tuple(
        Score(k + 1, output + 1, *row) for k, (output, row) in enumerate(zip(order, values, strict=True))
    )


def _left_over_db(mixture: np.ndarray, sources: np.ndarray) -> float | None:
    """The level of mixture - sum of sources, re the mixture."""
    power = float(np.square(mixture, dtype=np.float64).mean())
    left = float(np.square(mixture - sources.sum(axis=0), dtype=np.float64).mean())
    return None if power == 0 or left <= 1e-12 * power else float(10 * np.log10(left / power))
