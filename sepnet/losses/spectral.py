"""Losses on magnitude spectra: plain, and phase-sensitive.

Y is the mixture's spectrum, S a source's, and an estimate is a magnitude: a mask times |Y|.
"""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor


def magnitude_mse(
    estimate_magnitude: Float[Tensor, "*batch bin frame"],
    reference_magnitude: Float[Tensor, "*batch bin frame"],
) -> Float[Tensor, "*batch"]:
    """Compute the mean squared difference of two magnitude spectra over bins and frames."""
    return (estimate_magnitude - reference_magnitude).square().mean(dim=(-2, -1))


def phase_sensitive_target(
    mixture_spec: Complex[Tensor, "*#batch bin frame"],
    reference_spec: Complex[Tensor, "*batch bin frame"],
    *,
    truncate: bool = True,
) -> Float[Tensor, "*batch bin frame"]:
    """Compute |S| cos(theta_S - theta_Y), the part of the source that is in phase with the mixture.

    Of all real multiples of Y's phase it is the nearest to S. Erdogan et al., "Phase-sensitive and
    recognition-boosted speech separation using deep recurrent neural networks", ICASSP 2015.

    Args:
        mixture_spec: Y; it broadcasts: (batch, 1, bin, frame) serves all sources of a batch.
        reference_spec: S.
        truncate: Whether to clip to [0, |Y|], the range of a mask in [0, 1]; otherwise the target may be
            negative or exceed |Y|.

    Returns:
        |Y| times ``sepnet.dsp.masks.phase_sensitive_mask``; zero where Y is zero.
    """
    magnitude = mixture_spec.abs()
    # |S| cos(theta_S - theta_Y) = Re(S conj(Y)) / |Y|, without an arc tangent.
    direction = mixture_spec / magnitude.clamp_min(torch.finfo(magnitude.dtype).tiny)
    target = (reference_spec * direction.conj()).real
    return torch.minimum(target.clamp_min(0.0), magnitude) if truncate else target


def phase_sensitive_mse(
    estimate_magnitude: Float[Tensor, "*batch bin frame"],
    mixture_spec: Complex[Tensor, "*#batch bin frame"],
    reference_spec: Complex[Tensor, "*batch bin frame"],
    *,
    truncate: bool = True,
) -> Float[Tensor, "*batch"]:
    """Compute the mean squared difference to the phase-sensitive target over bins and frames.

    Erdogan et al., ICASSP 2015 (phase-sensitive spectrum approximation); Kolbaek et al., IEEE/ACM TASLP
    25(10), 2017, train it with ``pit``: there, give ``magnitude_mse`` the ``phase_sensitive_target``.
    """
    target = phase_sensitive_target(mixture_spec, reference_spec, truncate=truncate)
    return magnitude_mse(estimate_magnitude, target)
