"""Waveforms that fit any width and both themes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

COLUMNS = 600


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
