"""Kaldi's log-mel filter bank, batched and differentiable.

What Audio Spectrogram Transformers see (Y. Gong, Y.-A. Chung, J. Glass, "AST: audio spectrogram transformer",
Interspeech 2021): frames of 25 ms every 10 ms that lie whole inside the signal, each made free of its mean,
pre-emphasised (x[n] - 0.97 x[n-1]) and put under a symmetric Hann window; 512 bins, powers, triangles on the
mel scale 1127 ln(1 + f / 700) from 20 Hz to half the rate, and the natural logarithm above the smallest
step of float32. Equal to torchaudio.compliance.kaldi.fbank with window_type="hanning", which takes one
signal at a time.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.types import SepnetError

SAMPLE_RATE = 16000
FRAME_SAMPLES, HOP_SAMPLES, FFT_SAMPLES = 400, 160, 512
PREEMPHASIS = 0.97
LOWEST_HZ = 20.0
FLOOR = 1.1920928955078125e-07  # a power: float32's epsilon, as Kaldi has it


def n_frames(n_samples: int) -> int:
    """How many frames lie whole inside so many samples at 16 kHz."""
    return max(0, 1 + (n_samples - FRAME_SAMPLES) // HOP_SAMPLES)


def min_samples_of(n_frames: int) -> int:
    """The fewest samples that hold so many frames (1 or more)."""
    return FRAME_SAMPLES + (n_frames - 1) * HOP_SAMPLES


@lru_cache(maxsize=8)
def mel_triangles(n_mels: int) -> Float[Tensor, "bin mel"]:
    """The weight of each of 257 bins in each band, float64: triangles on the mel scale, 0 at the last bin."""
    low, high = _mel(torch.tensor([LOWEST_HZ, SAMPLE_RATE / 2], dtype=torch.float64))
    edges = low + torch.arange(n_mels + 2, dtype=torch.float64) * (high - low) / (n_mels + 1)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    bins = _mel(torch.arange(FFT_SAMPLES // 2, dtype=torch.float64) * (SAMPLE_RATE / FFT_SAMPLES))[
        :, None
    ]  # (bin, 1)
    slopes = torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre))
    return torch.cat([slopes.clamp_min(0.0), torch.zeros(1, n_mels, dtype=torch.float64)])


def kaldi_fbank(
    signal: Float[Tensor, "*batch time"], *, n_mels: int = 128
) -> Float[Tensor, "*batch frame mel"]:
    """Log-mel powers of signals at 16 kHz; see above. Raises SepnetError for less than one frame (25 ms)."""
    if signal.shape[-1] < FRAME_SAMPLES:
        raise SepnetError(
            f"{signal.shape[-1]} samples are less than one frame of the filter bank, {FRAME_SAMPLES} at "
            f"{SAMPLE_RATE} Hz: give a longer sound"
        )
    frames = signal.unfold(-1, FRAME_SAMPLES, HOP_SAMPLES)  # (*batch, frame, sample)
    frames = frames - frames.mean(dim=-1, keepdim=True)
    before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)  # the first sample has itself before it
    window = torch.hann_window(FRAME_SAMPLES, periodic=False, dtype=signal.dtype, device=signal.device)
    spectrum = torch.fft.rfft((frames - PREEMPHASIS * before) * window, n=FFT_SAMPLES)
    powers = spectrum.real.square() + spectrum.imag.square()  # no root, whose gradient is infinite at zero
    return torch.log((powers @ mel_triangles(n_mels).to(signal)).clamp_min(FLOOR))


def _mel(hz: Tensor) -> Tensor:
    return 1127.0 * torch.log(1.0 + hz / 700.0)
