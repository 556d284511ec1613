"""Frame energies: a loss between the energies of an estimate and target energies, and its gradient.

A frame x^ of an estimate has the energy E^ = sum_n x^[n]^2. Its loss for the target E is

    L = (E - E^)^2,      dL/dx^ = 2 (E - E^) (-2 x^) = 4 (E^ - E) x^.                            (1)

The gradient (1) is parallel to x^ itself. So plain gradient descent can only scale a frame, and converges to
sqrt(E / E^) x^ of the start: an energy determines a gain, but neither the waveform within the frame nor its
phase. The same holds for the samples of a frame and for the coefficients of a band.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Frames = Float[Tensor, "*batch frame sample"]
Energies = Float[Tensor, "*batch frame"]


def split_frames(signal: Float[Tensor, "*batch time"], frame_samples: int) -> Frames:
    """Split a signal into adjacent frames of ``frame_samples``; the last one is filled up with zeros."""
    missing = -signal.shape[-1] % frame_samples
    padded = F.pad(signal, (0, missing))
    return padded.reshape(*signal.shape[:-1], -1, frame_samples)


def frame_energy(frames: Frames) -> Energies:
    """Compute the sum of squares of each frame."""
    return frames.square().sum(dim=-1)


def energy_loss(frames: Frames, target: Energies) -> Energies:
    """Compute the loss L of each frame."""
    return (target - frame_energy(frames)).square()


def energy_gradient(frames: Frames, target: Energies) -> Frames:
    """Compute the gradient (1) of L with respect to the samples."""
    return 4 * (frame_energy(frames) - target).unsqueeze(-1) * frames


def spectral_centroid(powers: Float[Tensor, "*batch bin"]) -> Float[Tensor, "*batch"]:
    """Compute the mean frequency of power spectra, relative to half the sample rate; 0 for silence."""
    frequency = torch.linspace(0, 1, powers.shape[-1], device=powers.device, dtype=powers.dtype)
    return (powers * frequency).sum(dim=-1) / powers.sum(dim=-1).clamp_min(1e-30)
