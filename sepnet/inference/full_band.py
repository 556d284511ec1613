"""The part of the spectrum above a model's band, shared among its estimates.

A model at 8 kHz returns nothing above its edge of 4 kHz. With x the mixture, R the change to the model's rate
and back, and e_k the estimates, the mixture has lost

    lost = x - R x,                                                                            (1)

and each estimate gets its share of it, g_k of every sample n:

    y_k[n] = e_k[n] + g_k[n] lost[n].                                                          (2)

(1) needs no crossover: the low-pass of R is not steep (sepnet.dsp.resample), and what it took away around the
edge is exactly what comes back, so nothing is doubled and nothing is lost. Where the estimates sum to R x and
the shares to 1, (2) sums to x.

(2) is also a filter on the recording's STFT. A frame m of which the source k gets s_k[m], the same for all
bins, adds s_k[m] w[n - m h]^2 lost[n] after windowing with w before and after the transform. The sum over the
frames is (2) with g_k[n] = sum_m w[n - m h]^2 s_k[m], so that neither the transform nor its inverse has to be
computed. w^2 is a Hann window of twice the hop, and the g_k pass from frame to frame along a cosine.

The shares. With E the edge, in each frame: P_k the power of an estimate from E/2 to E (its top octave), U_k
from 3E/4 to E, and V_k from E/4 to E:

    activity    a_k = q_k / (q_k + 0.01),      q_k = P_k / sum_j P_j,
    brightness  b_k = U_k / V_k + 0.03,                                                        (3)
    share       s_k = a_k b_k^2 / sum_j a_j b_j^2.

The remainder R x - sum_k e_k counts as one more source in the sums of (3), whose share no estimate gets.

Why brightness. The obvious rule, shares as the powers in the top octave, gives the band to the loudest voice.
But speech has much above 4 kHz in fricatives, whose spectrum rises towards the edge, and little in vowels,
which are louder below it: the slope tells them apart, the level hardly does. So the level decides only
who is there at all, which a model's leakage of 20 dB and more below the loudest is not.

On 60 mixtures of two of AN4's 24 dev speakers at 16 kHz, separated by pit-2spk-8k (python benchmarks/run.py
what=full_band speech_root=../shared/audio/an4_16k split=dev; seed 0; docs/full-band.md has all rules):

                              SI-SDRi     wide-band PESQ    SNR above 4.2 kHz
    band dropped              6.68 dB     1.55              0.0 dB
    split evenly              7.14 dB     1.42              1.4 dB
    power in the top octave   7.09 dB     1.44              2.0 dB
    the same to the 0.25      7.20 dB     1.46              2.2 dB
    equation (3)              7.33 dB     1.46              2.9 dB
    true shares               7.71 dB     1.61              13.1 dB

Dropping the band has the better PESQ: it charges more for the other voice's hiss than for a missing band. The
constants were chosen on other mixtures of the same speakers, so that this is no test on unseen voices.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.dsp.resample import resample

HOP_SECONDS = 0.032  # windows of 64 ms
HALF_ACTIVE = 0.01  # of the power in the top octave: a source 20 dB below all others together counts half
MIN_BRIGHTNESS = 0.03
BRIGHTNESS_EXPONENT = 2.0
ShareRule = Callable[[Tensor], Tensor]
"""Powers (source, band, frame) in the quarters of the model's band -> shares (source, frame), 1 in total."""


def shares_by_brightness(powers: Float[Tensor, "source band frame"]) -> Float[Tensor, "source frame"]:
    """Equation (3).

    Args:
        powers: In the quarters of the model's band, from the lowest to the one below the edge.

    Returns:
        Shares that sum to 1; zero in a frame of silence.
    """
    top_octave, top_quarter = powers[:, 2:].sum(dim=1), powers[:, 3]
    activity = ratio(top_octave, top_octave.sum(dim=0))
    activity = activity / (activity + HALF_ACTIVE)
    brightness = ratio(top_quarter, powers[:, 1:].sum(dim=1)) + MIN_BRIGHTNESS
    weights = activity * brightness**BRIGHTNESS_EXPONENT
    return ratio(weights, weights.sum(dim=0))


def extend_to_full_band(
    estimates: Float[Tensor, "source time"],
    mixture: Float[Tensor, " time"],
    *,
    sample_rate: int,
    edge_hz: float,
    rule: ShareRule = shares_by_brightness,
    hop_seconds: float = HOP_SECONDS,
) -> Float[Tensor, "source time"]:
    """Give each estimate its share of the mixture above the edge of the model's band.

    Args:
        estimates: Of a model whose rate is 2 ``edge_hz``, at ``sample_rate``, with nothing above the edge.
        mixture: What was separated, at ``sample_rate``.
        sample_rate: In Hz.
        edge_hz: Where the model's band ends, in Hz.
        rule: What makes shares of the powers of the estimates and, last, of the remainder.
        hop_seconds: From frame to frame; a window is twice as long.

    Returns:
        The estimates up to half of ``sample_rate``. They sum to the mixture where ``estimates`` sum to what
        the model was given; else they lack the share of the remainder.

    Example:
        >>> import torch
        >>> mixture = torch.randn(44100)
        >>> extend_to_full_band(torch.zeros(2, 44100), mixture, sample_rate=44100, edge_hz=4000.0).shape
        torch.Size([2, 44100])
    """
    model_rate = round(2 * edge_hz)
    if sample_rate <= model_rate:
        return estimates
    n_samples, hop = mixture.shape[-1], max(1, round(hop_seconds * sample_rate))
    in_band = resample(resample(mixture, sample_rate, model_rate), model_rate, sample_rate)[:n_samples]
    remainder = in_band - estimates.sum(dim=0)
    edge_bin = edge_hz / sample_rate * 2 * hop
    # One signal after the other: a spectrum takes twice the memory of its signal.
    powers = torch.stack([_band_powers(signal, hop, edge_bin) for signal in (*estimates, remainder)])
    shares = rule(powers)[:-1].to(estimates.dtype)
    return torch.addcmul(estimates, _interpolate(shares, hop)[:, :n_samples], mixture - in_band)


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient, and zero where the denominator is not positive."""
    positive = denominator > 0
    return torch.where(positive, numerator / torch.where(positive, denominator, 1.0), 0.0)


def _band_powers(signal: Float[Tensor, " time"], hop: int, edge_bin: float) -> Float[Tensor, "band frame"]:
    """Powers in the quarters of the band, in frames around the multiples of the hop."""
    n_frames = -(-len(signal) // hop) + 1
    padded = torch.nn.functional.pad(signal, (hop, n_frames * hop - len(signal)))
    window = torch.hann_window(2 * hop, dtype=signal.dtype, device=signal.device)
    spectrum = torch.stft(padded, 2 * hop, hop, window=window, center=False, return_complex=True)
    bounds = [math.ceil(edge_bin * quarter / 4) for quarter in range(4)] + [math.floor(edge_bin) + 1]
    bands = [spectrum[low:high] for low, high in pairwise(bounds)]
    # In double precision: the square of a faint signal must not underflow.
    return torch.stack([band.abs().double().square().sum(dim=0) for band in bands])


def _interpolate(shares: Float[Tensor, "source frame"], hop: int) -> Float[Tensor, "source time"]:
    """Shares of samples from those of frames, along a cosine: sum_m w[n - m h]^2 s_k[m]."""
    phase = torch.arange(hop, dtype=shares.dtype, device=shares.device) / hop
    rising = torch.sin(math.pi / 2 * phase).square()
    gains = torch.lerp(shares[:, :-1, None], shares[:, 1:, None], rising)  # (source, frame - 1, hop)
    return gains.flatten(1)
