"""Measures of separation, each a pure function: ``(estimate, reference)``, in that order."""

from sepnet.metrics.alignment import align, stand_for
from sepnet.metrics.perceptual import estoi, pesq, stoi
from sepnet.metrics.permutation import best_permutation, pairwise, permute
from sepnet.metrics.sdr import (
    Metric,
    improvement,
    is_silent,
    sd_sdr,
    sdr,
    si_sdr,
    si_sdr_improvement,
    snr,
    thresholded_snr,
)

__all__ = [
    "Metric",
    "align",
    "best_permutation",
    "estoi",
    "improvement",
    "is_silent",
    "pairwise",
    "permute",
    "pesq",
    "sd_sdr",
    "sdr",
    "si_sdr",
    "si_sdr_improvement",
    "snr",
    "stand_for",
    "stoi",
    "thresholded_snr",
]
