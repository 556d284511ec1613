"""Compare the results of a file with those of the separator, on clips of five lengths."""

from __future__ import annotations

import torch
from torch import Tensor

from sepnet.export.graphs import Graph, Run
from sepnet.types import SepnetError

MAX_DEVIATION = 1e-4  # of full scale, or of the loudest estimate


def compared_lengths(graph: Graph) -> tuple[int, int, int, int, int]:
    """Choose lengths in samples: one, less than a window, one more than a window, about 1 and 3 seconds."""
    window, rate = graph.window_samples, graph.sample_rate
    return 1, window // 2 + 1, window + 1, rate - rate % 2 + 1, 3 * rate + 2


def deviation(graph: Graph, run: Run) -> dict[int, float]:
    """Compare a file with its separator.

    A graph that takes several clips gets two, the second 40 dB below the first.

    Args:
        graph: Of the separator.
        run: The file.

    Returns:
        For each length in samples, the largest difference relative to full scale, or to the peak of the
        estimates where it is above full scale.

    Raises:
        SepnetError: The shapes of the outputs differ.
    """
    n_rows = 2 if any(graph.dynamic) else 1
    deviations = {}
    for number, n_samples in enumerate(compared_lengths(graph)):
        clips = [_clips(graph, n_rows, n_samples, seed=number)]
        # The other inputs are queries of half a second and more.
        query_lengths = [
            graph.sample_rate // 2 + 3 * number + place for place in range(1, len(graph.examples))
        ]
        clips += [_clips(graph, n_rows, n, seed=100 + n) for n in query_lengths if n_rows == 2]
        with torch.no_grad():
            actual = graph.apply(run, clips)
            expected = torch.stack([graph.separate(*(clip[row] for clip in clips)) for row in range(n_rows)])
        if actual.shape != expected.shape:
            raise SepnetError(
                f"for {n_samples} samples the file returns {tuple(actual.shape)}, but the model "
                f"{tuple(expected.shape)}: nothing was written"
            )
        deviations[n_samples] = float((actual - expected).abs().amax() / expected.abs().amax().clamp_min(1.0))
    return deviations


def require_parity(graph: Graph, run: Run) -> dict[int, float]:
    """As ``deviation``, but refuse a file that deviates.

    Raises:
        SepnetError: A deviation is more than ``MAX_DEVIATION``, or NaN.
    """
    deviations = deviation(graph, run)
    wrong = {n_samples: value for n_samples, value in deviations.items() if not value <= MAX_DEVIATION}
    if wrong:
        listed = ", ".join(f"{value:.1e} on {n_samples} samples" for n_samples, value in wrong.items())
        raise SepnetError(
            f"the file deviates from the model by more than {MAX_DEVIATION:g} ({listed}): nothing was "
            "written; try the other format, or another version of torch"
        )
    return deviations


def _clips(graph: Graph, n_rows: int, n_samples: int, *, seed: int) -> Tensor:
    """(row, time): noise of varying level, the first row at -20 dB re full scale, the second 40 dB lower."""
    noise = torch.randn(n_rows, n_samples, generator=torch.Generator().manual_seed(seed))
    envelope = torch.linspace(0, 7, n_samples).sin().square() + 0.01
    return 0.1 * noise * envelope * torch.tensor([1.0, 0.01])[:n_rows, None]
