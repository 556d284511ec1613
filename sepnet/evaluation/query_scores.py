"""What a sound that was pulled out of a mixture is worth, where the true one is known.

All compare signals at one rate and of one length, (time,), full scale 1.0.
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
"""(time,); of which length is checked here, to be told in a sentence."""
WORDS = ((10.0, "excellent"), (5.0, "good"), (0.0, "fair"))
"""SI-SDR in dB above which a word stands."""
WORST = "poor"


@dataclass(frozen=True)
class QueryScores:
    """Of one target; ratios in dB.

    The improvements are those of the target over the mixture: without them a score says nothing, since
    the mixture itself may score well. spectral_convergence is an error: 0 is perfect. cross_correlation: 0
    to 1. energy_ratio_db: of the target over the reference, 0 where the level is right. word: of ``si_sdr``.
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
    word: str


def query_scores(target: Signal, mixture: Signal, reference: Signal) -> QueryScores:
    """All scores of a target.

    Raises SepnetError where the lengths differ, where the reference is silent, and below 512 samples, which
    SDR needs.
    """
    lengths = {"target": len(target), "mixture": len(mixture), "reference": len(reference)}
    if len({*lengths.values()}) > 1:
        told = ", ".join(f"the {name} {length}" for name, length in lengths.items())
        raise SepnetError(
            f"scores compare signals of one length, but in samples {told} long: give the reference as it "
            "lies in the mixture, from its first sample to its last"
        )
    if len(reference) < BSS_EVAL_FILTER_TAPS:
        raise SepnetError(
            f"the signals have {len(reference)} samples, but SDR fits a filter of {BSS_EVAL_FILTER_TAPS}: "
            "give more"
        )
    if bool(is_silent(reference)):
        raise SepnetError("the reference is silent, so there is nothing to score by: give another")
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
        word=word(after[0]),
    )


def word(si_sdr_db: float) -> str:
    """excellent above 10 dB, good above 5, fair above 0, else poor."""
    return next((name for above, name in WORDS if si_sdr_db > above), WORST)


def spectral_convergence(
    estimate: Signal, reference: Signal, *, window_samples: int = 512, hop_samples: int = 256
) -> float:
    """|| |S| - |E| ||_F / || |S| ||_F of the magnitudes: 0 is perfect, and silence scores 1.

    Sturmel and Daudet, "Signal reconstruction from STFT magnitude: a state of the art", DAFx 2011. Raises
    SepnetError for a silent reference.
    """
    stft = STFT(window_samples=window_samples, hop_samples=hop_samples, window="hann")
    ours, theirs = (stft.spectrogram(signal).abs() for signal in (estimate, reference))
    norm = float(torch.linalg.norm(theirs))
    if norm == 0:
        raise SepnetError("the reference is silent, so no spectrum can converge to it: give another")
    return float(torch.linalg.norm(theirs - ours)) / norm


def cross_correlation(estimate: Signal, reference: Signal) -> float:
    """The peak over all lags of |sum_n e[n + lag] s[n]| / (||e|| ||s||), 0 to 1; 0 where either is silent.

    Blind to level, delay and polarity.
    """
    e, s = estimate.double(), reference.double()
    norm = float(torch.linalg.norm(e) * torch.linalg.norm(s))
    if norm == 0:
        return 0.0
    size = len(e) + len(s)  # room for every lag without wrapping around
    lags = torch.fft.irfft(torch.fft.rfft(e, size) * torch.fft.rfft(s, size).conj(), size)
    return min(1.0, float(lags.abs().max()) / norm)


def energy_ratio_db(estimate: Signal, reference: Signal) -> float:
    """The energy of the estimate over that of the reference in dB; silence counts as -200 dBFS."""
    powers = [float(x.double().square().mean()) + ABSOLUTE_FLOOR for x in (estimate, reference)]
    return float(10 * torch.log10(torch.tensor(powers[0] / powers[1], dtype=torch.float64)))
