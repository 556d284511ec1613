"""Overlapping windows of a signal, with two ways to treat its end."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from sepnet.types import SepnetError


def zero_padded_windows(
    signal: Float[Tensor, " time"], window_samples: int, hop_samples: int
) -> Float[Tensor, "window sample"]:
    """Cut a signal into windows, and fill up the last one with zeros.

    Args:
        signal: (time,).
        window_samples: Length of a window, in samples.
        hop_samples: Distance between the starts of two windows, in samples.

    Returns:
        Windows (window, sample) that contain every sample of the signal.
    """
    n_windows = max(0, -(-(len(signal) - window_samples) // hop_samples)) + 1
    padded = F.pad(signal, (0, (n_windows - 1) * hop_samples + window_samples - len(signal)))
    return padded.unfold(0, window_samples, hop_samples)


def end_aligned_windows(
    signal: Float[Tensor, " time"], window_samples: int, hop_samples: int
) -> tuple[Float[Tensor, "window sample"], Int[Tensor, " window"]]:
    """Cut a signal into windows; the last one ends with the signal, so nothing is padded.

    Args:
        signal: (time,).
        window_samples: Length of a window, in samples. A shorter signal is one window of its own length.
        hop_samples: Distance between the starts of two windows, in samples; before the last it may be less.

    Returns:
        The windows (window, sample), and the sample (window,) at which each one starts.

    Raises:
        SepnetError: The signal is empty, or one of the lengths is not positive.
    """
    if min(window_samples, hop_samples) < 1 or len(signal) < 1:
        raise SepnetError(
            f"{len(signal)} samples cannot be cut into windows of {window_samples} samples every "
            f"{hop_samples}: all three numbers have to be 1 or more"
        )
    if len(signal) <= window_samples:
        return signal[None], torch.zeros(1, dtype=torch.int64)
    last_start = len(signal) - window_samples
    starts = torch.arange(0, last_start + 1, hop_samples)
    if int(starts[-1]) != last_start:
        starts = torch.cat([starts, torch.tensor([last_start])])
    samples = starts[:, None] + torch.arange(window_samples)  # (window, sample)
    return signal[samples.to(signal.device)], starts
