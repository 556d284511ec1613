"""A separator around a separator, for recordings that are too long for it to hear at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from sepnet.separators.recording.chunks import Chunk, Joiner, plan
from sepnet.separators.recording.stitching import Stitch
from sepnet.types import CannotSeparate, CountingSeparator, Mixture, Separation, Separator

CHUNK_SECONDS = 45.0
OVERLAP_SECONDS = 3.0
QUIET = 1e-4  # an RMS, 80 dB below full scale: what a separator refuses of that is shared alike


@dataclass(frozen=True)
class Part:
    """What a chunk adds to the sources (source, channel, time), and to what mixture (channel, time).

    stitch: how it was joined, None where the order is fixed. state: what the next chunk has to know, for
    ``Joiner.restore``. refused: why the separator did not serve this chunk, whose silence is shared alike.
    """

    chunk: Chunk
    mixture: Tensor
    sources: Tensor
    labels: tuple[str, ...] | None
    stitch: Stitch | None
    state: Mapping[str, Tensor]
    refused: str | None = None


class Chunked:
    """Separates in chunks, and keeps each source apart from the others across them.

    What is no longer than a chunk goes through the separator as it is. Memory is that of a chunk, but for
    the sources themselves; ``separate_in_chunks`` is without them. Raises SepnetError for an overlap of half
    a chunk or more.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        separator: Separator,
        *,
        chunk_seconds: float = CHUNK_SECONDS,
        overlap_seconds: float = OVERLAP_SECONDS,
    ) -> None:
        self.separator, self.chunk_seconds, self.overlap_seconds = separator, chunk_seconds, overlap_seconds
        self.needs = separator.needs  # type: ignore[misc]  # those of the one inside

    def separate(self, mixture: Mixture) -> Separation:
        """As the separator inside, chunk by chunk."""
        n_samples, rate = mixture.audio.shape[-1], mixture.sample_rate
        chunks = list(
            plan(
                n_samples,
                chunk_samples=round(self.chunk_seconds * rate),
                overlap_samples=round(self.overlap_seconds * rate),
            )
        )
        if len(chunks) == 1:
            return self.separator.separate(mixture)
        parts = list(
            separate_in_chunks(self.separator, chunks, lambda chunk: _cut(mixture, chunk), channels=1)
        )
        return Separation(torch.cat([part.sources[:, 0] for part in parts], dim=-1), parts[0].labels)


def separate_in_chunks(
    separator: Separator,
    chunks: Sequence[Chunk],
    read: Callable[[Chunk], Mixture],
    *,
    channels: int,
    joiner: Joiner | None = None,
) -> Iterator[Part]:
    """The sources, part by part: no more is held than a chunk.

    read: the mixture of a chunk. channels: of the images to give, from channel 0 on; each is had by putting
    that channel first. joiner: that of an earlier run, which ``chunks`` then go on from. Raises
    CannotSeparate for a chunk that is not silent.
    """
    for number, chunk in enumerate(chunks):
        mixture = read(chunk)
        n_sources = None if joiner is None else joiner.n_sources
        images, labels, refused = _images_of_chunk(separator, mixture, chunk, channels, n_sources)
        if joiner is None:
            # What is heard at once stays as the separator has it.
            in_order = labels is not None or len(chunks) == 1
            joiner = Joiner(len(images), mixture.sample_rate, in_order=in_order)
        following = chunks[number + 1].start if number + 1 < len(chunks) else None
        added, stitch = joiner.push(chunk, images, following)
        mixed = mixture.audio[:channels, chunk.done - chunk.start : chunk.until - chunk.start]
        yield Part(chunk, mixed, added, labels, stitch, joiner.state(), refused)


def separate_images(
    separator: Separator, mixture: Mixture, channels: int
) -> tuple[Float[Tensor, "source channel time"], tuple[str, ...] | None]:
    """The sources as each of the first ``channels`` channels hears them, and their labels.

    Each channel is put first in its turn. Raises CannotSeparate as the separator does, and where it finds
    other numbers of sources in two channels.
    """
    separations = []
    for channel in range(channels):
        turned = torch.cat([mixture.audio[channel:], mixture.audio[:channel]]) if channel else mixture.audio
        separations.append(separator.separate(replace(mixture, audio=turned)))
    first = separations[0]
    images = [first.sources]
    for number, other in enumerate(separations[1:], start=2):
        if len(other.sources) != len(first.sources):
            raise CannotSeparate(
                f"there are {len(first.sources)} sources in channel 1, but {len(other.sources)} in channel "
                f"{number}: say how many there are (n_sources), or bring them together (channels=mean)"
            )
        errors = (other.sources[:, None] - first.sources).square().mean(dim=-1)  # (other, first)
        # For each source of channel 1 the estimate that is nearest, none taken twice.
        order = linear_sum_assignment(errors.T.double().numpy())[1]
        images.append(other.sources if first.labels is not None else other.sources[order])
    return torch.stack(images, dim=1), first.labels


def count_sources(separator: Separator, mixtures: Iterable[Mixture]) -> int | None:
    """How many sources there are in excerpts of a recording; None where the separator can't count.

    It is the largest number that is found in a third of the excerpts or more: in some not all will sound, and
    a single one may deceive.
    """
    if not isinstance(separator, CountingSeparator):
        return None
    counts = [separator.count(mixture) for mixture in mixtures]
    if not counts or None in counts:
        return None
    found = sorted((count for count in counts if count is not None), reverse=True)
    return found[(len(found) - 1) // 3]


def _images_of_chunk(
    separator: Separator, mixture: Mixture, chunk: Chunk, channels: int, n_sources: int | None
) -> tuple[Tensor, tuple[str, ...] | None, str | None]:
    """Images, labels, and why the separator refused what is silent."""
    try:
        images, labels = separate_images(separator, mixture, channels)
    except CannotSeparate as error:
        rms = float(mixture.audio[:channels].square().mean().sqrt())
        if n_sources is None or rms > QUIET:
            where = f"{chunk.start / mixture.sample_rate:.1f} to {chunk.stop / mixture.sample_rate:.1f} s"
            raise CannotSeparate(f"from {where}: {error}") if n_sources else error from error
        return (mixture.audio[None, :channels] / n_sources).repeat(n_sources, 1, 1), None, str(error)
    if n_sources is not None and len(images) < n_sources and not bool(mixture.audio.any()):
        return images.new_zeros(n_sources, *images.shape[1:]), labels, None
    if n_sources is not None and len(images) != n_sources:
        raise CannotSeparate(
            f"there are {n_sources} sources in the beginning, but {len(images)} from "
            f"{chunk.start / mixture.sample_rate:.1f} s on: say how many there are (n_sources)"
        )
    return images, labels, None


def _cut(mixture: Mixture, chunk: Chunk) -> Mixture:
    references = None if mixture.references is None else mixture.references[:, chunk.start : chunk.stop]
    return replace(mixture, audio=mixture.audio[:, chunk.start : chunk.stop], references=references)
