"""Features of mixtures for networks: signals at unit level, and magnitudes.

Coefficients are those of sepnet.dsp.filterbank.STFT: the real parts of all bins, then the imaginary parts.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

SILENT_RMS = 1e-8  # a signal below this level is silence, and is not scaled
LOG_FLOOR = 1e-3  # an amplitude, 60 dB below that of a mixture at unit level


def unit_level(
    signal: Float[Tensor, "batch time"],
) -> tuple[Float[Tensor, "batch time"], Float[Tensor, "batch 1"]]:
    """Scale signals to unit RMS.

    Args:
        signal: (batch, time).

    Returns:
        The scaled signals, and the RMS (batch, 1) that they had. Silence is not scaled, its level is 1.
    """
    rms = signal.square().mean(dim=-1, keepdim=True).sqrt()
    level = torch.where(rms > SILENT_RMS, rms, torch.ones_like(rms))
    return signal / level, level


def magnitude(coefficients: Float[Tensor, "*batch channel frame"]) -> Float[Tensor, "*batch bin frame"]:
    """Compute the magnitude of each bin; its gradient is finite at zero."""
    real, imaginary = coefficients.chunk(2, dim=-2)
    return (real.square() + imaginary.square() + 1e-12).sqrt()


def log_magnitude(coefficients: Float[Tensor, "*batch channel frame"]) -> Float[Tensor, "*batch bin frame"]:
    """Compute the natural logarithm of each magnitude plus ``LOG_FLOOR``."""
    return torch.log(magnitude(coefficients) + LOG_FLOOR)


def running_level(coefficients: Float[Tensor, "batch channel frame"]) -> Float[Tensor, "batch 1 frame"]:
    """Compute the RMS of each frame and all before it; where all are silent, it is 1.

    It is that of ``unit_level`` where windows overlap by half, and proportional to it otherwise.
    """
    power = coefficients.square().sum(dim=1, keepdim=True)  # (batch, 1, frame)
    frames = torch.arange(1, power.shape[-1] + 1, device=power.device)
    rms = (power.cumsum(dim=-1) / frames / (coefficients.shape[1] // 2 - 1)).sqrt()
    return torch.where(rms > SILENT_RMS, rms, torch.ones_like(rms))
