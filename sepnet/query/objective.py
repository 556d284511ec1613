"""What DGMO minimises: the weighted sum of the terms of one task, as a function of the mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.query import terms
from sepnet.query.applying import MelMasking, Parted, windows
from sepnet.query.parameters import check_mask
from sepnet.types import SepnetError

Mask = Float[Tensor, "frame mel"]
Embed = Callable[[Float[Tensor, "window sample"]], Float[Tensor, "window embedding"]]
Score = Callable[[Float[Tensor, " time"], Float[Tensor, " time"]], float]
"""Of target and residual: how much more the target is like the query than the residual is."""


@dataclass(frozen=True)
class Task:
    """One mask to optimise.

    mixture: (time,). start: (frame, mel) in [0, 1]. reference: mel powers (frame, mel) that the target should
    have, with reference_weights for its cells. embed: the frozen tagger, of windows of the mixture's rate;
    query, negative: embeddings of what to find and of what to leave. window_weights: which windows of the
    tagger to judge by; None: all alike. score: what the guard goes by.
    """

    mixture: Float[Tensor, " time"]
    start: Mask
    reference: Tensor | None = None
    reference_weights: Tensor | None = None
    embed: Embed | None = None
    query: Float[Tensor, " embedding"] | None = None
    negative: Float[Tensor, " embedding"] | None = None
    window_weights: Float[Tensor, " window"] | None = None
    score: Score | None = None


@dataclass(frozen=True)
class Hearing:
    """What the losses hear of a mask: see DGMO, but lengths are in samples. most_windows None: all."""

    mask_floor: float
    floor_db: float
    window_samples: int
    window_hop: int
    most_windows: int | None


class Objective:
    """The loss of a mask (frame, mel); ``curves`` keeps each weighted term of each call.

    A term is left out where its weight is 0 or the task lacks what it needs. Raises SepnetError where shapes
    don't fit, or the tagger is given without anything to look for.
    """

    def __init__(
        self, task: Task, masking: MelMasking, hearing: Hearing, weights: Mapping[str, float]
    ) -> None:
        check_mask(task.start)
        self.masking, self.hearing, self.weights = masking, hearing, weights
        # Copies: what was made in inference mode can't be part of a graph.
        self.mixture, self.start = task.mixture.detach().clone(), task.start.detach().clone()
        self.observed = masking.checked_spectrogram(self.mixture, self.start)
        self.powers = masking.mel(self.observed)
        self.reference, self.reference_weights = _copy(task.reference), _copy(task.reference_weights)
        for name, cells in (("reference", self.reference), ("reference_weights", self.reference_weights)):
            if cells is not None and cells.shape != self.start.shape:
                raise SepnetError(f"{name} is {tuple(cells.shape)}, but the mask {tuple(self.start.shape)}")
        self.embed, self.query, self.negative = task.embed, _copy(task.query), _copy(task.negative)
        if self.embed is not None and self.query is None and self.negative is None:
            raise SepnetError("a tagger is given, but no embedding of a query: give it, or no tagger")
        self.chosen, self.window_weights = self._windows(task.window_weights)
        self.curves: dict[str, list[float]] = {}

    def __call__(self, mask: Mask) -> Tensor:
        found = {
            name: self.weights[name] * term for name, term in self._terms(mask).items() if self.weights[name]
        }
        for name, value in found.items():
            self.curves.setdefault(name, []).append(value.item())
        # A loss without terms is 0 for every mask, and its slope too.
        return torch.stack(list(found.values())).sum() if found else 0.0 * mask.sum()

    def _terms(self, mask: Mask) -> dict[str, Tensor]:
        hearing = self.hearing
        heard = hearing.mask_floor + (1 - hearing.mask_floor) * mask
        found = {
            "tv": terms.total_variation(mask),
            "sat": terms.saturation(mask),
            "proximity": terms.proximity(mask, self.start),
        }
        if self.reference is not None:
            found["reference"] = terms.reference_distance(
                heard, self.powers, self.reference, self.reference_weights, floor_db=hearing.floor_db
            )
        if self.embed is not None and any(self.weights[name] for name in ("target", "residual", "negative")):
            found |= self._embedded(self.masking.part_spectrogram(self.mixture, self.observed, heard))
        return found

    def _embedded(self, parted: Parted) -> dict[str, Tensor]:
        """Through the tagger: target and residual in one batch."""
        assert self.embed is not None
        pieces = torch.cat([self._cut(signal) for signal in (parted.target, parted.residual)])
        target, residual = self.embed(pieces).chunk(2)  # (window, embedding) each
        weights, found = self.window_weights, {}
        if self.query is not None:
            found["target"] = terms.towards(target, self.query[None], weights)
            found["residual"] = terms.away_from(residual, self.query[None], weights)
        if self.negative is not None:
            found["negative"] = terms.towards(residual, self.negative[None], weights) + terms.away_from(
                target, self.negative[None], weights
            )
        return found

    def _cut(self, signal: Tensor) -> Tensor:
        """The chosen windows, (window, sample)."""
        return windows(signal, self.hearing.window_samples, self.hearing.window_hop)[self.chosen]

    def _windows(self, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """Which windows the tagger hears, in their order, and their weights: the largest, and none of 0."""
        pieces = windows(self.mixture, self.hearing.window_samples, self.hearing.window_hop)
        # By default each counts by its power: of silence no tagger can say anything.
        weights = pieces.square().mean(dim=1) if weights is None else weights.detach().clone()
        if tuple(weights.shape) != (len(pieces),) or bool((weights < 0).any()):
            raise SepnetError(
                f"window_weights are {tuple(weights.shape)}, but the mixture has {len(pieces)} windows, each "
                "with a weight that is not negative"
            )
        most = self.hearing.most_windows or len(pieces)
        chosen = weights.argsort(descending=True, stable=True)[:most].sort().values
        chosen = chosen[weights[chosen] > 0] if bool((weights > 0).any()) else chosen
        return chosen, weights[chosen]


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone()
