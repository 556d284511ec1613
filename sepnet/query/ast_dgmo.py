"""Query by example: a tagger finds the sound, and a mask for it is optimised (``model=ast_dgmo``).

    query, mixture -> tagging -> detection -> start -> optimisation with a guard -> target, residual

After "DGMO: training-free audio source separation through diffusion-guided mask optimization" (Lee, Han and
Seo, Interspeech 2025) and AST (Gong et al., Interspeech 2021). Each stage is chosen in the configuration; see
the packages of the same names. The result of all stages is an ``Event`` for each query.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sepnet.dsp.features import unit_level
from sepnet.query.context import QueryContext
from sepnet.query.detection.detector import Detector
from sepnet.query.event import Event
from sepnet.query.mel_masking import MelMasking
from sepnet.query.optimisation.dgmo import DGMO, OptimisedMask
from sepnet.query.optimisation.in_out_scores import embedding_score, spectral_score
from sepnet.query.optimisation.task import InOutScore, OptimisationTask
from sepnet.query.query_audio import MAX_QUERY_SECONDS, MIN_QUERY_SECONDS, loudest_part
from sepnet.query.starts.start import HasEmbedder, HasReference, QueryEmbedder, Start, provides_embedder
from sepnet.query.tagging.tagger import Tagger
from sepnet.ranges import Seconds
from sepnet.separators.checks import require_rate
from sepnet.separators.examples import checked_examples, example_labels
from sepnet.types import Mixture, Query, Separation, SeparatorInfo, SepnetError

TAGGER_RMS = 0.04  # -28 dBFS, the level of the sounds that taggers are trained with
MIN_TARGET_ENERGY_SHARE = 1e-6  # of the mixture's energy, -60 dB: a target with less counts as empty

LossEmbedding = Literal["start", "tagger", "none"]


class AstDgmo(nn.Module):
    """Finds and separates the sound of each query, in channel 0 of a mixture.

    Args:
        tagger: The tagger of stage 1; it is frozen.
        start: Makes the first mask.
        preset: The preset of the detection: ``balanced``, ``selective`` or ``inclusive``.
        detector: Settings of ``Detector`` that replace those of the preset.
        dgmo: The optimisation; None to use the first mask.
        masking: The transform of masks; None for the default one, at the tagger's rate.
        window_seconds: Length of the windows of the mixture that are tagged.
        hop_seconds: Distance between their starts.
        max_query_seconds: Of a longer query, only the loudest section of this length is used.
        min_probability: The detection uses the most probable class of the query, besides the similarity, if
            its probability is at least this.
        loss_embedding: The embedding in which the loss of the optimisation compares target and query: that of
            the ``start``, of the ``tagger``, or ``none``. The guard compares embeddings of the tagger, or
            with ``none`` spectra.
        half_precision: Whether the tagger computes in bfloat16, which is faster for large taggers on machines
            with instructions for it.

    Raises:
        SepnetError: A setting is out of range, or does not fit another one.
    """

    def __init__(
        self,
        *,
        tagger: Tagger,
        start: Start,
        preset: str = "balanced",
        detector: Mapping[str, Any] | None = None,
        dgmo: DGMO | None = DGMO(),  # noqa: B008 (immutable)
        masking: MelMasking | None = None,
        window_seconds: Seconds = 1.0,
        hop_seconds: Seconds = 0.1,
        max_query_seconds: float = 3.0,
        min_probability: float = 0.3,
        loss_embedding: LossEmbedding = "start",
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
        self.max_query_seconds, self.min_probability = max_query_seconds, min_probability
        self.loss_embedding, self.half_precision = loss_embedding, half_precision
        if loss_embedding not in get_args(LossEmbedding):
            raise SepnetError(
                f"loss_embedding={loss_embedding!r} is none of {', '.join(get_args(LossEmbedding))}"
            )
        if dgmo is not None and loss_embedding == "start" and not provides_embedder(start):
            raise SepnetError(
                f"loss_embedding=start, but {type(start).__name__} has no embedding of its own: set "
                "loss_embedding=tagger, or take a start that has one, such as NetworkStart"
            )
        if isinstance(start, nn.Module):
            start.requires_grad_(False)

    @property
    def info(self) -> SeparatorInfo:
        """The description of the separator: it needs an example of each sound."""
        return SeparatorInfo(needs=frozenset({"queries"}), sample_rate=self.sample_rate)

    def separate(self, mixture: Mixture) -> Separation:
        """Separate the target of each query; with a single query also the residual.

        The target is silent if the sound was not detected. But a start that works without detection, such as
        a network, may extract a sound that the tagger does not recognise; then its mask is used.

        Args:
            mixture: A mixture with one or more queries.

        Returns:
            A source for each query; for a single query also the residual.

        Raises:
            CannotSeparate: The mixture has another sample rate than the tagger, or a query cannot be used.
        """
        events = self.find(mixture)
        sources = [event.target for event in events]
        if len(events) == 1:
            sources.append(events[0].residual)
        return Separation(torch.stack(sources), example_labels([event.query for event in events]))

    @torch.no_grad()
    def find(self, mixture: Mixture) -> tuple[Event, ...]:
        """Find the sound of each query.

        Args:
            mixture: A mixture with one or more queries.

        Returns:
            An event for each query.

        Raises:
            CannotSeparate: As ``separate``.
        """
        require_rate(mixture, self.sample_rate, made="the tagger was")
        queries = checked_examples(mixture, min_seconds=MIN_QUERY_SECONDS, max_seconds=MAX_QUERY_SECONDS)
        return tuple(self._find_one(mixture.audio[0], query) for query in queries)

    def _find_one(self, mixture: Float[Tensor, " time"], given_query: Query) -> Event:
        clock: dict[str, float] = {}
        context, class_known = self._tag_and_detect(mixture, given_query, clock)
        with _timed(clock, "start"):
            start_mask = self._start_mask(context)
        optimisation = self._optimise(context, start_mask) if context.detection.found else None
        clock["optimisation"] = 0.0 if optimisation is None else optimisation.seconds
        mask = start_mask if optimisation is None else optimisation.mask
        split = self.masking.split(mixture, mask)
        return Event(
            name=given_query.label or context.query_tags.label,
            query=context.query,
            tags=context.query_tags,
            class_known=class_known,
            detection=context.detection,
            start_mask=start_mask,
            mask=mask,
            mask_linear=self.masking.linear_mask(mask),
            optimisation=optimisation,
            target=split.target,
            residual=split.residual,
            compute_seconds=clock,
        )

    def _tag_and_detect(
        self, mixture: Float[Tensor, " time"], given_query: Query, clock: dict[str, float]
    ) -> tuple[QueryContext, bool]:
        """Stages 1 and 2, and whether the class of the query was used."""
        example = loudest_part(given_query.audio, self.max_query_seconds, given_query.sample_rate)
        signal, query = _at_tagger_level(mixture), replace(given_query, audio=_at_tagger_level(example))
        with _timed(clock, "tagging"), self._precision():
            query_tags = self.tagger.tag_clip(query.audio)
            mixture_tags = self.tagger.tag_track(
                signal, window_seconds=self.window_seconds, hop_seconds=self.hop_seconds
            )
        class_known = query_tags.probability >= self.min_probability
        with _timed(clock, "detection"):
            detection = self.detector.detect(
                mixture_tags,
                query_tags.embedding,
                index=int(query_tags.probabilities.argmax()) if class_known else None,
                seconds=len(signal) / self.sample_rate,
                own_probability=query_tags.probability if class_known else 1.0,
            )
        context = QueryContext(
            mixture=signal,
            mel_powers=self.masking.mel_powers(signal),
            query=query,
            query_tags=query_tags,
            mixture_tags=mixture_tags,
            detection=detection,
            tagger=self.tagger,
            masking=self.masking,
        )
        return context, class_known

    def _start_mask(self, context: QueryContext) -> Float[Tensor, "frame mel"]:
        """Stage 3. The mask is empty where nothing was detected, unless the start works without detection."""
        empty = torch.zeros_like(context.mel_powers)
        if not context.detection.found and self.start.needs_detection:
            return empty
        mask = self.start(context)
        if context.detection.found:
            return mask
        target = self.masking.split(context.mixture, mask).target
        min_energy = MIN_TARGET_ENERGY_SHARE * context.mixture.square().sum()
        return empty if target.square().sum() < min_energy else mask

    def _optimise(
        self, context: QueryContext, start_mask: Float[Tensor, "frame mel"]
    ) -> OptimisedMask | None:
        """Stage 4."""
        if self.dgmo is None:
            return None
        embedder = self._embedder(context)
        task = OptimisationTask(
            mixture=context.mixture,
            start=start_mask,
            masking=self.masking,
            reference=self.start.reference(context) if isinstance(self.start, HasReference) else None,
            embed=None if embedder is None else embedder.embed,
            query=None if embedder is None else embedder.query,
            in_out_score=self._in_out_score(context),
        )
        return self.dgmo.optimise(task)

    def _embedder(self, context: QueryContext) -> QueryEmbedder | None:
        """The embedding of the loss."""
        if self.loss_embedding == "none":
            return None
        if self.loss_embedding == "start":
            assert isinstance(self.start, HasEmbedder)  # checked by the constructor
            return self.start.embedder(context)
        return QueryEmbedder(self._embed_by_tagger, context.query_tags.embedding)

    def _embed_by_tagger(self, windows: Float[Tensor, "window sample"]) -> Float[Tensor, "window embedding"]:
        with self._precision():
            return self.tagger.tag_windows(self.tagger.repeat_to_min_samples(windows)).embeddings

    def _precision(self) -> torch.autocast:
        device = next(self.tagger.parameters()).device.type
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self.half_precision)

    def _in_out_score(self, context: QueryContext) -> InOutScore:
        """The score that the guard compares."""
        if self.loss_embedding == "none":
            return spectral_score(self.masking, context.query.audio)
        return embedding_score(
            context.mixture,
            context.query_tags.embedding,
            self._embed_by_tagger,
            window_samples=round(self.window_seconds * self.sample_rate),
        )


def _at_tagger_level(signal: Float[Tensor, " time"]) -> Float[Tensor, " time"]:
    """The signal at ``TAGGER_RMS``, so that results do not depend on its level."""
    return TAGGER_RMS * unit_level(signal[None])[0][0]


@contextmanager
def _timed(clock: dict[str, float], stage: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    clock[stage] = time.perf_counter() - begin
