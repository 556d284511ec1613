"""The measures of an evaluation, and their cost.

Time for both sources of a mixture of 4 s at 8 kHz (at 16 kHz), on one thread of a shared server core: PESQ
80 (190) ms, ESTOI and STOI 15 each, SDR 25, the other ratios under 1 ms; an eighth of a second for all.
DNSMOS takes 2 s and has to be chosen.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from sepnet.dsp.resample import resample
from sepnet.metrics import (
    Metric,
    dnsmos,
    estoi,
    pesq,
    sd_sdr,
    sdr,
    si_sdr,
    snr,
    stoi,
)
from sepnet.metrics.opinion import REQUIRED, SAMPLE_RATE
from sepnet.types import SepnetError

DEFAULT_MEASURES = ("si_sdr", "sdr", "snr", "pesq", "stoi", "estoi")
Measure = Callable[[Tensor, Tensor, int], list[float]]
"""Computes a value for each source from estimates and references, each (source, time), and the rate in Hz."""


def _batched(metric: Metric) -> Measure:
    return lambda estimates, references, sample_rate: metric(estimates, references).tolist()


def _one_by_one(metric: Callable[[Tensor, Tensor, int], float]) -> Measure:
    def measure(estimates: Tensor, references: Tensor, sample_rate: int) -> list[float]:
        pairs = zip(estimates, references, strict=True)
        return [metric(estimate, reference, sample_rate) for estimate, reference in pairs]

    return measure


def _opinion(kind: Literal["speech", "background", "overall"]) -> Measure:
    """DNSMOS of the estimates, without the references."""

    def measure(estimates: Tensor, references: Tensor, sample_rate: int) -> list[float]:
        signals = resample(estimates, sample_rate, SAMPLE_RATE)
        return [getattr(dnsmos(signal, SAMPLE_RATE), kind) for signal in signals]

    return measure


MEASURES: dict[str, Measure] = {
    "si_sdr": _batched(si_sdr),
    "sd_sdr": _batched(sd_sdr),
    "sdr": _batched(sdr),
    "snr": _batched(snr),
    "pesq": _one_by_one(pesq),
    "stoi": _one_by_one(stoi),
    "estoi": _one_by_one(estoi),
    "dnsmos": _opinion("overall"),
    "dnsmos_speech": _opinion("speech"),
    "dnsmos_background": _opinion("background"),
}
PACKAGES = {"pesq": ("pesq",), **{name: REQUIRED for name in MEASURES if name.startswith("dnsmos")}}
EXTRAS = {"pesq": "pesq", "speechmos": "mos", "onnxruntime": "mos"}


def available_measures() -> tuple[str, ...]:
    """Return the default measures; without PESQ if its package is not installed, which is printed."""
    if importlib.util.find_spec("pesq") is not None:
        return DEFAULT_MEASURES
    print("PESQ is left out: it is not installed (pip install 'sepnet[pesq]')")
    return tuple(measure for measure in DEFAULT_MEASURES if measure != "pesq")


def check_measures(measures: Iterable[str]) -> None:
    """Refuse measures that cannot be computed.

    Args:
        measures: Names of measures.

    Raises:
        SepnetError: A measure is unknown, or its package is not installed.
    """
    for measure in measures:
        if measure not in MEASURES:
            raise SepnetError(f"no measure is called {measure!r}: choose from {', '.join(MEASURES)}")
        for package in PACKAGES.get(measure, ()):
            if importlib.util.find_spec(package) is None:
                raise SepnetError(
                    f"the package {package} is missing: pip install 'sepnet[{EXTRAS[package]}]', or leave "
                    f"{measure} out of measures"
                )


def score(
    measures: Sequence[str],
    estimates: Float[Tensor, "source time"],
    references: Float[Tensor, "source time"],
    sample_rate: int,
) -> list[dict[str, float]]:
    """Score estimates with the references of the same index.

    Args:
        measures: Names in ``MEASURES``.
        estimates: (source, time).
        references: (source, time), none of them silent.
        sample_rate: In Hz.

    Returns:
        A dict of measures for each source. A measure is nan where it is undefined, or refuses the signals
        (PESQ at 44.1 kHz, SDR of fewer than 512 samples).
    """
    scores: list[dict[str, float]] = [{} for _ in references]
    for measure in measures:
        try:
            values = MEASURES[measure](estimates, references, sample_rate)
        except SepnetError:
            values = [math.nan] * len(references)
        for source, value in zip(scores, values, strict=True):
            source[measure] = value
    return scores
