"""Metrics of separation, each a pure function of ``(estimate, reference)``, in that order (but dnsmos)."""

from sepnet.metrics.alignment import align, represents_all
from sepnet.metrics.detection import Counts, event_counts, segment_counts
from sepnet.metrics.opinion import Opinion, dnsmos
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
from sepnet.metrics.tracking import OutputTracking, output_tracking

__all__ = [
    "Counts",
    "Metric",
    "Opinion",
    "OutputTracking",
    "align",
    "best_permutation",
    "dnsmos",
    "estoi",
    "event_counts",
    "improvement",
    "is_silent",
    "output_tracking",
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
