"""Perceptual metrics of one signal: PESQ (quality) and STOI, ESTOI (intelligibility).

They are defined on speech of some length. Where a metric is undefined (silence, no utterance found, too
short) it returns ``nan``: leave the source out of the mean and count it. Both signals are scored as a whole,
on the CPU, without gradients.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from sepnet.metrics.intelligibility import intelligibility
from sepnet.metrics.sdr import is_silent
from sepnet.types import SepnetError

UNDEFINED = math.nan
PESQ_MODES = {8000: "nb", 16000: "wb"}  # narrowband: ITU-T P.862; wideband: P.862.2


def pesq(estimate: Float[Tensor, " time"], reference: Float[Tensor, " time"], sample_rate: int) -> float:
    """Compute the perceptual evaluation of speech quality as MOS-LQO.

    It is narrowband (ITU-T P.862, mapped by P.862.1) at 8 kHz, and wideband (P.862.2) at 16 kHz; the two
    scales don't compare.

    Args:
        estimate: The signal to judge.
        reference: The true source.
        sample_rate: 8000 or 16000 Hz.

    Returns:
        About 1 (bad) to 4.55 (8 kHz) or 4.64 (16 kHz); nan (undefined) if either signal is silent, no
        utterance is found, or the signals are shorter than a quarter of a second.

    Raises:
        SepnetError: The rate is another, the shapes differ, samples are not finite, or the optional package
            is missing.
    """
    try:
        import pesq as package
    except ImportError as error:
        raise SepnetError("PESQ needs an optional package: pip install 'sepnet[pesq]'") from error
    if sample_rate not in PESQ_MODES:
        raise SepnetError(
            f"PESQ is defined at 8000 and 16000 Hz, not at {sample_rate} Hz: resample both signals first"
        )
    degraded, clean = _arrays(estimate, reference)
    if _either_silent(estimate, reference):
        return UNDEFINED
    try:
        return float(package.pesq(sample_rate, clean, degraded, PESQ_MODES[sample_rate]))
    except (package.NoUtterancesError, package.BufferTooShortError):
        return UNDEFINED


def stoi(
    estimate: Float[Tensor, " time"],
    reference: Float[Tensor, " time"],
    sample_rate: int,
    extended: bool = False,
) -> float:
    """Compute the short-time objective intelligibility.

    Taal et al., "An algorithm for intelligibility prediction of time-frequency weighted noisy speech",
    IEEE TASLP 19(7), 2011.

    Args:
        estimate: The signal to judge.
        reference: The true source.
        sample_rate: Any rate in Hz; both signals are resampled to 10 kHz.
        extended: Whether to compute ``estoi``.

    Returns:
        At most 1; nan (undefined) if either signal is silent, or fewer than 30 frames (0.4 s) remain without
        the silent ones.

    Raises:
        SepnetError: The shapes differ, or samples are not finite.
    """
    degraded, clean = _arrays(estimate, reference)
    if _either_silent(estimate, reference):
        return UNDEFINED
    return intelligibility(degraded, clean, sample_rate, extended=extended)


def estoi(estimate: Float[Tensor, " time"], reference: Float[Tensor, " time"], sample_rate: int) -> float:
    """Compute extended STOI, at most 1, which is also valid for fluctuating maskers such as another talker.

    Jensen and Taal, "An algorithm for predicting the intelligibility of speech masked by modulated noise
    maskers", IEEE/ACM TASLP 24(11), 2016. Otherwise as ``stoi``.
    """
    return stoi(estimate, reference, sample_rate, extended=True)


def _arrays(estimate: Tensor, reference: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if estimate.ndim != 1 or estimate.shape != reference.shape:
        raise SepnetError(
            f"a perceptual metric compares two signals (time,) of one length, but the estimate is "
            f"{tuple(estimate.shape)} and the reference {tuple(reference.shape)}"
        )
    for name, signal in (("estimate", estimate), ("reference", reference)):
        if not bool(torch.isfinite(signal).all()):
            raise SepnetError(f"the {name} holds samples that are NaN or infinite")
    return estimate.detach().cpu().double().numpy(), reference.detach().cpu().double().numpy()


def _either_silent(estimate: Tensor, reference: Tensor) -> bool:
    return bool(is_silent(estimate)) or bool(is_silent(reference))
