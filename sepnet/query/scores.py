"""Scores of a target that was separated from a mixture, where the true target is known.

All signals have the same rate and length, (time,), with full scale 1.0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.dsp.filterbank import STFT
from sepnet.metrics import is_silent, sdr, si_sdr
from sepnet.metrics.sdr import ABSOLUTE_FLOOR, BSS_EVAL_FILTER_TAPS
from sepnet.types import SepnetError

Signal = Float[Tensor, " _"]
"""(time,); lengths are checked in ``query_scores``, for a clear message."""
RATINGS = ((10.0, "excellent"), (5.0, "good"), (0.0, "fair"))
"""(SI-SDR in dB, rating above it)."""
LOWEST_RATING = "poor"


@dataclass(frozen=True)
class QueryScores:
    """The scores of a target.

    The mixture itself may have high scores, so the improvements are the most informative ones.

    Attributes:
        si_sdr_mixture_db: SI-SDR of the mixture.
        si_sdr_db: SI-SDR of the target.
        si_sdr_improvement_db: SI-SDR of the target minus that of the mixture.
        sdr_mixture_db: SDR of the mixture.
        sdr_db: SDR of the target.
        sdr_improvement_db: SDR of the target minus that of the mixture.
        spectral_convergence: An error; 0 is perfect.
        cross_correlation: 0 to 1; 1 is perfect.
        energy_ratio_db: The energy of the target over that of the reference; 0 if the level is right.
        rating: The SI-SDR, rated in a word.
    """

    si_sdr_mixture_db: float
    si_sdr_db: float
    si_sdr_improvement_db: float
    sdr_mixture_db: float
    sdr_db: float
    sdr_improvement_db: float
    spectral_convergence: float
    cross_correlation: float
    energy_ratio_db: float
    rating: str


def query_scores(target: Signal, mixture: Signal, reference: Signal) -> QueryScores:
    """Score a target.

    Args:
        target: (time,).
        mixture: (time,).
        reference: The true target, (time,).

    Raises:
        SepnetError: The lengths differ, the reference is silent, or there are fewer than 512 samples.
    """
    lengths = {"target": len(target), "mixture": len(mixture), "reference": len(reference)}
    if len({*lengths.values()}) > 1:
        listed = ", ".join(f"the {name} has {length}" for name, length in lengths.items())
        raise SepnetError(
            f"scores compare signals of one length, but in samples {listed}: give the reference as it is in "
            "the mixture, from its first sample to its last"
        )
    if len(reference) < BSS_EVAL_FILTER_TAPS:
        raise SepnetError(
            f"the signals have {len(reference)} samples, but SDR fits a filter of {BSS_EVAL_FILTER_TAPS}: "
            "give more"
        )
    if bool(is_silent(reference)):
        raise SepnetError("the reference is silent, so it cannot be scored by: give another")
    before = [float(metric(mixture.double(), reference.double())) for metric in (si_sdr, sdr)]
    after = [float(metric(target.double(), reference.double())) for metric in (si_sdr, sdr)]
    return QueryScores(
        si_sdr_mixture_db=before[0],
        si_sdr_db=after[0],
        si_sdr_improvement_db=after[0] - before[0],
        sdr_mixture_db=before[1],
        sdr_db=after[1],
        sdr_improvement_db=after[1] - before[1],
        spectral_convergence=spectral_convergence(target, reference),
        cross_correlation=cross_correlation(target, reference),
        energy_ratio_db=energy_ratio_db(target, reference),
        rating=rating(after[0]),
    )


def rating(si_sdr_db: float) -> str:
    """Rate an SI-SDR: excellent above 10 dB, good above 5, fair above 0, else poor."""
    return next((name for above, name in RATINGS if si_sdr_db > above), LOWEST_RATING)


def spectral_convergence(
    estimate: Signal, reference: Signal, *, window_samples: int = 512, hop_samples: int = 256
) -> float:
    """Compute || |S| - |E| ||_F / || |S| ||_F of the magnitude spectrograms.

    Sturmel and Daudet, "Signal reconstruction from STFT magnitude: a state of the art", DAFx 2011.

    Args:
        estimate: (time,).
        reference: (time,).
        window_samples: Length of the window of the STFT (Hann).
        hop_samples: Hop of the STFT.

    Returns:
        0 for a perfect estimate, 1 for a silent one.

    Raises:
        SepnetError: The reference is silent.
    """
    stft = STFT(window_samples=window_samples, hop_samples=hop_samples, window="hann")
    ours, theirs = (stft.spectrogram(signal).abs() for signal in (estimate, reference))
    norm = float(torch.linalg.norm(theirs))
    if norm == 0:
        raise SepnetError("the reference is silent, so it has no spectrum to compare with: give another")
    return float(torch.linalg.norm(theirs - ours)) / norm


def cross_correlation(estimate: Signal, reference: Signal) -> float:
    """Compute the peak over all lags of |sum_n e[n + lag] s[n]| / (||e|| ||s||).

    Level, delay and polarity do not matter.

    Args:
        estimate: (time,).
        reference: (time,).

    Returns:
        0 to 1; 0 if one of them is silent.
    """
    e, s = estimate.double(), reference.double()
    norm = float(torch.linalg.norm(e) * torch.linalg.norm(s))
    if norm == 0:
        return 0.0
    size = len(e) + len(s)  # room for every lag without wrapping around
    lags = torch.fft.irfft(torch.fft.rfft(e, size) * torch.fft.rfft(s, size).conj(), size)
    return min(1.0, float(lags.abs().max()) / norm)


def energy_ratio_db(estimate: Signal, reference: Signal) -> float:
    """Compute the energy of the estimate over that of the reference in dB; silence counts as -200 dBFS."""
    powers = [float(x.double().square().mean()) + ABSOLUTE_FLOOR for x in (estimate, reference)]
    return float(10 * torch.log10(torch.tensor(powers[0] / powers[1], dtype=torch.float64)))
