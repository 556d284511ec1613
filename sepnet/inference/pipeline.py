"""The one road from a recording to its sources, for library, command line, server and evaluator.

    recording -> count -> channels -> chunks -> rate -> separator -> band -> consistency -> join -> sources

count        how many sources there are, where the separator can estimate it and nobody says it
channels     which channels are separated, and how each of them hears the sources (channels.py)
chunks       stretches of the recording that overlap, so that memory does not grow with its length (stitching)
rate         resampled to the separator's rate, and the estimates back (stages.py)
band         what lies above the separator's band is shared among the estimates (full_band.py)
consistency  what the estimates lack of the mixture is shared among them, so that they sum to it
join         each source keeps its place from chunk to chunk (stitching)

Rate, band and consistency work on one chunk of one channel, and so stand inside of channels and chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sepnet.dsp.resample import resample_mixture
from sepnet.inference.channels import (
    Channels,
    n_output_channels,
    select_channels,
    separate_images,
)
from sepnet.inference.stages import Consistent, FullBand, Levelled, Resampled
from sepnet.inference.stitching.chunks import Chunk, ChunkJoiner, plan_chunks
from sepnet.inference.stitching.stitching import Stitch
from sepnet.ranges import Device, Seconds, SourceCount
from sepnet.settings import check_fields
from sepnet.types import (
    CannotSeparate,
    CountingSeparator,
    Mixture,
    Separation,
    Separator,
    SeparatorInfo,
    SepnetError,
    Trainable,
    visible_hints,
)

MIN_NETWORK_SECONDS = 0.5
QUIET_RMS = 1e-4  # 80 dB below full scale: a chunk that is quieter and is refused is shared equally
MAX_EXCERPTS = 9  # of a long recording, in which the number of sources is estimated
ReadMixture = Callable[[int, int], Mixture]
"""(start, stop) in samples -> that stretch of the recording, with its hints."""


@dataclass(frozen=True, kw_only=True)
class PipelineSettings:
    """How a recording is brought to a separator, and its estimates back.

    Attributes:
        channels: Which channels are separated; see ``Channels``.
        chunk_seconds: Longer recordings are separated in chunks of this length.
        overlap_seconds: By which neighbouring chunks overlap.
        full_band: Whether estimates of a model at a lower rate get their share of the band above it.
        consistent: Whether the estimates are made to sum to the mixture; not those of a separator that leaves
            out noise.
        n_sources: How many sources there are, for separators that need it; ``auto``: as many as are found.
        device: Where trained networks compute; all other methods compute on the CPU.

    Raises:
        SepnetError: A value is out of range.
    """

    channels: Channels = "all"
    chunk_seconds: Seconds = 45.0
    overlap_seconds: Seconds = 3.0
    full_band: bool = True
    consistent: bool = True
    n_sources: SourceCount | None = None
    device: Device = "cpu"

    def __post_init__(self) -> None:
        check_fields(self)
        if not 2 * self.overlap_seconds < self.chunk_seconds:
            raise SepnetError(
                f"overlap_seconds is {self.overlap_seconds:g} and chunk_seconds {self.chunk_seconds:g}: "
                "give an overlap shorter than half a chunk"
            )

    def check_device(self) -> None:
        """Raise SepnetError where ``device`` is a GPU, and this machine has none."""
        if self.device == "cuda" and not torch.cuda.is_available():
            raise SepnetError("device=cuda, but PyTorch finds no GPU on this machine: leave device out")


@dataclass(frozen=True)
class ChunkOutput:
    """What one chunk adds to the sources.

    Attributes:
        chunk: Which stretch it was.
        mixture: (channel, time), of the channels that the sources have.
        sources: (source, channel, time), as long as ``mixture``.
        labels: Of the sources; None where their order is arbitrary.
        stitch: How its sources continue those before; None where their order is fixed.
        state: What the next chunk has to know, for ``ChunkJoiner.restore``.
        refusal: Why the separator refused this chunk, whose near silence is shared equally; or None.
    """

    chunk: Chunk
    mixture: Tensor
    sources: Tensor
    labels: tuple[str, ...] | None
    stitch: Stitch | None
    state: Mapping[str, Tensor]
    refusal: str | None = None


class Pipeline:
    """A separator for recordings of any rate, length and number of channels. It is a separator itself.

    Args:
        separator: What separates; see ``sepnet.load``.
        settings: Of the stages around it.

    Raises:
        CannotSeparate: The settings ask for another number of sources than the separator always returns.
        SepnetError: They ask for an estimate of it, but the separator does not count sources.
    """

    def __init__(self, separator: Separator, settings: PipelineSettings | None = None) -> None:
        if not isinstance(separator, Separator) or isinstance(separator, type):
            raise SepnetError(f"{separator!r:.80} is no separator: give one from sepnet.load")
        self.separator, self.settings = separator, settings or PipelineSettings()
        info, wanted = separator.info, self.settings.n_sources
        if isinstance(wanted, int) and info.n_sources not in (None, wanted):
            raise CannotSeparate(
                f"the model was made for {info.n_sources} sources, not {wanted}: leave n_sources out, or "
                "take another model"
            )
        if isinstance(wanted, int) and info.n_sources is None and not _takes_n_sources(info):
            raise SepnetError("the model finds its own number of sources: leave n_sources out")
        if wanted == "auto" and not info.counts_sources:
            raise SepnetError("the model cannot count sources: give their number, n_sources=2")
        staged = separator
        if info.sample_rate is not None:
            resampled = Resampled(separator, sample_rate=info.sample_rate)
            staged = FullBand(resampled) if self.settings.full_band else resampled
        if self.settings.consistent and info.covers_mixture:
            staged = Consistent(staged)
        self._staged = Levelled(staged)

    @property
    def info(self) -> SeparatorInfo:
        """That of the separator inside, at any rate, without a need that the settings serve.

        It hears whole chunks, and so is never live.
        """
        info = self.separator.info
        needs = info.needs if self.settings.n_sources is None else info.needs - {"n_sources"}
        return replace(info, needs=needs, sample_rate=None, latency_seconds=None)

    def place(self) -> None:
        """Move a trained network to its device, before its first mixture or earlier.

        Raises:
            SepnetError: This machine has no such device.
        """
        if self.settings.device == "cuda" and isinstance(self.separator, Trainable):
            self.settings.check_device()
            assert isinstance(self.separator, nn.Module)
            self.separator.to(self.settings.device)

    def describe(self) -> dict[str, Any]:
        """The settings in plain containers, for a record of how results came about."""
        return asdict(self.settings)

    def reservation(self, seconds: float) -> str | None:
        """What is to be expected of a recording that is too short for a network; None: nothing is wrong.

        Args:
            seconds: Its duration.
        """
        if seconds >= MIN_NETWORK_SECONDS or not _has_weights(self.separator):
            return None
        return (
            f"it lasts {seconds:.3g} s, and in less than {MIN_NETWORK_SECONDS:g} s a network hears too "
            "little to tell sources apart"
        )

    def separate(self, mixture: Mixture) -> Separation:
        """Separate a recording in memory.

        Args:
            mixture: Of any rate, at least one channel and one sample.

        Returns:
            Images of the sources at the first channel, with the rate and the length of the mixture.

        Raises:
            CannotSeparate: The separator cannot serve the mixture, or lacks a hint.
            SepnetError: The settings ask for several channels of each source; see ``separate_chunks``.
        """
        n_channels, n_samples = mixture.audio.shape
        if n_output_channels(self.settings.channels, n_channels) > 1:
            raise SepnetError(
                f"channels={self.settings.channels} gives sources of {n_channels} channels, which only files "
                "hold: give all, mean, or a number"
            )

        def read(start: int, stop: int) -> Mixture:
            references = None if mixture.references is None else mixture.references[:, start:stop]
            return replace(mixture, audio=mixture.audio[:, start:stop], references=references)

        sources: list[Tensor] = []
        labels = None
        for output in self.separate_chunks(read, n_samples=n_samples, sample_rate=mixture.sample_rate):
            if not sources:
                labels = output.labels
            sources.append(output.sources[:, 0].clone())  # not a view that keeps the whole chunk
        return Separation(torch.cat(sources, dim=-1), labels)

    def separate_chunks(
        self,
        read: ReadMixture,
        *,
        n_samples: int,
        sample_rate: int,
        n_sources: int | None = None,
        first_chunk: int = 0,
        joiner: ChunkJoiner | None = None,
    ) -> Iterator[ChunkOutput]:
        """Separate a recording chunk by chunk, in the memory of one.

        Args:
            read: Returns a part of the recording, all channels; it is called for one part after the other.
            n_samples: Of the recording.
            sample_rate: Of the recording, in Hz.
            n_sources: The number of sources, where an earlier run has estimated it.
            first_chunk: The chunk to begin with, after those of an earlier run.
            joiner: That of the earlier run.

        Yields:
            What each chunk adds.

        Raises:
            CannotSeparate: The separator refuses a chunk that is not silent, or lacks a hint.
        """
        self.place()
        chunks = self.chunks(n_samples, sample_rate)
        if n_sources is None:
            n_sources = self.n_sources(read, n_samples=n_samples, sample_rate=sample_rate)

        def hinted(chunk: Chunk) -> Mixture:
            mixture = read(chunk.start, chunk.stop)
            return mixture if n_sources is None else replace(mixture, n_sources=n_sources)

        for number in range(first_chunk, len(chunks)):
            following = chunks[number + 1].start if number + 1 < len(chunks) else None
            output, joiner = self._separate_chunk(chunks[number], hinted, joiner, following, len(chunks))
            yield output

    def chunks(self, n_samples: int, sample_rate: int) -> list[Chunk]:
        """The chunks of a recording of so many samples."""
        return list(
            plan_chunks(
                n_samples,
                chunk_samples=round(self.settings.chunk_seconds * sample_rate),
                overlap_samples=round(self.settings.overlap_seconds * sample_rate),
            )
        )

    def n_sources(self, read: ReadMixture, *, n_samples: int, sample_rate: int) -> int | None:
        """The number of sources to tell the separator: as set, or estimated; None: the mixture's own hint."""
        if self.settings.n_sources != "auto":
            return self.settings.n_sources
        chunks = self.chunks(n_samples, sample_rate)
        some = chunks[:: max(1, -(-len(chunks) // MAX_EXCERPTS))]
        return self._estimate(read(chunk.start, chunk.stop) for chunk in some)

    def estimate_n_sources(self, mixture: Mixture) -> int:
        """The number of sources in a recording in memory.

        Raises:
            SepnetError: The separator does not count sources.
        """
        self.place()
        chunks = self.chunks(mixture.audio.shape[-1], mixture.sample_rate)
        some = chunks[:: max(1, -(-len(chunks) // MAX_EXCERPTS))]
        return self._estimate(
            replace(mixture, audio=mixture.audio[:, chunk.start : chunk.stop]) for chunk in some
        )

    def _estimate(self, excerpts: Iterable[Mixture]) -> int:
        """The largest number that is found in a third of the excerpts or more.

        In some not all sources sound, and a single one may deceive.
        """
        separator = self.separator
        if not isinstance(separator, CountingSeparator) or not separator.info.counts_sources:
            raise SepnetError("the model cannot count sources: give their number, n_sources=2")
        counts: list[int] = []
        for excerpt in excerpts:
            selected = select_channels(excerpt, self.settings.channels).only(())
            counts.append(
                separator.estimate_n_sources(resample_mixture(selected, separator.info.sample_rate))
            )
        counts.sort(reverse=True)
        return counts[(len(counts) - 1) // 3]

    def _separate_chunk(
        self,
        chunk: Chunk,
        read: Callable[[Chunk], Mixture],
        joiner: ChunkJoiner | None,
        following: int | None,
        n_chunks: int,
    ) -> tuple[ChunkOutput, ChunkJoiner]:
        mixture = read(chunk)
        mixture = visible_hints(self.separator, select_channels(mixture, self.settings.channels))
        n_channels = n_output_channels(self.settings.channels, len(mixture.audio))
        expected = None if joiner is None else joiner.n_sources
        images, labels, refusal = self._images(chunk, mixture, n_channels, expected)
        if joiner is None:
            # A recording of one chunk has nothing to keep in order.
            in_order = labels is not None or n_chunks == 1
            joiner = ChunkJoiner(len(images), mixture.sample_rate, in_order=in_order)
        added, stitch = joiner.push(chunk, images, following)
        mixed = mixture.audio[:n_channels, chunk.done - chunk.start : chunk.until - chunk.start]
        return ChunkOutput(chunk, mixed, added, labels, stitch, joiner.state(), refusal), joiner

    def _images(
        self, chunk: Chunk, mixture: Mixture, n_channels: int, expected: int | None
    ) -> tuple[Tensor, tuple[str, ...] | None, str | None]:
        """Images (source, channel, time) of a chunk, their labels, and why the separator refused silence.

        expected: how many sources the chunks before have; None: this is the first.
        """
        seconds = f"{chunk.start / mixture.sample_rate:.1f}"
        try:
            images, labels = separate_images(self._staged, mixture, n_channels)
        except CannotSeparate as error:
            rms = float(mixture.audio[:n_channels].square().mean().sqrt())
            if expected is None or rms > QUIET_RMS:
                if expected is None:
                    raise
                where = f"from {seconds} to {chunk.stop / mixture.sample_rate:.1f} s"
                raise CannotSeparate(f"{where}: {error}") from error
            shared = mixture.audio[None, :n_channels] / expected
            return shared.repeat(expected, 1, 1), None, str(error)
        if n_bad := int((~torch.isfinite(images)).sum()):
            raise SepnetError(
                f"from {seconds} to {chunk.stop / mixture.sample_rate:.1f} s the model gives {n_bad} samples "
                f"of {images.numel()} that are NaN or infinite: take another model"
            )
        if expected is not None and len(images) < expected and not bool(mixture.audio.any()):
            return images.new_zeros(expected, *images.shape[1:]), labels, None
        if expected is not None and len(images) != expected:
            raise CannotSeparate(
                f"there are {expected} sources at the beginning, but {len(images)} from {seconds} s on: give "
                "their number (n_sources=2)"
            )
        return images, labels, None


def _has_weights(separator: Separator) -> bool:
    return isinstance(separator, nn.Module) and any(True for _ in separator.parameters())


def _takes_n_sources(info: SeparatorInfo) -> bool:
    return "n_sources" in info.needs or info.counts_sources
