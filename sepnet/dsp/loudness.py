"""Loudness after ITU-R BS.1770-4."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torchaudio.functional import loudness

BLOCK_SECONDS = 0.4


def integrated_loudness(signal: Float[np.ndarray, "time"], sample_rate: int) -> float:
    """Integrated, gated loudness of one channel, in LUFS; -inf for silence.

    A signal shorter than one block of 400 ms is measured as if it went on repeating.
    """
    samples = torch.as_tensor(np.ascontiguousarray(signal), dtype=torch.float32)
    block = math.ceil(BLOCK_SECONDS * sample_rate) + 1
    if samples.numel() == 0:
        return -math.inf
    if samples.numel() < block:
        samples = samples.repeat(-(-block // samples.numel()))
    level = float(loudness(samples[None], sample_rate))
    return level if math.isfinite(level) else -math.inf
