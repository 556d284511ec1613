"""The running median of each column of a matrix, by sorting networks.

The median of n = 2 h + 1 numbers is the middle one, limited to the range between the h-th and the (h + 1)-th
smallest of the other 2 h, which are two runs: the h numbers before the middle and the h after it. To sort a
run, two sorted runs of half its length are merged (K. E. Batcher, "Sorting networks and their applications",
AFIPS 1968). A sorted run serves two windows: it precedes the middle of one and follows that of the other. All
positions and columns take the same comparisons, so these are elementwise minima and maxima of whole arrays:
58 for each median of 17.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

# Of the columns that are filtered together: about 2 h such blocks stay in a core's cache.
BLOCK_ENTRIES = 2**15

Run = list[Tensor]
"""Equally long vectors, sorted elementwise: no entry of one is above that of the next."""


def running_median(X: Float[Tensor, "position column"], length: int) -> Float[Tensor, "position column"]:
    """Compute the median of each entry and its neighbours in the same column.

    Args:
        X: (position, column), without NaN. Beyond its ends, the first and the last row are repeated.
        length: How many rows a median is taken of; odd.

    Returns:
        The medians, exactly: each is an entry of X.

    Example:
        >>> running_median(torch.tensor([[1.0], [9.0], [2.0], [3.0]]), 3).flatten().tolist()
        [1.0, 2.0, 3.0, 3.0]
    """
    half, n_columns = length // 2, X.shape[1]
    if half == 0:
        return X.clone()
    medians = torch.empty_like(X)
    width = max(1, BLOCK_ENTRIES // X.shape[0])
    for first in range(0, n_columns, width):
        block = X[:, first : first + width]
        padded = torch.cat([block[:1].expand(half, -1), block, block[-1:].expand(half, -1)])
        # As a vector, an offset of one row is one of n entries.
        medians[:, first : first + width] = _medians(padded.flatten(), half, block.shape[1]).view(block.shape)
    return medians


def _medians(values: Tensor, half: int, n: int) -> Tensor:
    """The medians of ``2 half + 1`` entries that are n apart, centred at each but the outer ``half`` rows."""
    run = _sorted_run(values, half, n)
    size, after = len(values) - 2 * half * n, (half + 1) * n
    before = [entry[:size] for entry in run]
    behind = [entry[after : after + size] for entry in reversed(run)]
    lower = torch.minimum(before[0], behind[0])
    upper = torch.maximum(before[0], behind[0])
    for one, other in zip(before[1:], behind[1:], strict=True):
        torch.maximum(lower, torch.minimum(one, other), out=lower)
        torch.minimum(upper, torch.maximum(one, other), out=upper)
    middle = values[half * n : half * n + size]
    return torch.maximum(lower, torch.minimum(middle, upper))


def _sorted_run(values: Tensor, count: int, n: int) -> Run:
    """Each entry and the ``count - 1`` after it that are n apart, sorted."""
    if count == 1:
        return [values]
    run = _sorted_run(values, count // 2, n)
    offset = count // 2 * n
    size = len(run[0]) - offset
    merged = _merge([entry[:size] for entry in run], [entry[offset:] for entry in run])
    if count % 2 == 0:
        return merged
    offset = (count - 1) * n
    size = len(values) - offset
    return _merge([entry[:size] for entry in merged], [values[offset:]])


def _merge(one: Run, other: Run) -> Run:
    """Batcher's odd-even merge of two runs."""
    if not one or not other:
        return one or other
    if len(one) == len(other) == 1:
        return [torch.minimum(one[0], other[0]), torch.maximum(one[0], other[0])]
    odd, even = _merge(one[::2], other[::2]), _merge(one[1::2], other[1::2])
    merged = [odd[0]]
    for low, high in zip(even, odd[1:], strict=False):
        merged += [torch.minimum(low, high), torch.maximum(low, high)]
    return merged + odd[len(even) + 1 :] + even[len(odd) - 1 :]
