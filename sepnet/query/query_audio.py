"""The audio of a query: its allowed length, and the part of a long one that is used."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

MIN_QUERY_SECONDS, MAX_QUERY_SECONDS = 0.1, 30.0


def loudest_part(
    audio: Float[Tensor, " time"], seconds: float, sample_rate: int
) -> Float[Tensor, " excerpt"]:
    """Select the section with the largest energy.

    Args:
        audio: (time,).
        seconds: Length of the section.
        sample_rate: In Hz.

    Returns:
        The section; all of the audio if it is not longer.
    """
    n_samples = round(seconds * sample_rate)
    if len(audio) <= n_samples:
        return audio
    energy = torch.cat([torch.zeros(1, dtype=torch.float64), audio.double().square().cumsum(0).cpu()])
    start = int((energy[n_samples:] - energy[:-n_samples]).argmax())
    return audio[start : start + n_samples]
