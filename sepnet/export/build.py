"""Which separators can go into a file, and for the others why not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sepnet.export.graphs import TRACED_SAMPLES, Graph, HeadGraph, MaskGraph, QueryGraph
from sepnet.export.steps import step_graph
from sepnet.query.query_mask import QueryMask
from sepnet.separators.deep_clustering import DeepClustering
from sepnet.separators.mask_estimator.model import MaskEstimator
from sepnet.types import Mixture, Query, Separator, SepnetError

Network = TypeVar("Network", bound=nn.Module)
CAN = "trained mask estimators, the mask head of deep clustering and query_mask can be exported"


def graph_of(separator: Separator, *, head: bool = False, step: bool = False) -> Graph:
    """What of a separator goes into a file, on the processor.

    head: of deep clustering take the mask head, without k-means. step: of a causal mask estimator take the
    step that serves live audio. Raises SepnetError with the reason for what can't be a fixed graph.
    """
    if step and not isinstance(separator, MaskEstimator):
        raise SepnetError(
            f"step=true is for causal mask estimators, as pit-causal-2spk-8k: leave it out for a "
            f"{type(separator).__name__}"
        )
    if head and not isinstance(separator, DeepClustering):
        raise SepnetError(f"head=true is for deep clustering: leave it out for a {type(separator).__name__}")
    if isinstance(separator, MaskEstimator):
        return _masks(_ready(separator), step=step)
    if isinstance(separator, DeepClustering):
        return _head(_ready(separator), head=head)
    if isinstance(separator, QueryMask):
        return _query(_ready(separator))
    raise SepnetError(_reason(separator))


def _reason(separator: Separator) -> str:
    """Why a separator is no fixed graph."""
    name = type(separator).__name__
    if "references" in separator.info.needs:
        return f"{name} is shown the sources themselves, which no other program has: {CAN}"
    if isinstance(separator, nn.Module) and any(True for _ in separator.parameters()):
        return f"{name} optimises its answer for each mixture, in steps that no fixed graph holds: {CAN}"
    return f"{name} works each mixture out anew, without a trained network: {CAN}"


def _ready(separator: Network) -> Network:
    """A copy to be traced: on the processor, in float32, and done with learning."""
    return copy.deepcopy(separator).to("cpu", torch.float32).eval().requires_grad_(False)


def _masks(separator: MaskEstimator, *, step: bool) -> Graph:
    n_sources = separator.n_outputs
    told = None if separator.source_count == "fixed" else n_sources  # all outputs: the choice is the caller's
    names = separator.labels or _numbered(n_sources)
    separate = _by(separator, separator.sample_rate, n_sources=told)
    if step:
        return step_graph(separator, sources=names, separate=separate)
    return Graph(
        module=MaskGraph(separator),
        **_clips("mixture"),
        sources=names,
        sample_rate=separator.sample_rate,
        window_samples=separator.filterbank.window_samples,
        latency_seconds=separator.info.latency_seconds,
        separate=separate,
    )


def _head(separator: DeepClustering, *, head: bool) -> Graph:
    if not separator.head_sources:
        raise SepnetError(
            "deep clustering ends in k-means, whose steps no fixed graph holds, and this model has no mask "
            "head to take instead: train one with model.head_sources=2"
        )
    if not head:
        raise SepnetError(
            "deep clustering ends in k-means, whose steps no fixed graph holds: head=true takes the mask "
            f"head instead, for {separator.head_sources} sources"
        )
    separator.use_head = True
    return Graph(
        module=HeadGraph(separator),
        **_clips("mixture"),
        sources=_numbered(separator.head_sources),
        sample_rate=separator.sample_rate,
        window_samples=separator.filterbank.window_samples,
        latency_seconds=None,
        separate=_by(separator, separator.sample_rate, n_sources=separator.head_sources),
    )


def _query(separator: QueryMask) -> Graph:
    def separate(mixture: Float[Tensor, " time"], query: Float[Tensor, " query_time"]) -> Tensor:
        asked = Mixture(mixture[None], separator.sample_rate, queries=(Query(query, separator.sample_rate),))
        return separator.separate(asked).sources

    return Graph(
        module=QueryGraph(separator),
        **_clips("mixture", "query"),
        sources=("query", "residual"),
        sample_rate=separator.sample_rate,
        window_samples=separator.masking.stft.window_samples,
        latency_seconds=None,
        separate=separate,
    )


def _by(separator: Separator, sample_rate: int, *, n_sources: int | None) -> Callable[[Tensor], Tensor]:
    """The separator itself, from (time,) to (source, time)."""

    def separate(mixture: Float[Tensor, " time"]) -> Tensor:
        return separator.separate(Mixture(mixture[None], sample_rate, n_sources=n_sources)).sources

    return separate


def _clips(*names: str) -> dict[str, Any]:
    """What a graph of whole clips, of any number and length, takes and gives."""
    noise = torch.Generator().manual_seed(0)
    return {
        # Two of them: a batch of one would be taken for the only size that there is.
        "examples": {name: 0.1 * torch.randn(2, TRACED_SAMPLES, generator=noise) for name in names},
        "dynamic": tuple({0: "batch", 1: "time" if name == "mixture" else f"{name}_time"} for name in names),
        "outputs": ("sources",),
    }


def _numbered(n_sources: int) -> tuple[str, ...]:
    return tuple(f"s{number}" for number in range(1, n_sources + 1))
