"""The order in which the estimates of a chunk continue those before it, and how certain that is.

Two kinds of evidence favour an order: the estimates agree with those of the chunk before where they overlap,
and they sound like each source has sounded since the beginning. The overlap tells nothing where it is silent,
the timbre little where the sources sound alike; both are measured in the same units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import scipy
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sepnet.inference.stitching.timbre import (
    CORRELATED_FRAMES,
    HOP_SECONDS,
    MIN_FRAME_POWER,
    FrameCepstra,
    TimbreMemory,
    frame_cepstra,
    frames_in,
)
from sepnet.inference.stitching.tracking import (
    MAX_TRACKED_SOURCES,
    best_path,
    change_costs,
    orders_of,
    score_orders,
)

BLOCK_SECONDS = 0.5  # the order is constant in a block
FADE_SECONDS = 0.02  # from one order to the next
PAUSE_POWER = 0.01  # relative to a source's mean; below it, the source pauses
CONFIDENT_NEPERS = 2.0  # per frame: voices that a network separates reach 3 to 5, others 2
MIN_ENERGY = 1e-20


@dataclass(frozen=True)
class Stitch:
    """How the estimates of a chunk continue those before it.

    Attributes:
        order: The estimate of each source at the beginning of the chunk.
        changes: How often the order changes within the chunk.
        confidence: From 0, where nothing favours the order, to 1, where it is certain.
    """

    order: tuple[int, ...]
    changes: int
    confidence: float


@dataclass(frozen=True)
class Path:
    """Which estimate belongs to which source, over the samples of a chunk.

    Attributes:
        orders: The estimate of each source, for each run of samples with one order.
        starts: The first sample of each run.
    """

    orders: Int[Tensor, "run source"]
    starts: tuple[int, ...]

    def apply(self, estimates: Float[Tensor, "source *channel time"], fade: int) -> Tensor:
        """Put estimates into the order of the sources, with a fade of 2 ``fade`` samples between orders."""
        ordered = estimates[self.orders[0]]
        for order, start in zip(self.orders[1:], self.starts[1:], strict=True):
            first, until = max(0, start - fade), start + fade
            following = estimates[order, ..., first:]
            weights = ((torch.arange(first, until) - start) / fade + 0.5).clamp(0, 1).to(estimates)
            before = ordered[..., first:until]
            mixed = before + weights[: before.shape[-1]] * (following[..., : before.shape[-1]] - before)
            ordered[..., first:] = following
            ordered[..., first:until] = mixed
        return ordered

    def reorder(self, cepstra: FrameCepstra, hop_samples: int) -> FrameCepstra:
        """Put the frames of the estimates into the order of the sources."""
        frames = torch.arange(cepstra.cepstra.shape[1])
        starts = torch.tensor(self.starts[1:], dtype=torch.long)
        order = self.orders[torch.bucketize(frames * hop_samples, starts, right=True)].T  # (source, frame)
        return FrameCepstra(cepstra.cepstra[order, frames], cepstra.dominant[order, frames])


class Stitcher:
    """Keeps each source in its place from chunk to chunk, by what it remembers of their timbre.

    Args:
        n_sources: How many sources.
        sample_rate: In Hz.
    """

    def __init__(self, n_sources: int, sample_rate: int) -> None:
        self.n_sources, self.sample_rate = n_sources, sample_rate
        self.memory = TimbreMemory(n_sources)
        self.block_frames = frames_in(BLOCK_SECONDS)

    def push(
        self, estimates: Float[Tensor, "source time"], tail: Float[Tensor, "source overlap"] | None
    ) -> tuple[Path, Stitch]:
        """Find the order of a chunk's estimates, and remember their timbre.

        Args:
            estimates: Of the chunk.
            tail: The sources where the chunk begins, from the chunk before; None for the first chunk.
        """
        if self.n_sources == 1:
            return Path(torch.zeros(1, 1, dtype=torch.long), (0,)), Stitch((0,), 0, 1.0)
        cepstra = frame_cepstra(estimates, self.sample_rate)
        overlap = self._overlap(estimates, tail)
        path = self._path(estimates, cepstra, overlap)
        stitch = Stitch(
            order=tuple(path.orders[0].tolist()),
            changes=len(path.starts) - 1,
            confidence=1.0 if tail is None else self._confidence(path, cepstra, overlap),
        )
        self.memory.add(path.reorder(cepstra, self._hop))
        return path, stitch

    def _overlap(
        self, estimates: Float[Tensor, "source time"], tail: Tensor | None
    ) -> Float[Tensor, "estimate source"]:
        """How well each estimate continues each source; all 0 where the overlap is silent."""
        no_evidence = torch.zeros(self.n_sources, self.n_sources, dtype=torch.float64)
        if tail is None or not tail.shape[-1]:
            return no_evidence
        head = estimates[:, : tail.shape[-1]].double()
        errors = (head.unsqueeze(1) - tail.double()).square().sum(dim=-1)  # (estimate, source)
        hop = self._hop
        frames = tail.sum(dim=0)[: tail.shape[-1] // hop * hop].reshape(-1, hop).square().mean(dim=1)
        audible = frames > MIN_FRAME_POWER * estimates.sum(dim=0).square().mean()
        total = float(errors.sum())
        if total <= MIN_ENERGY or not bool(audible.any()):
            return no_evidence
        return -errors * (self.n_sources / total * float(audible.sum()) / CORRELATED_FRAMES)

    def _path(
        self,
        estimates: Float[Tensor, "source time"],
        cepstra: FrameCepstra,
        overlap: Float[Tensor, "estimate source"],
    ) -> Path:
        """The best path by the memory of earlier chunks, then again with the chunk itself remembered."""
        # The first chunk is its own memory; while the memory is unreliable, the overlap decides.
        memory = self.memory if bool(self.memory.n_frames.any()) else self.memory.extended(cepstra)
        fits = self._in_blocks(memory.log_likelihoods(cepstra))
        costs = change_costs(self._active(estimates, len(fits)))
        first = self._decide(estimates, fits, costs, overlap)
        memory = self.memory.extended(first.reorder(cepstra, self._hop))
        return self._decide(estimates, self._in_blocks(memory.log_likelihoods(cepstra)), costs, overlap)

    def _in_blocks(
        self, frames: Float[Tensor, "frame estimate source"]
    ) -> Float[Tensor, "block estimate source"]:
        """Sums over the frames of each block; the remaining frames go to the last."""
        n_blocks = max(1, len(frames) // self.block_frames)
        sums = torch.zeros(n_blocks, *frames.shape[1:], dtype=frames.dtype)
        number = (torch.arange(len(frames)) // self.block_frames).clamp_max(n_blocks - 1)
        return sums.index_add(0, number, frames)

    def _decide(
        self,
        estimates: Float[Tensor, "source time"],
        fits: Float[Tensor, "block estimate source"],
        costs: Float[Tensor, " block"],
        overlap: Float[Tensor, "estimate source"],
    ) -> Path:
        if self.n_sources > MAX_TRACKED_SOURCES:
            total = fits.sum(dim=0) + overlap
            order = scipy.optimize.linear_sum_assignment(total.T.numpy(), maximize=True)[1]
            return Path(torch.from_numpy(order)[None], (0,))
        orders = orders_of(self.n_sources)
        path = best_path(score_orders(fits, orders), costs, score_orders(overlap, orders))
        changes = (path.diff() != 0).nonzero().flatten() + 1  # blocks
        starts = tuple(self._quietest(estimates, int(block)) for block in changes)
        return Path(orders[path[[0, *changes.tolist()]]], (0, *starts))

    def _active(
        self, estimates: Float[Tensor, "source time"], n_blocks: int
    ) -> Float[Tensor, "source block"]:
        """1 where a source sounds throughout a block, else 0."""
        part = self._block_samples // 5  # 0.1 s: a shorter gap is no pause
        powers = torch.nn.functional.avg_pool1d(estimates.square()[None], part, ceil_mode=True)[0]
        sounding = (powers > PAUSE_POWER * powers.mean(dim=1, keepdim=True)).float()
        sounding = torch.nn.functional.pad(sounding, (0, max(0, 5 * n_blocks - sounding.shape[1])), value=1.0)
        return sounding[:, : 5 * n_blocks].reshape(self.n_sources, n_blocks, 5).amin(dim=2)

    def _quietest(self, estimates: Float[Tensor, "source time"], block: int) -> int:
        """The quietest sample near the beginning of a block, where a change of the order is least audible."""
        middle, reach = block * self._block_samples, self._block_samples // 2
        hop = self._hop
        around = estimates[:, middle - reach : middle + reach].sum(dim=0)
        powers = around[: len(around) // hop * hop].reshape(-1, hop).square().mean(dim=1)
        return middle - reach + int(powers.argmin()) * hop + hop // 2

    @property
    def _block_samples(self) -> int:
        return self.block_frames * self._hop

    @property
    def _hop(self) -> int:
        return max(1, round(HOP_SECONDS * self.sample_rate))

    def _confidence(
        self, path: Path, cepstra: FrameCepstra, overlap: Float[Tensor, "estimate source"]
    ) -> float:
        """How strongly the evidence favours the order over that with two sources exchanged.

        It is measured in nepers per frame, by the memory; while that is unreliable, by the overlap.
        """
        if not bool(cepstra.dominant.any()) or not bool(self.memory.n_frames.any()):
            return 1.0  # silence has no order
        if not self.memory.is_reliable:
            total = float(overlap.abs().sum().clamp_min(MIN_ENERGY))
            return min(1.0, max(0.0, _swap_margin(overlap[path.orders[0]]) / total))
        fits = self._in_blocks(self.memory.log_likelihoods(cepstra))
        middles = (torch.arange(len(fits)) + 0.5) * self._block_samples
        run = torch.bucketize(middles, torch.tensor(path.starts[1:]).to(middles), right=True)
        chosen = fits[torch.arange(len(fits))[:, None], path.orders[run]].sum(dim=0)
        n_frames = float(cepstra.dominant.sum()) * 2 / self.n_sources / CORRELATED_FRAMES
        nepers = max(0.0, _swap_margin(chosen) / max(n_frames, 1.0))
        return 1.0 - math.exp(-((nepers / CONFIDENT_NEPERS) ** 2))


def _swap_margin(scores: Float[Tensor, "source as_source"]) -> float:
    """The smallest loss of score when two sources are exchanged."""
    own = scores.diagonal()
    losses = own[:, None] + own - scores - scores.T
    return float(losses[~torch.eye(len(scores), dtype=torch.bool)].min())
