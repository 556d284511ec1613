"""Query by example: a tagger finds the sound, a mask starts somewhere and is optimised (``model=ast_dgmo``).

    query, mixture -> tagger -> detection -> start of the mask -> DGMO, with a guard -> target, residual

After "DGMO: training-free audio source separation through diffusion-guided mask optimization" (Lee, Han and
Seo, Interspeech 2025) and AST (Gong et al., Interspeech 2021). Each stage is a choice of the configuration:
see sepnet.query.tagger, detection, starts and dgmo. What was found, how sure, and how the mask
came to be is kept in an ``Event`` for each query.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sepnet.dsp.features import unit_level
from sepnet.query.applying import MelMasking, windows
from sepnet.query.detection import Detector
from sepnet.query.dgmo import DGMO, Optimised
from sepnet.query.event import Event
from sepnet.query.objective import Score, Task
from sepnet.query.queries import MAX_QUERY_SECONDS, MIN_QUERY_SECONDS, loudest_part
from sepnet.query.scene import Ear, Listening, Scene, Start
from sepnet.query.tagger import Tagger
from sepnet.separators.checks import require_rate
from sepnet.separators.examples import checked_examples, example_labels
from sepnet.types import Mixture, Query, Separation, SeparatorInfo, SepnetError

LEVEL_RMS = 0.04  # -28 dBFS
EMPTY = 1e-6  # of the mixture's energy: -60 dB


class AstDgmo(nn.Module):
    """Finds what each query is an example of, in channel 0.

    tagger, start, masking: the stages. preset, detector: of the detection (``Detector.preset``), and numbers
    in the place of the preset's. dgmo: None: the start is the mask. window_seconds and
    hop_seconds: of what the tagger hears of the mixture. longest_query_seconds: of a longer query only the
    loudest part is used. least_probability: of a query's likeliest class, to go by it as well as by
    similarity. embedding_terms: whether the optimisation and its guard hear at all; if not, the guard goes by
    spectra. hear_through: whose embedding the loss goes by, the tagger's, or the start's own, that of a
    network's examples; the guard goes by the tagger's. half_precision: whether the tagger computes in
    bfloat16, for large ones where the machine has instructions for it.
    """

    def __init__(
        self,
        *,
        tagger: Tagger,
        start: Start,
        preset: str = "balanced",
        detector: Mapping[str, Any] | None = None,
        dgmo: DGMO | None = None,
        masking: MelMasking | None = None,
        window_seconds: float = 1.0,
        hop_seconds: float = 0.25,
        longest_query_seconds: float = 3.0,
        least_probability: float = 0.3,
        embedding_terms: bool = True,
        hear_through: Literal["tagger", "start"] = "tagger",
        half_precision: bool = False,
    ) -> None:
        super().__init__()
        self.tagger, self.start = tagger.eval().requires_grad_(False), start
        self.detector, self.dgmo = Detector.preset(preset, **(detector or {})), dgmo
        self.masking = masking or MelMasking()
        self.sample_rate = tagger.sample_rate
        if self.masking.sample_rate != self.sample_rate:
            raise SepnetError(
                f"the masks are for {self.masking.sample_rate} Hz, the tagger for {self.sample_rate} Hz: "
                f"set masking.sample_rate={self.sample_rate}"
            )
        self.window_seconds, self.hop_seconds = window_seconds, hop_seconds
        self.longest_query_seconds, self.least_probability = longest_query_seconds, least_probability
        self.embedding_terms, self.half_precision = embedding_terms, half_precision
        if hear_through not in ("tagger", "start") or (
            hear_through == "start" and not isinstance(start, Listening)
        ):
            raise SepnetError(
                f"hear_through={hear_through} with {type(start).__name__}: take tagger, or a start that has "
                "an embedding of its own, as NetworkStart"
            )
        self.hear_through = hear_through
        if isinstance(start, nn.Module):
            start.requires_grad_(False)

    @property
    def info(self) -> SeparatorInfo:
        """It needs an example of each sound to find."""
        return SeparatorInfo(needs=frozenset({"queries"}), sample_rate=self.sample_rate)

    def separate(self, mixture: Mixture) -> Separation:
        """The target of each query; of a single query also the residual.

        What is not found is silent; but a start that does without the detection, as a network, may hear what
        the tagger misses: then its mask stands as it is.

        Raises CannotSeparate at another sample rate than the tagger's, and for queries that can't be used.
        """
        events = self.find(mixture)
        sources = [event.target for event in events]
        if len(events) == 1:
            sources.append(events[0].residual)
        return Separation(torch.stack(sources), example_labels([event.query for event in events]))

    @torch.no_grad()
    def find(self, mixture: Mixture) -> tuple[Event, ...]:
        """What became of each query. Raises as ``separate``."""
        require_rate(mixture, self.sample_rate, made="the tagger was")
        queries = checked_examples(mixture, min_seconds=MIN_QUERY_SECONDS, max_seconds=MAX_QUERY_SECONDS)
        return tuple(self._event(mixture.audio[0], query) for query in queries)

    def _event(self, mixture: Float[Tensor, " time"], given: Query) -> Event:
        clock: dict[str, float] = {}
        example = loudest_part(given.audio, self.longest_query_seconds, given.sample_rate)
        signal, query = _at_level(mixture), replace(given, audio=_at_level(example))
        with _timed(clock, "tagging"), self._precision():
            heard = self.tagger.hear(query.audio)
            track = self.tagger.track(
                signal, window_seconds=self.window_seconds, hop_seconds=self.hop_seconds
            )
        likeliest = int(heard.probabilities.argmax())
        own = float(heard.probabilities[likeliest])
        known = own >= self.least_probability
        with _timed(clock, "detection"):
            detection = self.detector.detect(
                track,
                heard.embedding,
                index=likeliest if known else None,
                seconds=len(signal) / self.sample_rate,
                own_probability=own if known else 1.0,
            )
        powers = self.masking.powers(signal)
        scene = Scene(signal, powers, query, heard, track, detection, self.tagger, self.masking)
        with _timed(clock, "start"):
            start = self._started(scene)
        optimised = self._optimised(scene, start) if detection.found else None
        clock["optimisation"] = 0.0 if optimised is None else optimised.seconds
        mask = start if optimised is None else optimised.mask
        parted = self.masking.part(mixture, mask)
        name = given.label or heard.label
        return Event(
            name,
            query,
            heard,
            known,
            detection,
            start,
            mask,
            optimised,
            parted.target,
            parted.residual,
            clock,
        )

    def _started(self, scene: Scene) -> Float[Tensor, "frame mel"]:
        """The start of the mask: closed where nothing was found, unless it can do without a detection."""
        silent = torch.zeros_like(scene.powers)
        if not scene.detection.found and getattr(self.start, "needs_detection", True):
            return silent
        start = self.start(scene)
        if scene.detection.found:
            return start
        target = self.masking.part(scene.signal, start).target
        faint = target.square().sum() < EMPTY * scene.signal.square().sum()
        return silent if faint else start

    def _optimised(self, scene: Scene, start: Float[Tensor, "frame mel"]) -> Optimised | None:
        if self.dgmo is None:
            return None
        reference = getattr(self.start, "reference", None)
        ear = self._ear(scene) if self.embedding_terms else None
        task = Task(
            mixture=scene.signal,
            start=start,
            reference=None if reference is None else reference(scene),
            embed=None if ear is None else ear.embed,
            query=None if ear is None else ear.query,
            score=self._heard_score(scene) if self.embedding_terms else self._seen_score(scene),
        )
        return self.dgmo.optimise(task)

    def _ear(self, scene: Scene) -> Ear:
        if self.hear_through == "start":
            assert isinstance(self.start, Listening)  # seen to by the constructor
            return self.start.ear(scene)
        return Ear(self._embed, scene.heard.embedding)

    def _embed(self, pieces: Float[Tensor, "window sample"]) -> Float[Tensor, "window embedding"]:
        """Of windows, repeated where they are shorter than a patch."""
        least, length = self.tagger.shortest_samples, pieces.shape[1]
        if length < least:
            pieces = pieces.repeat(1, -(-least // length))[:, :least]
        with self._precision():
            return self.tagger.tags(pieces).embeddings

    def _precision(self) -> torch.autocast:
        device = next(self.tagger.parameters()).device.type
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self.half_precision)

    def _heard_score(self, scene: Scene) -> Score:
        """The in/out score: how much more the target is like the query than the residual, to the tagger.

        It is a mean over windows, each counting by the power of the mixture in it.
        """
        length = min(round(self.window_seconds * self.sample_rate), len(scene.signal))
        hop = max(1, length // 2)
        weights = windows(scene.signal, length, hop).square().mean(dim=1)
        weights = weights / weights.sum().clamp_min(1e-12)

        def score(target: Tensor, residual: Tensor) -> float:
            pieces = torch.cat([windows(part, length, hop) for part in (target, residual)])
            likeness = functional.cosine_similarity(self._embed(pieces), scene.heard.embedding[None], dim=-1)
            inside, outside = likeness.chunk(2)
            return float((weights * (inside - outside)).sum())

        return score

    def _seen_score(self, scene: Scene) -> Score:
        """The same by the spectra alone, which costs next to nothing: the correlation of log-mel profiles."""

        def profile(signal: Tensor) -> Tensor:
            levels = torch.log10(self.masking.powers(signal).mean(dim=0) + 1e-10)
            return levels - levels.mean()

        query = profile(scene.query.audio)

        def score(target: Tensor, residual: Tensor) -> float:
            inside, outside = (
                functional.cosine_similarity(profile(part), query, dim=0) for part in (target, residual)
            )
            return float(inside - outside)

        return score


def _at_level(signal: Float[Tensor, " time"]) -> Float[Tensor, " time"]:
    """At the level of the sounds that taggers learn from, whatever it was: so all follows the level alike."""
    return LEVEL_RMS * unit_level(signal[None])[0][0]


@contextmanager
def _timed(clock: dict[str, float], stage: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    clock[stage] = time.perf_counter() - begin
