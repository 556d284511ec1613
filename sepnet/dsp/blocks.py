"""Time-frequency masking of signals of any length in bounded memory.

A sample lies under the windows of the frames that begin within one window before it. Blocks that begin
on the frame grid and see one window more on either side therefore give the same samples as the whole
signal at once, if the mask of a frame depends on that frame alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from sepnet.dsp.filterbank import STFT

MaskOf = Callable[[Complex[Tensor, "bin frame"]], Float[Tensor, "source bin frame"]]


def mask_in_blocks(
    signal: Float[Tensor, " time"], stft: STFT, mask_of: MaskOf, *, block_samples: int
) -> Float[Tensor, "source time"]:
    """Each block's spectrogram under the masks that ``mask_of`` makes for it, back as sound."""
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


def excerpt(
    signal: Float[Tensor, " time"], stft: STFT, *, max_samples: int, piece_samples: int
) -> Complex[Tensor, "bin frame"]:
    """The spectrogram of the whole signal, or of pieces spread evenly over one that is longer.

    The pieces hold ``max_samples`` in all, or one piece at the least.
    """
    time = signal.shape[-1]
    if time <= max_samples:
        return stft.spectrogram(signal)
    piece = min(piece_samples, time)
    count = max(1, max_samples // piece)
    starts = torch.linspace(0, time - piece, count).long().tolist()
    return torch.cat([stft.spectrogram(signal[start : start + piece]) for start in starts], dim=1)
