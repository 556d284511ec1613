"""Make segments of time from a score at the centres of windows, through points on a fine grid."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Segment = tuple[float, float]
"""Start and end, in seconds."""
GRID_SECONDS = 0.01  # distance of the points at which a score between two windows is evaluated


def interpolate(
    centres: Float[Tensor, " window"], values: Float[Tensor, " window"], at: Float[Tensor, " point"]
) -> Float[Tensor, " point"]:
    """Interpolate linearly between the centres of windows.

    Args:
        centres: In seconds, ascending.
        values: One at each centre.
        at: Times in seconds. Before the first centre and after the last the value is constant.

    Returns:
        The values at these times.
    """
    if len(centres) == 1:
        return values.expand(len(at)).clone()
    right = torch.searchsorted(centres.contiguous(), at.contiguous()).clamp(1, len(centres) - 1)
    left = right - 1
    weight = ((at - centres[left]) / (centres[right] - centres[left])).clamp(0, 1)
    return values[left] + weight * (values[right] - values[left])


def active_segments(active: Bool[Tensor, " point"]) -> list[Segment]:
    """List the runs of active points, each of which is ``GRID_SECONDS`` long."""
    edges = torch.diff(
        active.int(), prepend=torch.zeros(1, dtype=torch.int), append=torch.zeros(1, dtype=torch.int)
    )
    starts, ends = (edges == 1).nonzero().flatten(), (edges == -1).nonzero().flatten()
    return [
        (start * GRID_SECONDS, end * GRID_SECONDS)
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def merge_segments(segments: Iterable[Segment], *, max_gap_seconds: float) -> list[Segment]:
    """Merge segments that overlap, or are at most ``max_gap_seconds`` apart; the result is in order."""
    merged: list[Segment] = []
    for start, end in sorted(segments):
        if merged and start - merged[-1][1] <= max_gap_seconds + 1e-9:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
