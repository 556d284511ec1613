"""Non-negative matrix factorisation, batched, on any device.

X (bin, frame) is approximated by V = W H, a dictionary W (bin, component) times activations H (component,
frame), all non-negative. With the sparsity s, the objective is

    sum_fn d(x_fn | v_fn)  +  s sum_k |w_k|_2 |h_k|_1                                               (1)

    frobenius          d(x | v) = (x - v)^2 / 2        (Lee and Seung, NIPS 2000)
    kullback_leibler   d(x | v) = x log(x / v) - x + v (Lee and Seung, NIPS 2000)
    itakura_saito      d(x | v) = x / v - log(x / v) - 1   (Fevotte, Bertin and Durrieu 2009)

With both norms, the penalty does not depend on how a component's level is divided between w_k and h_k; |H|_1
alone could be made arbitrarily small by scaling H down and W up.

For the updates, and for why they never increase the objective, see sepnet.dsp.nmf_updates; for those that
reach it sooner, sepnet.dsp.nmf_hals, sepnet.dsp.nmf_least_squares_start and sepnet.dsp.nmf_extrapolated.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sepnet.dsp.nmf_iterations import Factorisation as Factorisation
from sepnet.dsp.nmf_iterations import Solver as Solver
from sepnet.dsp.nmf_iterations import check_matrices, choose_items
from sepnet.dsp.nmf_iterations import factorise_from as factorise_from
from sepnet.dsp.nmf_starts import nndsvd as nndsvd
from sepnet.dsp.nmf_starts import random_start as random_start
from sepnet.dsp.nmf_updates import DEGREE as DEGREE
from sepnet.dsp.nmf_updates import Divergence as Divergence
from sepnet.dsp.nmf_updates import Problem
from sepnet.types import SepnetError

Start = Literal["random", "nndsvd"]
Matrices = Float[Tensor, "item bin frame"]
Dictionaries = Float[Tensor, "item bin component"]
Activations = Float[Tensor, "item component frame"]


def factorise(
    X: Matrices,
    *,
    n_components: int,
    divergence: Divergence = "kullback_leibler",
    start: Start = "random",
    n_restarts: int = 1,
    n_iterations: int = 200,
    tolerance: float = 1e-4,
    sparsity: float = 0.0,
    seed: int = 0,
    solver: Solver = "auto",
) -> Factorisation:
    """Factorise matrices; of several random starts, the one with the smallest objective is kept.

    Args:
        X: (item, bin, frame), not negative.
        n_components: How many components.
        divergence: The function d of equation (1).
        start: The initial factors: ``random``, or ``nndsvd``.
        n_restarts: How many random starts.
        n_iterations: Most iterations from each start.
        tolerance: As for ``factorise_from``.
        sparsity: As for ``factorise_from``.
        seed: Of the random starts; the result is the same on every device.
        solver: As for ``factorise_from``.

    Returns:
        The best factorisation of each item.

    Raises:
        SepnetError: A setting is out of range, or X has negative numbers, NaN or infinity.

    Example:
        >>> factorise(torch.rand(1, 8, 20), n_components=2).model.shape
        torch.Size([1, 8, 20])
    """
    if start not in get_args(Start):
        raise SepnetError(f"start={start!r} is none of {', '.join(get_args(Start))}")
    if n_components < 1 or n_restarts < 1:
        raise SepnetError(
            f"n_components={n_components} and n_restarts={n_restarts}: both have to be 1 or more"
        )
    check_matrices(X, divergence)
    generator = torch.Generator().manual_seed(seed)
    best: Factorisation | None = None
    for _ in range(n_restarts if start == "random" else 1):
        factors = nndsvd(X, n_components) if start == "nndsvd" else random_start(X, n_components, generator)
        candidate = factorise_from(
            X,
            *factors,
            divergence=divergence,
            n_iterations=n_iterations,
            tolerance=tolerance,
            sparsity=sparsity,
            solver=solver,
        )
        best = candidate if best is None else _better(best, candidate)
    assert best is not None
    return best


def activate(
    X: Matrices,
    dictionary: Dictionaries,
    *,
    divergence: Divergence = "kullback_leibler",
    n_iterations: int = 100,
    tolerance: float = 0.0,
    sparsity: float = 0.0,
    solver: Solver = "auto",
) -> Activations:
    """Estimate the activations of X for a given dictionary; each frame is independent of the others.

    They start from the same value for all components. For the Frobenius norm and Kullback-Leibler the problem
    is convex, so the start makes no difference.

    Args:
        X: (item, bin, frame), not negative.
        dictionary: W, (item, bin, component).
        divergence: The function d of equation (1).
        n_iterations: Most iterations.
        tolerance: As for ``factorise_from``.
        sparsity: As for ``factorise_from``.
        solver: As for ``factorise_from``; with ``accelerated``, frames share the rate of extrapolation.

    Returns:
        H, (item, component, frame).

    Raises:
        SepnetError: As ``factorise_from``.
    """
    return factorise_from(
        X,
        dictionary,
        _flat(X, dictionary),
        divergence=divergence,
        n_iterations=n_iterations,
        tolerance=tolerance,
        sparsity=sparsity,
        n_fixed=dictionary.shape[-1],
        solver=solver,
    ).activations


@torch.no_grad()
def activate_groups(
    X: Matrices,
    dictionary: Dictionaries,
    n_groups: int,
    *,
    penalty: float,
    divergence: Divergence = "kullback_leibler",
    n_iterations: int = 100,
) -> Activations:
    """Estimate activations of a dictionary whose components form groups, of which few are active.

    The objective is D(X | W H) + s sum_g log(e + |H_g|_1), where |H_g|_1 is the sum of all activations of a
    group over all of X: Lefevre, Bach and Fevotte, "Itakura-Saito nonnegative matrix factorization with group
    sparsity", ICASSP 2011, eq. 5, and with dictionaries of speakers Sun and Mysore, "Universal speech models
    for speaker independent single channel source separation", ICASSP 2013. The logarithm is bounded by its
    tangent at the current H, which is a penalty as in (2) of sepnet.dsp.nmf_updates, of slope s / (e +
    |H_g|_1); so the objective never increases. X is scaled to mean 1; s is ``penalty`` times its number of
    entries, and e a thousandth of an equal share of the activations: neither depends on the level or the
    length of X.

    Args:
        X: (item, bin, frame), not negative.
        dictionary: W, (item, bin, component).
        n_groups: The components are this many groups of equal size, one after the other.
        penalty: Weight of the penalty.
        divergence: The function d of equation (1).
        n_iterations: How many iterations.

    Returns:
        H, (item, component, frame).

    Raises:
        SepnetError: The groups do not have equal size, the penalty is negative, or X has negative numbers,
            NaN or infinity.
    """
    check_matrices(X, divergence)
    n_components = dictionary.shape[-1]
    if n_groups < 1 or n_components % n_groups or penalty < 0:
        raise SepnetError(
            f"n_components={n_components} has to be a multiple of n_groups={n_groups}, and penalty={penalty} "
            "must not be negative"
        )
    problem = Problem(X, dictionary, _flat(X, dictionary), divergence, 0.0, n_components)
    equal_share = problem.H.sum(dim=(1, 2)) / n_groups  # (item,); the problem is not cut into parts
    weight, smallest = penalty * X[0].numel(), 1e-3 * equal_share[:, None] + problem.smallest
    for _ in range(n_iterations):
        totals = problem.H.sum(dim=2).reshape(len(X), n_groups, -1).sum(dim=2)  # (item, group)
        slopes = weight / (smallest + totals)
        problem.slopes = slopes.repeat_interleave(n_components // n_groups, dim=1)
        problem.update_activations()
    return problem.activations


def source_masks(
    dictionary: Float[Tensor, "bin component"],
    activations: Float[Tensor, "component frame"],
    sources: Int[Tensor, " component"],
    n_sources: int,
    exponent: float = 2.0,
) -> Float[Tensor, "source bin frame"]:
    """Compute a mask for each source, V_i^p / sum_j V_j^p, where V_i is the product W H of its components.

    Args:
        dictionary: W.
        activations: H.
        sources: The source that each component belongs to.
        n_sources: How many sources.
        exponent: p.

    Returns:
        The masks, which sum to one; where V is zero, they are equal.
    """
    models = torch.stack(
        [dictionary[:, sources == i] @ activations[sources == i] for i in range(n_sources)]
    )  # (source, bin, frame)
    # Relative to the loudest source, so that no power underflows.
    loudest = models.amax(dim=0)
    shares = torch.where(loudest > 0, models / loudest.where(loudest > 0, 1.0), 1.0).pow_(exponent)
    return shares / shares.sum(dim=0)


@torch.no_grad()
def objective(
    X: Matrices,
    dictionary: Dictionaries,
    activations: Activations,
    *,
    divergence: Divergence = "kullback_leibler",
    sparsity: float = 0.0,
) -> Float[Tensor, " item"]:
    """Compute equation (1) for each item, in float64."""
    check_matrices(X, divergence)
    return Problem(X, dictionary, activations, divergence, sparsity, 0).objective()


def _flat(X: Tensor, dictionary: Tensor) -> Tensor:
    """Activations that are equal for all components, and give V the level of X in each frame."""
    spectrum = dictionary.mean(dim=1).sum(dim=1).clamp_min(torch.finfo(X.dtype).tiny)  # (item,)
    level = X.mean(dim=1, keepdim=True) / spectrum[:, None, None]  # (item, 1, frame)
    return level.repeat(1, dictionary.shape[-1], 1)


def _better(one: Factorisation, other: Factorisation) -> Factorisation:
    return choose_items(one.objective <= other.objective, one, other)
