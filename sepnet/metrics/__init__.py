"""Metrics of separation, each a pure function of ``(estimate, reference)``, in that order."""

from sepnet.metrics.alignment import align, represents_all
from sepnet.metrics.detection import Counts, event_counts, segment_counts
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
    "Counts",
    "Metric",
    "align",
    "best_permutation",
    "estoi",
    "event_counts",
    "improvement",
    "is_silent",
    "pairwise",
    "permute",
    "pesq",
    "represents_all",
    "sd_sdr",
    "sdr",
    "segment_counts",
    "si_sdr",
    "si_sdr_improvement",
    "snr",
    "stoi",
    "thresholded_snr",
]
