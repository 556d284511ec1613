"""Make a graph of the step of a live separator: a hop and a state to a hop of each source and a new state."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sepnet.export.graphs import Graph, Run
from sepnet.separators.mask_estimator.model import MaskEstimator


def live_step_graph(
    estimator: MaskEstimator, *, sources: tuple[str, ...], separate: Callable[..., Tensor]
) -> Graph:
    """Make the graph of one hop, of fixed sizes; the initial state is zeros.

    Args:
        estimator: A causal mask estimator.
        sources: A name for each source.
        separate: Separates a whole clip with the estimator, for comparison.

    Returns:
        The graph.

    Raises:
        CannotSeparate: The estimator can't run live.
    """
    step = estimator.live_step()
    state = step.initial_state()
    assert not any(bool(tensor.any()) for tensor in state)  # as docs/export.md says
    names = ("mixture", *step.state_names)
    return Graph(
        module=step,
        examples=dict(zip(names, (torch.zeros(1, step.hop_samples), *state), strict=True)),
        dynamic=tuple({} for _ in names),
        outputs=("sources", *(f"new_{name}" for name in step.state_names)),
        sources=sources,
        sample_rate=step.sample_rate,
        window_samples=estimator.filterbank.window_samples,
        latency_seconds=(step.lag_samples + step.hop_samples) / step.sample_rate,
        separate=separate,
        apply=apply_hop_by_hop(step.hop_samples, step.lag_samples, state),
        hop_samples=step.hop_samples,
        lag_samples=step.lag_samples,
    )


def apply_hop_by_hop(
    hop_samples: int, lag_samples: int, state: Sequence[Tensor]
) -> Callable[[Run, Sequence[Tensor]], Tensor]:
    """Make a function that runs a step on a clip hop by hop, and removes the lag.

    Args:
        hop_samples: The length of a hop.
        lag_samples: The number of samples to remove at the start of the output.
        state: The initial state.

    Returns:
        A function from the step and a clip (1, time) to sources (1, source, time).
    """

    def apply(run: Run, inputs: Sequence[Float[Tensor, "1 time"]]) -> Tensor:
        (clip,), current_state = inputs, list(state)
        n_samples = clip.shape[1]
        n_hops = (n_samples + lag_samples + hop_samples - 1) // hop_samples
        hops = torch.split(F.pad(clip, (0, n_hops * hop_samples - n_samples)), hop_samples, dim=1)
        hops_out = []
        for hop in hops:
            sources, *current_state = run([hop, *current_state])
            hops_out.append(sources)
        output = torch.cat(hops_out, dim=2)  # (1, source, time)
        return output[:, :, lag_samples : lag_samples + n_samples]

    return apply
