"""The parameters of a mask: a free value for each cell, or a mixture of Gaussians.

The parameters of Gaussians are differences to the Gaussians at the start. Adam changes each parameter by
about the same amount in a step; their units give these steps a similar effect: half a standard deviation for
means, 0.3 for log scales and rotations, 1 for logits.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sepnet.query.optimisation.descent import MaskParameters, descend
from sepnet.query.optimisation.gaussians import Gaussians, render
from sepnet.query.optimisation.matching_pursuit import matching_pursuit
from sepnet.types import SepnetError

MEAN_UNIT, LOG_SCALE_UNIT, ROTATION_UNIT = 0.5, 0.3, 0.3
FREE_MARGIN = 1e-3  # a value of 0 or 1 has no finite logit: free values start at least this far inside

Mask = Float[Tensor, "frame mel"]


@runtime_checkable
class ParameteriseMask(Protocol):
    """A function from a mask to parameters of it."""

    def __call__(self, start: Mask, weights: Mask | None = None) -> MaskParameters:
        """Make parameters whose mask is ``start``, as near as they can be; ``weights`` weight the cells."""
        ...


class FreeForm(nn.Module):
    """A free value for each cell, through a sigmoid.

    Args:
        start: The mask to start from, (frame, mel).

    Raises:
        SepnetError: The mask is empty, or has values outside [0, 1].
    """

    def __init__(self, start: Mask) -> None:
        super().__init__()
        check_mask(start)
        self.logits = nn.Parameter(torch.logit(start.detach().clamp(FREE_MARGIN, 1 - FREE_MARGIN)))

    def render(self) -> Mask:
        """The mask, (frame, mel)."""
        return torch.sigmoid(self.logits)


class GaussianMixture(nn.Module):
    """A mixture of Gaussians (``gaussians``).

    Args:
        start: The Gaussians to start from.
        n_frames: Frames of the mask.
        n_mels: Mel bands of the mask.
    """

    def __init__(self, start: Gaussians, *, n_frames: int, n_mels: int) -> None:
        super().__init__()
        self.n_frames, self.n_mels = n_frames, n_mels
        for name, tensor in vars(start).items():
            self.register_buffer(name, tensor.detach().clone())
        self.moves = nn.Parameter(torch.zeros(len(start.logits), 6).to(start.means))

    @property
    def gaussians(self) -> Gaussians:
        """The Gaussians after their moves."""
        logits, means, log_scales, rotations = (
            self.get_buffer(name) for name in ("logits", "means", "log_scales", "rotations")
        )
        return Gaussians(
            logits=logits + self.moves[:, 0],
            means=means + self.moves[:, 1:3] * MEAN_UNIT * log_scales.exp(),
            log_scales=log_scales + self.moves[:, 3:5] * LOG_SCALE_UNIT,
            rotations=rotations + self.moves[:, 5] * ROTATION_UNIT,
        )

    def render(self) -> Mask:
        """The mask, (frame, mel)."""
        return render(self.gaussians, self.n_frames, self.n_mels)


def free_form(start: Mask, weights: Mask | None = None) -> FreeForm:
    """Parameterise a mask by a free value for each cell; the weights make no difference."""
    return FreeForm(start)


def gaussian_mixture(
    start: Mask,
    weights: Mask | None = None,
    *,
    n_gaussians: int = 128,
    fit_steps: int = 30,
    fit_lr: float = 0.28,
) -> GaussianMixture:
    """Parameterise a mask by Gaussians, which ``matching_pursuit`` places and ``fit_mask`` fits.

    Args:
        start: The mask, (frame, mel).
        weights: Weight of each cell, not negative; None: all are equal.
        n_gaussians: The number of Gaussians.
        fit_steps: The number of steps of the fit.
        fit_lr: The learning rate of the fit.

    Returns:
        The parameters.

    Raises:
        SepnetError: The mask is empty or has values outside [0, 1], or there are no Gaussians.
    """
    check_mask(start)
    if n_gaussians < 1:
        raise SepnetError(f"n_gaussians={n_gaussians} has to be 1 or more")
    gaussians = matching_pursuit(start.detach(), n_gaussians, weights)
    mixture = GaussianMixture(gaussians, n_frames=start.shape[0], n_mels=start.shape[1])
    fit_mask(mixture, start, weights, steps=fit_steps, lr=fit_lr)
    return GaussianMixture(mixture.gaussians, n_frames=start.shape[0], n_mels=start.shape[1])


def fit_mask(
    parameters: MaskParameters, target: Mask, weights: Mask | None = None, *, steps: int, lr: float
) -> tuple[float, ...]:
    """Fit the parameters to a mask in place: Adam on the weighted squared error, the rate falling to zero.

    Args:
        parameters: The parameters; they are changed.
        target: The mask to approach, (frame, mel).
        weights: Weight of each cell, not negative; None: all are equal.
        steps: The number of steps.
        lr: Learning rate.

    Returns:
        The error before each step.
    """
    weights = torch.ones_like(target) if weights is None else weights / weights.mean().clamp_min(1e-30)

    def error(mask: Mask) -> Tensor:
        return (weights * (mask - target).square()).mean()

    return descend(parameters, error, steps=steps, lr=lr)


def check_mask(mask: Mask) -> None:
    """Raise SepnetError for a mask that is empty, or has values outside [0, 1]."""
    if mask.numel() == 0:
        raise SepnetError(f"the mask is {tuple(mask.shape)}, so it has no cells: give at least one")
    low, high = mask.min().item(), mask.max().item()
    if not (low >= 0 and high <= 1):  # NaN is neither
        raise SepnetError(f"a mask lies in [0, 1], but this one has values from {low:.3g} to {high:.3g}")
