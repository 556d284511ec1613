"""Frame energies: the loss of an estimate whose frames shall have given energies, and its gradient.

A frame x^ of an estimate has the energy E^ = sum_n x^[n]^2. To bring it to a target E:

    L = (E - E^)^2,      dL/dx^ = 2 (E - E^) (-2 x^) = 4 (E^ - E) x^.                            (1)

The gradient (1) points along x^ itself. So a plain descent only ever scales a frame, and its end is
sqrt(E / E^) x^ of the start: an energy tells a gain, and leaves the waveform within the frame, and its
phase, as they were. The same holds for the samples of a frame as for the coefficients of a band.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Frames = Float[Tensor, "*batch frame sample"]
Energies = Float[Tensor, "*batch frame"]


def split(signal: Float[Tensor, "*batch time"], frame_samples: int) -> Frames:
    """Frames side by side; the last one is filled up with zeros."""
    missing = -signal.shape[-1] % frame_samples
    padded = F.pad(signal, (0, missing))
    return padded.reshape(*signal.shape[:-1], -1, frame_samples)


def energy(frames: Frames) -> Energies:
    """The sum of squares of each frame."""
    return frames.square().sum(dim=-1)


def energy_loss(frames: Frames, target: Energies) -> Energies:
    """L of each frame."""
    return (target - energy(frames)).square()


def energy_gradient(frames: Frames, target: Energies) -> Frames:
    """The gradient of L in the samples, equation (1)."""
    return 4 * (energy(frames) - target).unsqueeze(-1) * frames


def centroid(powers: Float[Tensor, "*batch bin"]) -> Float[Tensor, "*batch"]:
    """The mean frequency of a power spectrum, as a share of half the sample rate; 0 for silence."""
    place = torch.linspace(0, 1, powers.shape[-1], device=powers.device, dtype=powers.dtype)
    return (powers * place).sum(dim=-1) / powers.sum(dim=-1).clamp_min(1e-30)
