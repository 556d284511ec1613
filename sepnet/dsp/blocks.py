"""Time-frequency masking of signals of any length in bounded memory.

A sample is covered by the windows of the frames that begin within one window before it. Blocks that begin on
the frame grid, with one window of context on either side, therefore give the same samples as the whole signal
at once, if the mask of a frame depends on that frame alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from sepnet.dsp.fast_stft import FastSTFT
from sepnet.dsp.filterbank import STFT

MaskFunction = Callable[[Complex[Tensor, "bin frame"]], Float[Tensor, "source bin frame"]]


def mask_in_blocks(
    signal: Float[Tensor, " time"], stft: STFT | FastSTFT, mask_of: MaskFunction, *, block_samples: int
) -> Float[Tensor, "source time"]:
    """Separate a signal by masks, block by block.

    Args:
        signal: (time,).
        stft: The transform.
        mask_of: From the spectrogram (bin, frame) of a block to masks (source, bin, frame).
        block_samples: Length of a block, in samples, rounded down to whole hops.

    Returns:
        The sources, (source, time).
    """
    hop, context = stft.hop_samples, -(-stft.window_samples // stft.hop_samples) * stft.hop_samples
    length = max(1, block_samples // hop) * hop
    time = signal.shape[-1]
    parts = []
    for begin in range(0, time, length):
        end = min(begin + length, time)
        first = max(0, begin - context)
        piece = signal[first : min(time, end + context)]
        spectrogram = stft.spectrogram(piece)  # (bin, frame)
        masked = mask_of(spectrogram) * spectrogram  # (source, bin, frame)
        parts.append(stft.invert(masked, piece.shape[-1])[:, begin - first : end - first])
    return torch.cat(parts, dim=1)


def excerpt_spectrogram(
    signal: Float[Tensor, " time"], stft: STFT | FastSTFT, *, max_samples: int, piece_samples: int
) -> Complex[Tensor, "bin frame"]:
    """Compute the spectrogram of a signal, or of evenly spaced pieces of a long one.

    Args:
        signal: (time,).
        stft: The transform.
        max_samples: Longest signal that is used as a whole; of a longer one, pieces of this length in total.
        piece_samples: Length of a piece, in samples; there is at least one.

    Returns:
        The spectrogram (bin, frame); those of the pieces one after the other.
    """
    time = signal.shape[-1]
    if time <= max_samples:
        return stft.spectrogram(signal)
    piece = min(piece_samples, time)
    n_pieces = max(1, max_samples // piece)
    starts = torch.linspace(0, time - piece, n_pieces).long().tolist()
    return torch.cat([stft.spectrogram(signal[start : start + piece]) for start in starts], dim=1)
