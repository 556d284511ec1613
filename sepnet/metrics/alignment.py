"""Assignment of the outputs of a separator to the references."""

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
    """Put the outputs of a separator in the order of the references.

    Labels decide where the outputs represent the classes of the references, perhaps among others. The order
    of the outputs is kept where a separator was given the order of the sources, by queries or references,
    and labels its outputs. Otherwise the order with the best mean SI-SDR is chosen: labels such as
    "harmonic" say nothing about the references.

    Args:
        separation: The outputs.
        references: The true sources.
        needs: The hints that the separator needs.
        labels: The class of each reference.

    Returns:
        The outputs (source, time) in the order of the references, and the index of each among the outputs.

    Raises:
        SepnetError: There is another number of outputs, they have another length, or they hold NaN or
            infinity.
    """
    sources = separation.sources.detach().cpu().float()
    if separation.labels is not None and len(separation.labels) != len(sources):
        raise SepnetError(f"{len(separation.labels)} labels were given for {len(sources)} estimates")
    by_class = represents_all(separation.labels, labels)
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


def represents_all(outputs: Sequence[str] | None, labels: Sequence[str] | None) -> bool:
    """Return whether each label of the references is the label of exactly one output."""
    if outputs is None or labels is None or len({*labels}) != len(labels):
        return False
    return {*labels} <= {*outputs} and len({*outputs}) == len(outputs)
