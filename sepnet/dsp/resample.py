"""Change of the sample rate by a rational factor.

With new_rate / orig_rate = p / q in lowest terms, p - 1 zeros are inserted between the samples of the signal,
a low-pass h that cuts at the lower of the two Nyquist frequencies filters it, and every q-th sample is kept:

    y[m] = sum_n x[n] h[m q - n p],                                                            (1)

where h is scipy's default, a sinc with 10 zero crossings on each side under a Kaiser window of beta 5, which
``scipy.signal.resample_poly`` and therefore LibriMix use. A tone keeps its level to within 0.02 dB up to 0.8
of the lower Nyquist frequency, and is attenuated by 55 dB or more above 1.2 of it (measured).

For tensors (1) is one strided convolution. With m = j p + i, the phase i in [0, p), and n = j q + r,

    y[j p + i] = sum_r x[j q + r] h[i q - r p],                                                (2)

which is a convolution of x with p filters and stride q. Filter i has the taps h[i q - r p], for all r that
any phase needs. (1) and (2) agree to rounding. (2) also holds with a multiple of p phases and the same
multiple of q samples: then the filters have more zeros, but the convolution has fewer and larger steps, which
makes it up to seven times as fast.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import gcd
from typing import TypeVar

import numpy as np
import scipy
import torch
from torch import Tensor

from sepnet.types import Mixture, Query, SepnetError

Signal = TypeVar("Signal", np.ndarray, Tensor)

ZERO_CROSSINGS = 10
KAISER_BETA = 5.0
STEP_SIZE = 48  # phases or samples of a step, approximately
MAX_TAPS = 50_000_000  # 200 MB; rates with a small common divisor may need more


def resample(x: Signal, orig_rate: int, new_rate: int) -> Signal:
    """Resample an array or a tensor along its last axis.

    Args:
        x: (..., time), of a floating point type.
        orig_rate: Its sample rate in Hz.
        new_rate: The sample rate of the result in Hz; where they are equal, ``x`` itself is returned.

    Returns:
        (..., ceil(time * new_rate / orig_rate)), of the same type, and on the same device.

    Raises:
        SepnetError: A rate is not positive, or ``x`` has another type; or it is a tensor that needs
            gradients, and the rates have too small a common divisor.

    Example:
        >>> resample(torch.zeros(2, 44100), 44100, 16000).shape
        torch.Size([2, 16000])
    """
    if orig_rate <= 0 or new_rate <= 0:
        raise SepnetError(f"sample rates have to be positive, but these are {orig_rate} and {new_rate} Hz")
    if not (x.is_floating_point() if isinstance(x, Tensor) else x.dtype.kind == "f") or x.ndim == 0:
        raise SepnetError(f"resampling needs floats (..., time), not {x.dtype} of shape {tuple(x.shape)}")
    common = gcd(orig_rate, new_rate)
    up, down = new_rate // common, orig_rate // common
    if up == down or x.shape[-1] == 0:
        return x
    if not isinstance(x, Tensor):
        return np.asarray(scipy.signal.resample_poly(x, up, down, axis=-1), dtype=x.dtype)
    if up * (2 * ZERO_CROSSINGS * max(up, down) // up + down) > MAX_TAPS and not x.requires_grad:
        resampled = scipy.signal.resample_poly(x.numpy(force=True), up, down, axis=-1)
        return torch.from_numpy(np.asarray(resampled)).to(x)
    return _resample_tensor(x, up, down)


def resample_query(query: Query, sample_rate: int) -> Query:
    """Resample the audio of a query to ``sample_rate`` in Hz."""
    return replace(
        query, audio=resample(query.audio, query.sample_rate, sample_rate), sample_rate=sample_rate
    )


def resample_mixture(mixture: Mixture, sample_rate: int | None) -> Mixture:
    """Resample the audio of a mixture to ``sample_rate`` in Hz (None: its own); its hints are left out."""
    rate = sample_rate or mixture.sample_rate
    return Mixture(resample(mixture.audio, mixture.sample_rate, rate), rate)


@lru_cache(maxsize=8)
def _bank(up: int, down: int, n_phases: int) -> tuple[Tensor, int, int]:
    """The filters of equation (2), (phase, tap) in float64, and how far r reaches back and ahead."""
    half = ZERO_CROSSINGS * max(up, down)
    prototype = scipy.signal.firwin(2 * half + 1, 1 / max(up, down), window=("kaiser", KAISER_BETA)) * up
    back, ahead = half // up, ((n_phases - 1) * down + half) // up
    if n_phases * (back + ahead + 1) > MAX_TAPS:
        raise SepnetError(
            f"a resampler by {up}/{down} has {n_phases * (back + ahead + 1)} taps, more than {MAX_TAPS}: "
            "resample an array instead of a tensor, or choose rates with a larger common divisor"
        )
    reach = np.arange(-back, ahead + 1)
    index = np.arange(n_phases)[:, None] * down - reach * up + half  # (phase, tap), of the prototype
    inside = (index >= 0) & (index <= 2 * half)
    taps = np.where(inside, prototype[index.clip(0, 2 * half)], 0.0)
    return torch.from_numpy(taps), back, ahead


def _resample_tensor(x: Tensor, up: int, down: int) -> Tensor:
    length = -(-x.shape[-1] * up // down)
    periods = max(1, STEP_SIZE // max(up, down))
    taps, back, ahead = _bank(up, down, periods * up)
    up, down = periods * up, periods * down
    steps = -(-length // up)  # of j in (2)
    missing = (steps - 1) * down + ahead + 1 - x.shape[-1]
    signal = x.reshape(-1, 1, x.shape[-1])  # (..., time) -> (item, 1, time)
    signal = torch.nn.functional.pad(signal, (back, max(missing, 0)))
    bank = taps.to(x.device, x.dtype)[:, None]  # (phase, 1, tap)
    out = torch.nn.functional.conv1d(signal, bank, stride=down)[..., :steps]  # (item, phase, step)
    out = out.transpose(1, 2).reshape(*x.shape[:-1], -1)  # -> (..., step * phase)
    return out[..., :length]
