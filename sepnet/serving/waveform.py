"""Draw waveforms as SVG, which fits any width and both themes of the page."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

MAX_COLUMNS = 600


def waveform_svg(signal: Float[np.ndarray, " time"], peak: float) -> str:
    """Draw the envelope, from the lowest to the highest sample of each column, in the colour of the text.

    Args:
        signal: (time,).
        peak: The amplitude at the upper and lower edge.

    Returns:
        SVG.
    """
    edges = np.linspace(0, len(signal), min(MAX_COLUMNS, len(signal)) + 1).astype(int)[:-1]
    scale = 49.0 / peak if peak > 0 else 0.0
    high = 50 - scale * np.maximum.reduceat(signal, edges) - 0.4  # silence is drawn as a line
    low = 50 - scale * np.minimum.reduceat(signal, edges) + 0.4
    upper = [f"{x},{y:.1f}" for x, y in enumerate(high)]
    lower = [f"{x},{y:.1f}" for x, y in reversed(list(enumerate(low)))]
    return (
        f'<svg viewBox="0 0 {max(len(edges) - 1, 1)} 100" preserveAspectRatio="none" aria-hidden="true">'
        f'<polygon fill="currentColor" points="{" ".join(upper + lower)}"/></svg>'
    )
