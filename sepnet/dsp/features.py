"""What networks see of a mixture: at unit level, and as magnitudes on a logarithmic scale.

Coefficients are those of sepnet.dsp.filterbank.STFT: the real parts of all bins, then the imaginary parts.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

SILENT_RMS = 1e-8  # below this a mixture is silence, and is not brought to unit level
LOG_FLOOR = 1e-3  # an amplitude, 60 dB below that of a mixture at unit level


def unit_level(
    signal: Float[Tensor, "batch time"],
) -> tuple[Float[Tensor, "batch time"], Float[Tensor, "batch 1"]]:
    """The signals at unit RMS, and the RMS that they had; silence stays as it is, at level 1."""
    rms = signal.square().mean(dim=-1, keepdim=True).sqrt()
    level = torch.where(rms > SILENT_RMS, rms, torch.ones_like(rms))
    return signal / level, level


def magnitude(coefficients: Float[Tensor, "*batch channel frame"]) -> Float[Tensor, "*batch bin frame"]:
    """Magnitudes of the bins; their gradient is finite at zero."""
    real, imaginary = coefficients.chunk(2, dim=-2)
    return (real.square() + imaginary.square() + 1e-12).sqrt()


def log_magnitude(coefficients: Float[Tensor, "*batch channel frame"]) -> Float[Tensor, "*batch bin frame"]:
    """Their natural logarithm, above a floor."""
    return torch.log(magnitude(coefficients) + LOG_FLOOR)


def running_level(coefficients: Float[Tensor, "batch channel frame"]) -> Float[Tensor, "batch 1 frame"]:
    """The RMS of this and all earlier frames; of silence so far 1.

    Up to a factor: that of ``unit_level`` where windows overlap by half.
    """
    power = coefficients.square().sum(dim=1, keepdim=True)  # (batch, 1, frame)
    frames = torch.arange(1, power.shape[-1] + 1, device=power.device)
    rms = (power.cumsum(dim=-1) / frames / (coefficients.shape[1] // 2 - 1)).sqrt()
    return torch.where(rms > SILENT_RMS, rms, torch.ones_like(rms))
