"""Permutation-invariant training: the loss of the best assignment of estimates to references.

Yu et al., "Permutation invariant training of deep models for speaker-independent multi-talker speech
separation", ICASSP 2017; per utterance: Kolbaek et al., IEEE/ACM TASLP 25(10), 2017.

    loss, order = pit(partial(pairwise, negative(si_sdr)), estimates, references)
    loss, order = pit(partial(pairwise, magnitude_mse), magnitudes, targets)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sepnet.metrics.permutation import best_permutation, pairwise
from sepnet.metrics.sdr import Metric
from sepnet.types import SepnetError

PairwiseLoss = Callable[[Tensor, Tensor], Tensor]
"""(batch, estimate, *item), (batch, reference, *item) -> (batch, estimate, reference)."""

Assignment = Callable[[Metric, Tensor, Tensor], tuple[Tensor, Tensor]]
"""``in_any_order`` or ``in_order``: (loss of a pair, estimates, references) -> (loss per item, indices)."""


def negative(metric: Metric) -> Metric:
    """Turn a metric into a loss: the same numbers with the opposite sign."""

    def loss(estimate: Tensor, reference: Tensor) -> Tensor:
        return -metric(estimate, reference)

    return loss


def pit(
    pairwise_loss: PairwiseLoss,
    estimates: Float[Tensor, "batch estimate *item"],
    references: Float[Tensor, "batch reference *item"],
) -> tuple[Float[Tensor, " batch"], Int[Tensor, "batch reference"]]:
    """Compute the mean loss over the references under the best assignment.

    The assignment is chosen on detached values: gradients flow through the chosen pairs alone, and an
    estimate without a reference gets none.

    Args:
        pairwise_loss: Computes the losses of all pairs.
        estimates: (batch, estimate, *item), at least as many as references.
        references: (batch, reference, *item).

    Returns:
        The loss of each item of the batch, and for each reference the index of its estimate.

    Raises:
        SepnetError: As ``best_permutation``, or the loss gives another shape.
    """
    losses = pairwise_loss(estimates, references)
    expected = (estimates.shape[0], estimates.shape[1], references.shape[1])
    if losses.shape != expected:
        raise SepnetError(
            f"a pairwise loss has to be (batch, estimate, reference) = {expected}, but is "
            f"{tuple(losses.shape)}: wrap the loss as partial(pairwise, loss)"
        )
    indices = best_permutation(losses, maximise=False)
    chosen = losses.gather(1, indices.unsqueeze(1)).squeeze(1)  # (batch, 1, reference) -> (batch, reference)
    return chosen.mean(dim=-1), indices


def in_any_order(
    loss: Metric,
    estimates: Float[Tensor, "batch estimate *item"],
    references: Float[Tensor, "batch reference *item"],
) -> tuple[Float[Tensor, " batch"], Int[Tensor, "batch reference"]]:
    """Apply ``pit`` to the loss of a pair."""
    return pit(partial(pairwise, loss), estimates, references)


def in_order(
    loss: Metric,
    estimates: Float[Tensor, "batch source *item"],
    references: Float[Tensor, "batch reference *item"],
) -> tuple[Float[Tensor, " batch"], Int[Tensor, "batch source"]]:
    """Compute the loss of outputs that represent classes: estimates and references have the same order.

    Raises:
        SepnetError: The shapes differ.
    """
    if estimates.shape != references.shape:
        raise SepnetError(
            f"the outputs stand for {estimates.shape[1]} classes, but the mixtures have "
            f"{references.shape[1]} slots: set data.mixing.slots to model.labels"
        )
    order = torch.arange(references.shape[1], device=references.device).expand(len(references), -1)
    return loss(estimates, references).mean(dim=-1), order
