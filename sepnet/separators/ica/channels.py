"""Operations on several channels that the methods for microphone arrays share."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Complex128, Float, Float64
from torch import Tensor
from torch.nn import functional as F

from sepnet.dsp.ica import rank
from sepnet.separators.checks import require_n_sources
from sepnet.types import CannotSeparate, Mixture

BLOCK_SAMPLES = 1 << 18  # that are converted to float64 at once


def require_channels(mixture: Mixture) -> int:
    """Return the number of sources, once there are enough channels for it.

    Raises:
        CannotSeparate: The number is not given; there are fewer channels than sources; or so many channels
            are sums of others (the same microphone twice) that their rank is lower than that number.
    """
    n_sources, n_channels = require_n_sources(mixture), len(mixture.audio)
    if n_channels < n_sources:
        raise CannotSeparate(
            f"needs {n_sources} channels for {n_sources} sources, but the mixture has {n_channels}: "
            "record with more microphones, or take a method for one channel"
        )
    channel_rank = rank(covariance(mixture.audio))
    if channel_rank < n_sources and bool(mixture.audio.any()):
        raise CannotSeparate(
            f"the {n_channels} channels have rank {channel_rank} (copies or sums of others, or too few "
            f"sources sound), but {n_sources} sources need rank {n_sources}: record with separate microphones"
        )
    return n_sources


def covariance(audio: Float[Tensor, "channel time"]) -> Float64[Tensor, "channel channel"]:
    """Compute the covariance of the channels in float64, block by block.

    A long recording is never converted as a whole.
    """
    mean = audio.mean(dim=1, keepdim=True, dtype=torch.float64)
    total = torch.zeros(len(audio), len(audio), dtype=torch.float64, device=audio.device)
    for block in _blocks(audio):
        centred = block.double() - mean
        total += centred @ centred.T
    return total / audio.shape[1]


def apply(
    matrix: Float64[Tensor, "source channel"], audio: Float[Tensor, "channel time"]
) -> Float[Tensor, "source time"]:
    """Compute ``matrix @ audio`` in float64, block by block, and return it in float32."""
    return torch.cat([(matrix @ block.double()).float() for block in _blocks(audio)], dim=1)


def _blocks(audio: Tensor) -> Iterator[Tensor]:
    for start in range(0, audio.shape[1], BLOCK_SAMPLES):
        yield audio[:, start : start + BLOCK_SAMPLES]


def spectrum(
    audio: Float[Tensor, "channel time"], window_samples: int, hop_samples: int
) -> Complex128[Tensor, "channel bin frame"]:
    """Compute torch.stft in float64, with a Hann window and silence around the signal.

    Frames are centred on the multiples of the hop. Only samples under a frame are converted: a few frames of
    a long recording take little memory.
    """
    half = window_samples // 2
    frames = F.pad(audio, (half, half)).unfold(1, window_samples, hop_samples)  # (channel, frame, sample)
    window = torch.hann_window(window_samples, dtype=torch.float64, device=audio.device)
    spectra: Tensor = torch.fft.rfft(frames * window).mT
    return spectra
