"""A live separator's step as a graph: a hop and a state in, a hop of each source and the new state out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sepnet.export.graphs import Graph, Run
from sepnet.separators.mask_estimator.model import MaskEstimator


def step_graph(
    estimator: MaskEstimator, *, sources: tuple[str, ...], separate: Callable[..., Tensor]
) -> Graph:
    """The graph of one hop, of fixed sizes; the state begins as zeros.

    separate: of a whole clip, to compare with. Raises CannotSeparate for an estimator that can't go live.
    """
    step = estimator.live_step()
    state = step.initial_state()
    assert not any(bool(tensor.any()) for tensor in state)  # as the metadata and the manual say
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
        drive=hop_by_hop(step.hop_samples, step.lag_samples, state),
        hop_samples=step.hop_samples,
        lag_samples=step.lag_samples,
    )


def hop_by_hop(
    hop_samples: int, lag_samples: int, state: Sequence[Tensor]
) -> Callable[[Run, Sequence[Tensor]], Tensor]:
    """How a clip (1, time) is put through a step: filled up with silence, hop after hop, the lag cut off."""

    def drive(run: Run, inputs: Sequence[Float[Tensor, "1 time"]]) -> Tensor:
        (clip,), now = inputs, list(state)
        n_samples = clip.shape[1]
        n_hops = (n_samples + lag_samples + hop_samples - 1) // hop_samples
        hops = torch.split(F.pad(clip, (0, n_hops * hop_samples - n_samples)), hop_samples, dim=1)
        parts = []
        for hop in hops:
            sources, *now = run([hop, *now])
            parts.append(sources)
        whole = torch.cat(parts, dim=2)  # (1, source, time)
        return whole[:, :, lag_samples : lag_samples + n_samples]

    return drive
