"""Whether a file says what the separator says: both on clips of five lengths."""

from __future__ import annotations

import torch
from torch import Tensor

from sepnet.export.graphs import Graph, Run
from sepnet.types import SepnetError

MOST = 1e-4  # that a file may deviate, of full scale or of the loudest estimate


def lengths(graph: Graph) -> tuple[int, int, int, int, int]:
    """Samples: one, an odd number that fills no window, one more than a window, and about 1 and 3 seconds."""
    window, rate = graph.window_samples, graph.sample_rate
    return 1, window // 2 + 1, window + 1, rate - rate % 2 + 1, 3 * rate + 2


def deviation(graph: Graph, run: Run) -> dict[int, float]:
    """For each length, the largest difference between a file and its separator.

    Of full scale; where the estimates are louder than that, of their peak. A graph that takes several clips
    at once gets two, the second 40 dB below the first.
    """
    n_rows = 2 if any(graph.dynamic) else 1
    found = {}
    for number, n_samples in enumerate(lengths(graph)):
        clips = [_clips(graph, n_rows, n_samples, seed=number)]
        # Other inputs are examples of half a second and more.
        rest = [graph.sample_rate // 2 + 3 * number + place for place in range(1, len(graph.examples))]
        clips += [_clips(graph, n_rows, n, seed=100 + n) for n in rest if n_rows == 2]
        with torch.no_grad():
            got = graph.drive(run, clips)
            wanted = torch.stack([graph.separate(*(clip[row] for clip in clips)) for row in range(n_rows)])
        if got.shape != wanted.shape:
            raise SepnetError(
                f"of {n_samples} samples the file makes {tuple(got.shape)}, but the model "
                f"{tuple(wanted.shape)}: nothing was written"
            )
        found[n_samples] = float((got - wanted).abs().amax() / wanted.abs().amax().clamp_min(1.0))
    return found


def require_parity(graph: Graph, run: Run) -> dict[int, float]:
    """As ``deviation``. Raises SepnetError where it is more than ``MOST``, or no number."""
    found = deviation(graph, run)
    wrong = {n_samples: value for n_samples, value in found.items() if not value <= MOST}
    if wrong:
        told = ", ".join(f"{value:.1e} of {n_samples} samples" for n_samples, value in wrong.items())
        raise SepnetError(
            f"the file deviates from the model by more than {MOST:g} ({told}): nothing was written; try the "
            "other format, or another version of torch"
        )
    return found


def _clips(graph: Graph, n_rows: int, n_samples: int, *, seed: int) -> Tensor:
    """(row, time): noise that swells and fades, at -20 dB of full scale and 40 dB lower."""
    noise = torch.randn(n_rows, n_samples, generator=torch.Generator().manual_seed(seed))
    swell = torch.linspace(0, 7, n_samples).sin().square() + 0.01
    return 0.1 * noise * swell * torch.tensor([1.0, 0.01])[:n_rows, None]
