"""Kaldi's log-mel filter bank, batched and differentiable.

These are the features of Audio Spectrogram Transformers (Y. Gong, Y.-A. Chung, J. Glass, "AST: audio
spectrogram transformer", Interspeech 2021). Frames of 25 ms, one every 10 ms, lie completely inside the
signal. From each the mean is subtracted; it is pre-emphasised (x[n] - 0.97 x[n-1]) and multiplied by a
symmetric Hann window. The powers of an FFT of 512 samples are summed under triangles on the mel scale 1127
ln(1 + f / 700), from 20 Hz to half the sample rate, and their natural logarithm is taken above the epsilon of
float32. The result equals that of torchaudio.compliance.kaldi.fbank with window_type="hanning", which takes
one signal at a time.
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
MIN_HZ = 20.0
POWER_FLOOR = 1.1920928955078125e-07  # epsilon of float32, as in Kaldi


def n_frames(n_samples: int) -> int:
    """How many frames a signal of ``n_samples`` at 16 kHz has."""
    return max(0, 1 + (n_samples - FRAME_SAMPLES) // HOP_SAMPLES)


def min_samples_of(n_frames: int) -> int:
    """How many samples ``n_frames`` frames (1 or more) need at least."""
    return FRAME_SAMPLES + (n_frames - 1) * HOP_SAMPLES


@lru_cache(maxsize=8)
def mel_triangles(n_mels: int) -> Float[Tensor, "bin mel"]:
    """Compute the weight of each of the 257 bins in each band, in float64; that of the last bin is 0."""
    low, high = _mel(torch.tensor([MIN_HZ, SAMPLE_RATE / 2], dtype=torch.float64))
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
    """Compute log-mel powers.

    Args:
        signal: (..., time) at 16 kHz, of at least one frame (25 ms).
        n_mels: Mel bands.

    Returns:
        Natural logarithm of the power of each frame and band.

    Raises:
        SepnetError: The signal is shorter than a frame.
    """
    if signal.shape[-1] < FRAME_SAMPLES:
        raise SepnetError(
            f"the signal has {signal.shape[-1]} samples, but a frame of the filter bank {FRAME_SAMPLES} at "
            f"{SAMPLE_RATE} Hz: give a longer sound"
        )
    frames = signal.unfold(-1, FRAME_SAMPLES, HOP_SAMPLES)  # (*batch, frame, sample)
    frames = frames - frames.mean(dim=-1, keepdim=True)
    previous = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)  # before the first sample: itself
    window = torch.hann_window(FRAME_SAMPLES, periodic=False, dtype=signal.dtype, device=signal.device)
    spectrum = torch.fft.rfft((frames - PREEMPHASIS * previous) * window, n=FFT_SAMPLES)
    powers = spectrum.real.square() + spectrum.imag.square()  # no root: its gradient is infinite at zero
    return torch.log((powers @ mel_triangles(n_mels).to(signal)).clamp_min(POWER_FLOOR))


def _mel(hz: Tensor) -> Tensor:
    return 1127.0 * torch.log(1.0 + hz / 700.0)
