"""Make a graph that can be exported from a separator, or give the reason why there is none."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import singledispatch
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sepnet.export.graphs import TRACED_SAMPLES, Graph, HeadGraph, MaskGraph, QueryGraph
from sepnet.export.live_step import live_step_graph
from sepnet.query.query_mask import QueryMask
from sepnet.separators.deep_clustering import DeepClustering
from sepnet.separators.mask_estimator.model import MaskEstimator
from sepnet.types import Mixture, Query, Separator, SepnetError

Network = TypeVar("Network", bound=nn.Module)
EXPORTABLE = "trained mask estimators, the mask head of deep clustering and query_mask can be exported"


def build_graph(separator: Separator, *, head: bool = False, step: bool = False) -> Graph:
    """Make the graph of a separator, on the CPU.

    Args:
        separator: A trained separator; it is copied, and not changed.
        head: Whether to export the mask head of deep clustering, instead of k-means.
        step: Whether to export the step of a causal mask estimator, for live audio.

    Returns:
        The graph.

    Raises:
        CannotSeparate: ``step`` is set, but the model can't run live.
        SepnetError: The separator has no fixed graph; the message gives the reason.
    """
    name = type(separator).__name__
    if step and not isinstance(separator, MaskEstimator):
        raise SepnetError(
            f"step=true is for causal mask estimators such as pit-causal-2spk-8k: leave it out for {name}"
        )
    if head and not isinstance(separator, DeepClustering):
        raise SepnetError(f"head=true is for deep clustering: leave it out for {name}")
    return _build(separator, head=head, step=step)


@singledispatch
def _build(separator: Separator, *, head: bool, step: bool) -> Graph:
    """Make the graph of a type of separator; this function refuses all types without one of their own."""
    name = type(separator).__name__
    if "references" in separator.info.needs:
        raise SepnetError(f"{name} needs the true sources, which other programs don't have: {EXPORTABLE}")
    if isinstance(separator, nn.Module) and any(True for _ in separator.parameters()):
        raise SepnetError(
            f"{name} optimises each mixture in steps that a fixed graph cannot express: {EXPORTABLE}"
        )
    raise SepnetError(f"{name} processes each mixture anew, without a trained network: {EXPORTABLE}")


@_build.register
def _mask_estimator(separator: MaskEstimator, *, head: bool, step: bool) -> Graph:
    separator = _frozen_copy(separator)
    # With a variable number of sources, the file returns all outputs; its user chooses among them.
    n_sources = None if separator.source_count == "fixed" else separator.n_outputs
    names = separator.info.labels or _numbered(separator.n_outputs)
    separate = _separate_clip(separator, separator.sample_rate, n_sources=n_sources)
    if step:
        return live_step_graph(separator, sources=names, separate=separate)
    return Graph(
        module=MaskGraph(separator),
        **_clips("mixture"),
        sources=names,
        sample_rate=separator.sample_rate,
        window_samples=separator.filterbank.window_samples,
        latency_seconds=separator.info.latency_seconds,
        separate=separate,
    )


@_build.register
def _mask_head(separator: DeepClustering, *, head: bool, step: bool) -> Graph:
    if not separator.head_sources:
        raise SepnetError(
            "deep clustering ends in k-means, whose steps a fixed graph cannot express, and this model "
            "has no mask head to export instead: train one with model.head_sources=2"
        )
    if not head:
        raise SepnetError(
            "deep clustering ends in k-means, whose steps a fixed graph cannot express: head=true exports "
            f"the mask head instead, for {separator.head_sources} sources"
        )
    separator = _frozen_copy(separator)
    separator.use_head = True
    return Graph(
        module=HeadGraph(separator),
        **_clips("mixture"),
        sources=_numbered(separator.head_sources),
        sample_rate=separator.sample_rate,
        window_samples=separator.filterbank.window_samples,
        latency_seconds=None,
        separate=_separate_clip(separator, separator.sample_rate, n_sources=separator.head_sources),
    )


@_build.register
def _query_mask(separator: QueryMask, *, head: bool, step: bool) -> Graph:
    separator = _frozen_copy(separator)

    def separate(mixture: Float[Tensor, " time"], query: Float[Tensor, " query_time"]) -> Tensor:
        queries = (Query(query, separator.sample_rate),)
        return separator.separate(Mixture(mixture[None], separator.sample_rate, queries=queries)).sources

    return Graph(
        module=QueryGraph(separator),
        **_clips("mixture", "query"),
        sources=("query", "residual"),
        sample_rate=separator.sample_rate,
        window_samples=separator.masking.stft.window_samples,
        latency_seconds=None,
        separate=separate,
    )


def _frozen_copy(separator: Network) -> Network:
    """A copy for tracing: on the CPU, in float32, without gradients."""
    return copy.deepcopy(separator).to("cpu", torch.float32).eval().requires_grad_(False)


def _separate_clip(
    separator: Separator, sample_rate: int, *, n_sources: int | None
) -> Callable[[Tensor], Tensor]:
    """The separator itself as a function from (time,) to (source, time)."""

    def separate(mixture: Float[Tensor, " time"]) -> Tensor:
        return separator.separate(Mixture(mixture[None], sample_rate, n_sources=n_sources)).sources

    return separate


def _clips(*names: str) -> dict[str, Any]:
    """Inputs and outputs of a graph that takes any number of clips of any length."""
    noise = torch.Generator().manual_seed(0)
    return {
        # Two clips: a batch size of one would be taken for a constant.
        "examples": {name: 0.1 * torch.randn(2, TRACED_SAMPLES, generator=noise) for name in names},
        "dynamic": tuple({0: "batch", 1: "time" if name == "mixture" else f"{name}_time"} for name in names),
        "outputs": ("sources",),
    }


def _numbered(n_sources: int) -> tuple[str, ...]:
    return tuple(f"s{number}" for number in range(1, n_sources + 1))
