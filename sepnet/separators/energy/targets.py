"""The target energies of the sources: step 1 of sepnet.separators.energy.descent, equation (1)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from sepnet.dsp.adam import adam
from sepnet.separators.energy.signatures import TINY, Signatures, unit_mean

AMPLITUDE_FLOOR = 1e-6  # added to amplitudes of mean 1
ACTIVATION_RATE = 0.3  # the step size of Adam on the logarithms of the activations


def explain(
    amplitudes: Float[Tensor, "window bin"],
    signatures: Signatures,
    windows: Int[Tensor, " window"],
    *,
    trust: float,
    steps: int,
) -> Float[Tensor, "source window bin"]:
    """Fit the signatures to spectra, and return A_s^(2 q) of each source.

    Args:
        amplitudes: Amplitude spectra of the mixture.
        signatures: The sources' signatures.
        windows: The number of each window in the mixture.
        trust: q.
        steps: Steps of Adam.
    """
    shapes = signatures.shapes
    observed = unit_mean(amplitudes) + AMPLITUDE_FLOOR
    allowed = torch.ones(len(amplitudes), len(shapes), device=amplitudes.device)
    if signatures.windows is not None:
        gaps = (windows[:, None] - signatures.windows).abs()
        allowed = gaps.gt(signatures.min_gap_windows).to(allowed)
        allowed = torch.where(allowed.any(dim=1, keepdim=True), allowed, 1.0)

    def gradient(logarithms: Tensor) -> Tensor:
        activations = allowed * logarithms.exp()  # (window, signature)
        return activations * (
            (1 - observed / (activations @ shapes + AMPLITUDE_FLOOR)) @ shapes.T / shapes.shape[1]
        )

    start = torch.full_like(allowed, 1 / len(shapes)).log()
    activations = allowed * adam(start, gradient, steps=steps, lr=ACTIVATION_RATE).exp()
    parts = torch.stack([(activations * share) @ shapes for share in signatures.shares])
    return (parts + AMPLITUDE_FLOOR).pow(2 * trust)


def own_energies(
    amplitudes: Float[Tensor, "source window bin"], *, trust: float
) -> Float[Tensor, "source window bin"]:
    """Return A_s^(2 q) where the spectra of the sources are known, each window relative to all sources."""
    level = amplitudes.sum(dim=0).mean(dim=-1, keepdim=True).clamp_min(TINY)
    return (amplitudes / level).pow(2 * trust)


def target_shares(
    energies: Float[Tensor, "source window bin"], *, look_ahead_frames: int
) -> Float[Tensor, "source window bin"]:
    """Return the shares m_s of (1), with the loudness smoothed over the windows that exist."""
    loudness = energies.sum(dim=-1)  # (source, window)
    loudness = loudness / loudness.sum(dim=0).clamp_min(TINY)
    smooth = F.avg_pool1d(
        loudness[:, None], 2 * look_ahead_frames + 1, 1, look_ahead_frames, count_include_pad=False
    )[:, 0]
    weighted = energies * (smooth / loudness.clamp_min(AMPLITUDE_FLOOR)).unsqueeze(-1)
    total = weighted.sum(dim=0)
    return torch.where(total > 0, weighted / total.clamp_min(TINY), 1 / len(energies))
