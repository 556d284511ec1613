"""What methods with several microphones ask of a mixture."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Complex128, Float, Float64
from torch import Tensor
from torch.nn import functional as F

from sepnet.dsp.ica import rank
from sepnet.separators.checks import require_n_sources
from sepnet.types import CannotSeparate, Mixture

BLOCK_SAMPLES = 1 << 18


def require_channels(mixture: Mixture) -> int:
    """The number of sources, for which there are channels enough.

    Raises CannotSeparate where there are fewer channels than sources, and where so many of them are sums of
    the others (the same microphone twice) that their rank is lower than the number of sources.
    """
    n_sources, n_channels = require_n_sources(mixture), len(mixture.audio)
    if n_channels < n_sources:
        raise CannotSeparate(
            f"needs {n_sources} channels for {n_sources} sources, but the mixture has {n_channels}"
        )
    found = rank(covariance(mixture.audio))
    if found < n_sources and bool(mixture.audio.any()):
        raise CannotSeparate(
            f"the {n_channels} channels have rank {found} (copies or sums of others, or too few "
            f"sources sound), but {n_sources} sources need {n_sources}"
        )
    return n_sources


def covariance(audio: Float[Tensor, "channel time"]) -> Float64[Tensor, "channel channel"]:
    """In float64, a block at a time: a long recording is never converted as a whole."""
    mean = audio.mean(dim=1, keepdim=True, dtype=torch.float64)
    total = torch.zeros(len(audio), len(audio), dtype=torch.float64, device=audio.device)
    for block in _blocks(audio):
        centred = block.double() - mean
        total += centred @ centred.T
    return total / audio.shape[1]


def apply(
    matrix: Float64[Tensor, "source channel"], audio: Float[Tensor, "channel time"]
) -> Float[Tensor, "source time"]:
    """``matrix @ audio`` in float64, a block at a time, as float32."""
    return torch.cat([(matrix @ block.double()).float() for block in _blocks(audio)], dim=1)


def _blocks(audio: Tensor) -> Iterator[Tensor]:
    for start in range(0, audio.shape[1], BLOCK_SAMPLES):
        yield audio[:, start : start + BLOCK_SAMPLES]


def spectrum(
    audio: Float[Tensor, "channel time"], window_samples: int, hop_samples: int
) -> Complex128[Tensor, "channel bin frame"]:
    """As torch.stft in float64 with a Hann window and silence around the signal: frames lie on k hops.

    Only what lies under a frame is converted: a few frames of a long recording take little memory.
    """
    half = window_samples // 2
    frames = F.pad(audio, (half, half)).unfold(1, window_samples, hop_samples)  # (channel, frame, sample)
    window = torch.hann_window(window_samples, dtype=torch.float64, device=audio.device)
    found: Tensor = torch.fft.rfft(frames * window).mT
    return found
