"""Which output of a separator belongs to which reference."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.metrics.permutation import best_permutation, pairwise, permute
from sepnet.metrics.sdr import si_sdr
from sepnet.types import Separation, SepnetError


def align(
    separation: Separation,
    references: Float[Tensor, "source time"],
    *,
    needs: Collection[str] = (),
    labels: Sequence[str] | None = None,
) -> tuple[Float[Tensor, "source time"], tuple[int, ...]]:
    """The outputs in the order of the references, and which output each one was.

    needs: the separator's. labels: the references' classes. A separator whose outputs stand for these
    classes, perhaps among others, is taken at its word, and so is one that was shown which source is which,
    by queries or references, and labels its outputs. For any other it is the order with the best mean
    SI-SDR: its labels ("harmonic") say nothing of the references. Raises SepnetError for outputs that can't
    be judged: another number of sources or another length, NaN or infinity.
    """
    sources = separation.sources.detach().cpu().float()
    if separation.labels is not None and len(separation.labels) != len(sources):
        raise SepnetError(f"{len(separation.labels)} labels were given for {len(sources)} estimates")
    by_class = stand_for(separation.labels, labels)
    if sources.shape[1:] != references.shape[1:] or (not by_class and len(sources) != len(references)):
        raise SepnetError(
            f"the estimates are {tuple(sources.shape)}, but the references (source, time) "
            f"{tuple(references.shape)}: take a model and mixtures of the same number of sources"
        )
    if bad := int((~torch.isfinite(sources)).sum()):
        raise SepnetError(f"{bad} samples of {sources.numel()} in the estimates are NaN or infinite")
    if by_class:
        order = tuple(list(separation.labels or ()).index(label) for label in labels or ())
        return sources[list(order)], order
    if separation.labels is not None and not {"queries", "references"}.isdisjoint(needs):
        return sources, tuple(range(len(sources)))
    # A silent reference scores the same with every output, so the others decide.
    best = best_permutation(pairwise(si_sdr, sources[None], references[None]))
    return permute(sources[None], best)[0], tuple(best[0].tolist())


def stand_for(outputs: Sequence[str] | None, labels: Sequence[str] | None) -> bool:
    """Whether outputs of these labels can be told apart by the references' labels: each is there, once."""
    if outputs is None or labels is None or len({*labels}) != len(labels):
        return False
    return {*labels} <= {*outputs} and len({*outputs}) == len(outputs)
