"""The loss that DGMO minimises: the weighted sum of the terms of one task, as a function of the mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sepnet.query.mel_masking import TargetAndResidual
from sepnet.query.optimisation import loss_terms
from sepnet.query.optimisation.mask_parameters import check_mask
from sepnet.query.optimisation.task import Mask, OptimisationTask
from sepnet.query.windowing import zero_padded_windows
from sepnet.ranges import FrameSamples
from sepnet.types import SepnetError


@dataclass(frozen=True)
class LossConfig:
    """How the terms of the loss are computed: as in ``DGMO``, but with lengths in samples.

    Attributes:
        weights: {name of the term: weight}.
        mask_floor: Lowest value of the mask in the loss.
        floor_db: Floor of log-mel powers, in dB below the loudest cell of the mixture.
        window_samples: Length of the windows that are embedded.
        hop_samples: Distance between their starts.
        max_windows: The number of windows that are embedded, those with the largest weights; None for all.
    """

    weights: Mapping[str, float]
    mask_floor: float
    floor_db: float
    window_samples: FrameSamples
    hop_samples: FrameSamples
    max_windows: int | None


class Objective:
    """The loss as a function of the mask (frame, mel); ``curves`` records each weighted term of each call.

    A term is left out where its weight is 0, or the task lacks what it needs.

    Args:
        task: The mask to start from, and the aims.
        config: Weights and settings of the terms.

    Raises:
        SepnetError: Shapes do not fit together, or the task has an embedder but no embedding to compare with.
    """

    def __init__(self, task: OptimisationTask, config: LossConfig) -> None:
        check_mask(task.start)
        self.masking, self.config = task.masking, config
        # Copies: tensors that were made in inference mode cannot be part of a graph.
        self.mixture, self.start = task.mixture.detach().clone(), task.start.detach().clone()
        self.spectrogram = self.masking.checked_spectrogram(self.mixture, self.start)
        self.powers = self.masking.mel_powers_of(self.spectrogram)
        self.reference, self.reference_weights = _copy(task.reference), _copy(task.reference_weights)
        for name, cells in (("reference", self.reference), ("reference_weights", self.reference_weights)):
            if cells is not None and cells.shape != self.start.shape:
                raise SepnetError(f"{name} is {tuple(cells.shape)}, but the mask {tuple(self.start.shape)}")
        self.embed, self.query, self.negative = task.embed, _copy(task.query), _copy(task.negative)
        if self.embed is not None and self.query is None and self.negative is None:
            raise SepnetError(
                "the task has an embedder, but no embedding of a query: give one, or no embedder"
            )
        self.chosen_windows, self.window_weights = self._choose_windows(task.window_weights)
        self.curves: dict[str, list[float]] = {}

    def __call__(self, mask: Mask) -> Float[Tensor, ""]:
        """Compute the loss of a mask, and record its terms."""
        weights = self.config.weights
        weighted = {name: weights[name] * term for name, term in self._terms(mask).items() if weights[name]}
        for name, value in weighted.items():
            self.curves.setdefault(name, []).append(value.item())
        # A loss without terms is 0 for every mask, and so is its gradient.
        return torch.stack(list(weighted.values())).sum() if weighted else 0.0 * mask.sum()

    def _terms(self, mask: Mask) -> dict[str, Tensor]:
        floor = self.config.mask_floor
        raised = floor + (1 - floor) * mask  # (1) of dgmo
        terms = {
            "tv": loss_terms.total_variation(mask),
            "sat": loss_terms.saturation(mask),
            "proximity": loss_terms.proximity(mask, self.start),
        }
        if self.reference is not None:
            terms["reference"] = loss_terms.reference_distance(
                raised, self.powers, self.reference, self.reference_weights, floor_db=self.config.floor_db
            )
        uses_embeddings = any(self.config.weights[name] for name in ("target", "residual", "negative"))
        if self.embed is not None and uses_embeddings:
            terms |= self._embedding_terms(
                self.masking.split_spectrogram(self.mixture, self.spectrogram, raised)
            )
        return terms

    def _embedding_terms(self, split: TargetAndResidual) -> dict[str, Tensor]:
        """Target and residual are embedded in one batch."""
        assert self.embed is not None
        windows = torch.cat([self._windows(signal) for signal in (split.target, split.residual)])
        target, residual = self.embed(windows).chunk(2)  # (window, embedding) each
        weights, terms = self.window_weights, {}
        if self.query is not None:
            query = self.query[None]
            terms["target"] = loss_terms.dissimilarity(target, query, weights)
            terms["residual"] = loss_terms.similarity(residual, query, weights)
        if self.negative is not None:
            negative = self.negative[None]
            terms["negative"] = loss_terms.dissimilarity(residual, negative, weights) + loss_terms.similarity(
                target, negative, weights
            )
        return terms

    def _windows(self, signal: Tensor) -> Float[Tensor, "window sample"]:
        """The chosen windows of a signal."""
        config = self.config
        return zero_padded_windows(signal, config.window_samples, config.hop_samples)[self.chosen_windows]

    def _choose_windows(
        self, weights: Tensor | None
    ) -> tuple[Int[Tensor, " window"], Float[Tensor, " window"]]:
        """Which windows are embedded, in order of time, and their weights: the largest, and none of 0."""
        windows = zero_padded_windows(self.mixture, self.config.window_samples, self.config.hop_samples)
        # By default the power: of silence an embedder cannot say anything.
        weights = windows.square().mean(dim=1) if weights is None else weights.detach().clone()
        if tuple(weights.shape) != (len(windows),) or bool((weights < 0).any()):
            raise SepnetError(
                f"window_weights are {tuple(weights.shape)}, but the mixture has {len(windows)} windows: "
                "give each a weight that is not negative"
            )
        max_windows = self.config.max_windows or len(windows)
        chosen = weights.argsort(descending=True, stable=True)[:max_windows].sort().values
        chosen = chosen[weights[chosen] > 0] if bool((weights > 0).any()) else chosen
        return chosen, weights[chosen]


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone()
