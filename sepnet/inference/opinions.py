"""Predicted opinions of listeners on signals of any length, where the optional packages are installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from sepnet.dsp.resample import resample
from sepnet.metrics import Opinion, dnsmos
from sepnet.metrics.opinion import SAMPLE_RATE, WINDOW, is_installed

if TYPE_CHECKING:
    from sepnet.figures.spectrogram import ReadSignal  # which imports Matplotlib


def predict_opinion(
    read: ReadSignal, n_samples: int, sample_rate: int, *, max_excerpts: int = 6
) -> Opinion | None:
    """Predict by DNSMOS how listeners would judge a signal, from a few excerpts of nine seconds.

    Args:
        read: Returns parts of the signal.
        n_samples: The length of the signal.
        sample_rate: In Hz.
        max_excerpts: How many excerpts are judged at most; they are spread evenly.

    Returns:
        The mean over the excerpts that are not silent; None if all are, or without ``sepnet[mos]``.
    """
    if not is_installed():
        return None
    length = min(-(-WINDOW * sample_rate // SAMPLE_RATE), n_samples)
    starts = np.linspace(0, n_samples - length, min(max_excerpts, max(1, n_samples // length)))
    opinions = [_judge(read(int(start), length), sample_rate) for start in starts]
    judged = [opinion for opinion in opinions if np.isfinite(opinion).all()]
    return Opinion(*np.mean(judged, axis=0).tolist()) if judged else None


def _judge(excerpt: np.ndarray, sample_rate: int) -> Opinion:
    """One window of DNSMOS; a short excerpt is repeated to fill it."""
    signal = resample(torch.from_numpy(excerpt).float(), sample_rate, SAMPLE_RATE).numpy()
    return dnsmos(torch.from_numpy(np.resize(signal, WINDOW)), SAMPLE_RATE)
