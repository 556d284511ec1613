"""What a mask is a function of: Gaussians, or a value for each cell. Both are optimised the same way.

All parameters are moves away from where the mask started, in units that make one step of Adam, which moves
each by the same amount, a step of the same sort in all: for means half a standard deviation, for log scales
and rotations 0.3, for logits 1.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sepnet.query.descent import MaskParameters, descend
from sepnet.query.gaussians import Gaussians, render
from sepnet.query.pursuit import pursue
from sepnet.types import SepnetError

MEAN_UNIT, SCALE_UNIT, TURN_UNIT = 0.5, 0.3, 0.3
EDGE = 1e-3  # a free value of 0 or 1 has no finite logit: it starts this far inside

Mask = Float[Tensor, "frame mel"]


@runtime_checkable
class ParametersOf(Protocol):
    """Makes the parameters of a mask that starts at ``start``; weights: how much each cell counts."""

    def __call__(self, start: Mask, weights: Mask | None = None) -> MaskParameters: ...


class FreeForm(nn.Module):
    """A value for each cell, through a sigmoid. Raises SepnetError for a start outside of [0, 1]."""

    def __init__(self, start: Mask) -> None:
        super().__init__()
        check_mask(start)
        self.logits = nn.Parameter(torch.logit(start.detach().clamp(EDGE, 1 - EDGE)))

    def render(self) -> Mask:
        """The mask, (frame, mel)."""
        return torch.sigmoid(self.logits)


class GaussianMixture(nn.Module):
    """K Gaussians (``gaussians``) that started as ``start``, over a mask of ``n_frames`` x ``n_mels``."""

    def __init__(self, start: Gaussians, *, n_frames: int, n_mels: int) -> None:
        super().__init__()
        self.n_frames, self.n_mels = n_frames, n_mels
        for name in ("logits", "means", "log_scales", "rotations"):
            self.register_buffer(name, getattr(start, name).detach().clone())
        self.moves = nn.Parameter(torch.zeros(len(start.logits), 6).to(start.means))

    @property
    def gaussians(self) -> Gaussians:
        """Where they are now."""
        logits, means, log_scales, rotations = (
            self.get_buffer(name) for name in ("logits", "means", "log_scales", "rotations")
        )
        return Gaussians(
            logits=logits + self.moves[:, 0],
            means=means + self.moves[:, 1:3] * MEAN_UNIT * log_scales.exp(),
            log_scales=log_scales + self.moves[:, 3:5] * SCALE_UNIT,
            rotations=rotations + self.moves[:, 5] * TURN_UNIT,
        )

    def render(self) -> Mask:
        """The mask, (frame, mel)."""
        return render(self.gaussians, self.n_frames, self.n_mels)


def free_form(start: Mask, weights: Mask | None = None) -> FreeForm:
    """A ``ParametersOf``: a value for each cell, whatever the weights."""
    return FreeForm(start)


def gaussian_mixture(
    start: Mask,
    weights: Mask | None = None,
    *,
    n_gaussians: int = 128,
    fit_steps: int = 30,
    fit_lr: float = 0.28,
) -> GaussianMixture:
    """A ``ParametersOf``: Gaussians found by ``pursue``, fitted to the start by ``fit_steps`` of ``fit``.

    Raises SepnetError for a start outside of [0, 1], or without a Gaussian.
    """
    check_mask(start)
    if n_gaussians < 1:
        raise SepnetError(f"n_gaussians={n_gaussians}: a mask takes at least one")
    found = pursue(start.detach(), n_gaussians, weights)
    mixture = GaussianMixture(found, n_frames=start.shape[0], n_mels=start.shape[1])
    fit(mixture, start, weights, steps=fit_steps, lr=fit_lr)
    return GaussianMixture(mixture.gaussians, n_frames=start.shape[0], n_mels=start.shape[1])


def fit(
    parameters: MaskParameters, wanted: Mask, weights: Mask | None = None, *, steps: int, lr: float
) -> tuple[float, ...]:
    """Adam on the weighted squared error to a mask, the rate falling to zero; the errors before each step."""
    weights = torch.ones_like(wanted) if weights is None else weights / weights.mean().clamp_min(1e-30)

    def error(mask: Mask) -> Tensor:
        return (weights * (mask - wanted).square()).mean()

    return descend(parameters, error, steps=steps, lr=lr)


def check_mask(mask: Mask) -> None:
    """Raises SepnetError for a mask that is empty, or has values outside of [0, 1]."""
    if mask.numel() == 0:
        raise SepnetError(f"the mask is {tuple(mask.shape)}: it holds no cell")
    low, high = mask.min().item(), mask.max().item()
    if not (low >= 0 and high <= 1):  # NaN is neither
        raise SepnetError(f"a mask lies in [0, 1], but this one has values from {low:.3g} to {high:.3g}")
