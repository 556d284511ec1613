"""In which order the estimates of a chunk continue those before it, and how sure that is.

Two things speak for an order: that the estimates agree with the ones before where the chunks overlap, and
that they sound like what each source has sounded like since the beginning. The first says nothing where the
overlap is silent, the second little where the sources are alike; both count in the same units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from sepnet.inference.stitching.timbre import (
    AUDIBLE,
    CORRELATED,
    HOP_SECONDS,
    Heard,
    TimbreMemory,
    frames_in,
    hear,
)
from sepnet.inference.stitching.tracking import (
    MOST_TRACKED,
    change_costs,
    likeliest_path,
    orders_of,
    score_orders,
)

BLOCK_SECONDS = 0.5  # the order is constant in a block
FADE_SECONDS = 0.02  # from one order to the next
ACTIVE = 0.01  # of a source's mean power: below, it pauses
SURE = 2.0  # nepers a frame: voices that a network keeps apart reach 3 to 5, those that it mixes up 2
TINY = 1e-20  # a power


@dataclass(frozen=True)
class Stitch:
    """order: for each source the estimate that was its at the chunk's beginning; changes: how often that
    changed inside of the chunk; confidence: 0 where nothing speaks for the order, 1 where it is certain."""

    order: tuple[int, ...]
    changes: int
    confidence: float


@dataclass(frozen=True)
class Path:
    """Which estimate is whose: ``orders`` (run, source), each from its sample in ``starts`` on."""

    orders: Int[Tensor, "run source"]
    starts: tuple[int, ...]

    def apply(self, estimates: Float[Tensor, "source *channel time"], fade: int) -> Tensor:
        """The estimates in the order of the sources, with a short fade from one order to the next."""
        ordered = estimates[self.orders[0]]
        for order, start in zip(self.orders[1:], self.starts[1:], strict=True):
            first, until = max(0, start - fade), start + fade
            following = estimates[order, ..., first:]
            begun = ((torch.arange(first, until) - start) / fade + 0.5).clamp(0, 1).to(estimates)
            before = ordered[..., first:until]
            mixed = before + begun[: before.shape[-1]] * (following[..., : before.shape[-1]] - before)
            ordered[..., first:] = following
            ordered[..., first:until] = mixed
        return ordered

    def follow(self, heard: Heard, hop_samples: int) -> Heard:
        """What was heard of the estimates, in the order of the sources."""
        frames = torch.arange(heard.cepstra.shape[1])
        starts = torch.tensor(self.starts[1:], dtype=torch.long)
        order = self.orders[torch.bucketize(frames * hop_samples, starts, right=True)].T  # (source, frame)
        return Heard(heard.cepstra[order, frames], heard.dominant[order, frames])


class Stitcher:
    """Keeps ``n_sources`` apart from chunk to chunk, by what it remembers of each."""

    def __init__(self, n_sources: int, sample_rate: int) -> None:
        self.n_sources, self.sample_rate = n_sources, sample_rate
        self.memory = TimbreMemory(n_sources)
        self.block_frames = frames_in(BLOCK_SECONDS)

    def push(
        self, estimates: Float[Tensor, "source time"], tail: Float[Tensor, "source overlap"] | None
    ) -> tuple[Path, Stitch]:
        """The order of a chunk's estimates. tail: what the sources were where the chunk begins; None: first.

        What the chunk sounds like is remembered.
        """
        if self.n_sources == 1:
            return Path(torch.zeros(1, 1, dtype=torch.long), (0,)), Stitch((0,), 0, 1.0)
        heard = hear(estimates, self.sample_rate)
        overlap = self._overlap(estimates, tail)
        path = self._path(estimates, heard, overlap)
        stitch = Stitch(
            order=tuple(path.orders[0].tolist()),
            changes=len(path.starts) - 1,
            confidence=1.0 if tail is None else self._confidence(path, heard, overlap),
        )
        self.memory.add(path.follow(heard, self._hop))
        return path, stitch

    def _overlap(
        self, estimates: Float[Tensor, "source time"], tail: Tensor | None
    ) -> Float[Tensor, "estimate source"]:
        """How well each estimate continues each source; all 0 where nothing is heard."""
        nothing = torch.zeros(self.n_sources, self.n_sources, dtype=torch.float64)
        if tail is None or not tail.shape[-1]:
            return nothing
        ours = estimates[:, : tail.shape[-1]].double()
        errors = (ours.unsqueeze(1) - tail.double()).square().sum(dim=-1)  # (estimate, source)
        hop = self._hop
        frames = tail.sum(dim=0)[: tail.shape[-1] // hop * hop].reshape(-1, hop).square().mean(dim=1)
        audible = frames > AUDIBLE * estimates.sum(dim=0).square().mean()
        total = float(errors.sum())
        if total <= TINY or not bool(audible.any()):
            return nothing
        return -errors * (self.n_sources / total * float(audible.sum()) / CORRELATED)

    def _path(
        self, estimates: Float[Tensor, "source time"], heard: Heard, overlap: Float[Tensor, "estimate source"]
    ) -> Path:
        """First by the memory of what came before, then with that of the chunk itself."""
        # The first chunk is its own memory; later, while little was heard, the overlap decides at first.
        memory = self.memory if bool(self.memory.count.any()) else self.memory.with_(heard)
        likeness = self._in_blocks(memory.likeness(heard))
        costs = change_costs(self._active(estimates, len(likeness)))
        first = self._decide(estimates, likeness, costs, overlap)
        memory = self.memory.with_(first.follow(heard, self._hop))
        return self._decide(estimates, self._in_blocks(memory.likeness(heard)), costs, overlap)

    def _in_blocks(
        self, likeness: Float[Tensor, "frame estimate source"]
    ) -> Float[Tensor, "block estimate source"]:
        """Sums over the frames of each block; what is left over goes to the last."""
        n_blocks = max(1, len(likeness) // self.block_frames)
        sums = torch.zeros(n_blocks, *likeness.shape[1:], dtype=likeness.dtype)
        number = (torch.arange(len(likeness)) // self.block_frames).clamp_max(n_blocks - 1)
        return sums.index_add(0, number, likeness)

    def _decide(
        self,
        estimates: Float[Tensor, "source time"],
        likeness: Float[Tensor, "block estimate source"],
        costs: Float[Tensor, " block"],
        overlap: Float[Tensor, "estimate source"],
    ) -> Path:
        if self.n_sources > MOST_TRACKED:
            total = likeness.sum(dim=0) + overlap
            found = linear_sum_assignment(total.T.numpy(), maximize=True)[1]
            return Path(torch.from_numpy(found)[None], (0,))
        orders = orders_of(self.n_sources)
        found = likeliest_path(score_orders(likeness, orders), costs, score_orders(overlap, orders))
        changes = (found.diff() != 0).nonzero().flatten() + 1  # blocks
        starts = tuple(self._quietest(estimates, int(block)) for block in changes)
        return Path(orders[found[[0, *changes.tolist()]]], (0, *starts))

    def _active(
        self, estimates: Float[Tensor, "source time"], n_blocks: int
    ) -> Float[Tensor, "source block"]:
        """1 where a source is heard in all of a block, else 0."""
        part = self._block_samples // 5  # 0.1 s: a shorter gap is no pause
        powers = torch.nn.functional.avg_pool1d(estimates.square()[None], part, ceil_mode=True)[0]
        sounding = (powers > ACTIVE * powers.mean(dim=1, keepdim=True)).float()
        sounding = torch.nn.functional.pad(sounding, (0, max(0, 5 * n_blocks - sounding.shape[1])), value=1.0)
        return sounding[:, : 5 * n_blocks].reshape(self.n_sources, n_blocks, 5).amin(dim=2)

    def _quietest(self, estimates: Float[Tensor, "source time"], block: int) -> int:
        """The sample near a block's beginning where a change of the order is heard least."""
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

    def _confidence(self, path: Path, heard: Heard, overlap: Float[Tensor, "estimate source"]) -> float:
        """How much less all that was heard speaks for any two sources having changed places since before.

        That is how much more like what came before than like another each sounds, in nepers of a frame; and
        where nothing came before to go by, how much better the chunks agree where they overlap.
        """
        if not bool(heard.dominant.any()) or not bool(self.memory.count.any()):
            return 1.0  # silence has no places to change
        if not self.memory.knows:
            agreeing = _against_swaps(overlap[path.orders[0]]) / float(overlap.abs().sum().clamp_min(TINY))
            return min(1.0, max(0.0, agreeing))
        likeness = self._in_blocks(self.memory.likeness(heard))
        middles = (torch.arange(len(likeness)) + 0.5) * self._block_samples
        run = torch.bucketize(middles, torch.tensor(path.starts[1:]).to(middles), right=True)
        taken = likeness[torch.arange(len(likeness))[:, None], path.orders[run]].sum(dim=0)
        n_frames = float(heard.dominant.sum()) * 2 / self.n_sources / CORRELATED
        nepers = max(0.0, _against_swaps(taken) / max(n_frames, 1.0))
        return 1.0 - math.exp(-((nepers / SURE) ** 2))


def _against_swaps(scores: Float[Tensor, "source as_source"]) -> float:
    """By how much the sources score better than after the swap of two, the one that loses least."""
    own = scores.diagonal()
    lost = own[:, None] + own - scores - scores.T
    return float(lost[~torch.eye(len(scores), dtype=torch.bool)].min())
