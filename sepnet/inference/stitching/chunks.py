"""Overlapping chunks of a recording, and the joining of their estimates into one signal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.inference.stitching.stitching import FADE_SECONDS, Stitch, Stitcher
from sepnet.types import SepnetError


@dataclass(frozen=True)
class Chunk:
    """A stretch of a recording.

    Attributes:
        start: Its first sample.
        stop: The sample after its last.
        done: Up to where the chunks before give the output.
        until: Up to where this one does.
        fade: Samples after ``done`` over which the output fades from the chunk before to this one.
    """

    start: int
    stop: int
    done: int
    until: int
    fade: int


def plan_chunks(n_samples: int, *, chunk_samples: int, overlap_samples: int) -> Iterator[Chunk]:
    """Cut a recording into chunks of one length, unless it is shorter.

    Neighbours overlap by ``overlap_samples``, and the last two by more if need be. One fades into the other
    in the middle of the overlap.

    Raises:
        SepnetError: The overlap is not positive, or half a chunk or more.
    """
    if not 0 < 2 * overlap_samples < chunk_samples:
        raise SepnetError(
            f"chunks of {chunk_samples} samples that overlap by {overlap_samples}: the overlap has to be "
            "positive, and less than half of a chunk"
        )
    fade = max(1, overlap_samples // 8)
    start = done = 0
    while True:
        stop = min(start + chunk_samples, n_samples)
        last = stop == n_samples
        following = stop if last else min(stop - overlap_samples, n_samples - chunk_samples)
        until = stop if last else (following + stop - fade) // 2
        yield Chunk(start, stop, done, until, fade if start else 0)
        if last:
            return
        start, done = following, until


class ChunkJoiner:
    """Joins the estimates of chunk after chunk into one signal for each source.

    Args:
        n_sources: How many sources.
        sample_rate: In Hz.
        in_order: Whether the separator gives the sources in a fixed order, so that nothing has to be matched.
    """

    def __init__(self, n_sources: int, sample_rate: int, *, in_order: bool = False) -> None:
        self.n_sources, self.sample_rate = n_sources, sample_rate
        self.stitcher = None if in_order else Stitcher(n_sources, sample_rate)
        self.tail: Tensor | None = None  # (source, channel, time), from the next chunk's start on
        self.tail_start = 0

    def push(
        self, chunk: Chunk, estimates: Float[Tensor, "source channel time"], next_start: int | None
    ) -> tuple[Float[Tensor, "source channel _"], Stitch | None]:
        """Join the next chunk.

        Args:
            chunk: Which stretch it is.
            estimates: Of the whole chunk.
            next_start: The start of the chunk after it; None for the last.

        Returns:
            What it adds to the sources, ``done`` to ``until``, and how its estimates continue those before.
        """
        ordered, stitch = self._ordered(estimates)
        if self.tail is not None and chunk.fade:
            first, length = chunk.done - chunk.start, chunk.fade
            old = self.tail[..., chunk.done - self.tail_start :][..., :length]
            weights = (torch.arange(1, length + 1) / (length + 1)).to(ordered)
            ordered = ordered.clone()
            new = ordered[..., first : first + length]
            ordered[..., first : first + length] = old + weights * (new - old)
        added = ordered[..., chunk.done - chunk.start : chunk.until - chunk.start]
        if next_start is not None:
            self.tail, self.tail_start = ordered[..., next_start - chunk.start :].clone(), next_start
        return added, stitch

    def _ordered(self, estimates: Tensor) -> tuple[Tensor, Stitch | None]:
        if self.stitcher is None:
            return estimates, None
        tail = None if self.tail is None else self.tail.mean(dim=1)
        path, stitch = self.stitcher.push(estimates.mean(dim=1), tail)
        return path.apply(estimates, round(FADE_SECONDS * self.sample_rate)), stitch

    def state(self) -> dict[str, Tensor]:
        """What has to be saved to continue later."""
        kept = {"tail_start": torch.tensor(self.tail_start)}
        if self.tail is not None:
            kept["tail"] = self.tail
        if self.stitcher is not None:
            kept |= self.stitcher.memory.state()
        return kept

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over what another joiner of the same sources saved."""
        self.tail, self.tail_start = state.get("tail"), int(state["tail_start"])
        if self.stitcher is not None:
            self.stitcher.memory.restore(state)
