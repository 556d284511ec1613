"""Pictures that fit any width and both themes: the waveform as a path, the spectrogram as pixels."""

from __future__ import annotations

import io

import numpy as np
import torch
from jaxtyping import Float
from matplotlib import colormaps, image

WINDOW_SECONDS = 0.032
DYNAMIC_RANGE_DB = 80.0
COLOURS = "magma"
MOST_FRAMES, MOST_ROWS = 900, 160
COLUMNS = 600


def levels_db(signal: Float[np.ndarray, " time"], sample_rate: int) -> Float[np.ndarray, "row frame"]:
    """The power spectrogram in dB, in windows of 32 ms; neighbouring bins are joined where there are many."""
    n_fft = max(32, round(WINDOW_SECONDS * sample_rate))
    hop = max(n_fft // 4, len(signal) // MOST_FRAMES)
    padded = torch.nn.functional.pad(torch.from_numpy(signal), (n_fft // 2, n_fft // 2))
    window = torch.hann_window(n_fft)
    power = torch.stft(padded, n_fft, hop, window=window, center=False, return_complex=True).abs() ** 2
    joined = -(-len(power) // MOST_ROWS)
    whole = power[: len(power) // joined * joined]
    rows = whole.reshape(-1, joined, whole.shape[1]).mean(dim=1)  # (bin, frame) -> (row, frame)
    return np.asarray(10 * torch.log10(rows + 1e-12).numpy())


def spectrogram_png(levels: Float[np.ndarray, "row frame"], loudest_db: float) -> bytes:
    """A picture without axes, low frequencies below: 80 dB of range under ``loudest_db``."""
    scaled = np.clip((levels - loudest_db) / DYNAMIC_RANGE_DB + 1, 0, 1)
    stream = io.BytesIO()
    image.imsave(stream, colormaps[COLOURS](scaled[::-1], bytes=True), format="png")
    return stream.getvalue()


def waveform_svg(signal: Float[np.ndarray, " time"], peak: float) -> str:
    """The envelope, from the lowest to the highest sample of each column; ``peak`` reaches the edge.

    In the colour of the text around it.
    """
    edges = np.linspace(0, len(signal), min(COLUMNS, len(signal)) + 1).astype(int)[:-1]
    scale = 49.0 / peak if peak > 0 else 0.0
    high = 50 - scale * np.maximum.reduceat(signal, edges) - 0.4  # silence is a line, too
    low = 50 - scale * np.minimum.reduceat(signal, edges) + 0.4
    there = [f"{x},{y:.1f}" for x, y in enumerate(high)]
    back = [f"{x},{y:.1f}" for x, y in reversed(list(enumerate(low)))]
    return (
        f'<svg viewBox="0 0 {max(len(edges) - 1, 1)} 100" preserveAspectRatio="none" aria-hidden="true">'
        f'<polygon fill="currentColor" points="{" ".join(there + back)}"/></svg>'
    )


def gradient() -> str:
    """The colours of the spectrogram from quiet to loud, for CSS."""
    return ", ".join(
        "#{:02x}{:02x}{:02x}".format(*colormaps[COLOURS](value, bytes=True)[:3])
        for value in np.linspace(0, 1, 9)
    )
