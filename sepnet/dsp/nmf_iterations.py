"""Non-negative matrix factorisation from given factors: iterations until each item has converged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.dsp.nmf_extrapolated import ExtrapolatedUpdates
from sepnet.dsp.nmf_guard import GuardedUpdates
from sepnet.dsp.nmf_hals import HierarchicalLeastSquares
from sepnet.dsp.nmf_least_squares_start import start_by_least_squares
from sepnet.dsp.nmf_updates import DEGREE, Divergence, MultiplicativeUpdates, Problem
from sepnet.types import SepnetError

Matrices = Float[Tensor, "item bin frame"]
Dictionaries = Float[Tensor, "item bin component"]
Activations = Float[Tensor, "item component frame"]

Solver = Literal["auto", "accelerated", "multiplicative"]
ACCELERATED: dict[Divergence, Callable[[Problem], GuardedUpdates]] = {
    "frobenius": HierarchicalLeastSquares,
    "kullback_leibler": ExtrapolatedUpdates,
    "itakura_saito": ExtrapolatedUpdates,
}

CHECK_EVERY = 10  # iterations between two evaluations of the objective
CACHED_BYTES = 2**20  # of X: more does not stay in the cache of a core from one iteration to the next


@dataclass(frozen=True)
class Factorisation:
    """A factorisation of each item of X (item, bin, frame).

    Attributes:
        dictionary: W, (item, bin, component).
        activations: H, (item, component, frame).
        objective: Equation (1), (item,) in float64.
        n_iterations: (item,), how many iterations each item took.
    """

    dictionary: Tensor
    activations: Tensor
    objective: Tensor
    n_iterations: Tensor

    @property
    def model(self) -> Tensor:
        """V, dictionary times activations, (item, bin, frame)."""
        return self.dictionary @ self.activations


@torch.no_grad()
def factorise_from(
    X: Matrices,
    dictionary: Dictionaries,
    activations: Activations,
    *,
    divergence: Divergence = "kullback_leibler",
    n_iterations: int = 200,
    tolerance: float = 1e-4,
    sparsity: float = 0.0,
    n_fixed: int = 0,
    solver: Solver = "auto",
) -> Factorisation:
    """Factorise matrices from given factors: each iteration updates the dictionary, then the activations.

    Zeros in the factors stay zero. Items do not influence each other, and the given factors are not changed.

    Args:
        X: (item, bin, frame), not negative.
        dictionary: The initial W, (item, bin, component).
        activations: The initial H, (item, component, frame).
        divergence: The function d of equation (1).
        n_iterations: Most iterations.
        tolerance: An item has converged where the square root of its objective fell by less than this share
            of its first value in ten iterations, as in scikit-learn; with 0 all iterations are made.
        sparsity: The weight s of equation (1) for X of mean 1: it has the same effect at every level of X.
        n_fixed: The spectra of this many components, the first ones, are not updated.
        solver: ``multiplicative``, the updates of the textbooks (sepnet.dsp.nmf_updates), or ``accelerated``,
            which reaches the same objective sooner: sepnet.dsp.nmf_hals for the Frobenius norm and
            sepnet.dsp.nmf_extrapolated for the others, after a start by least squares unless all spectra are
            fixed (sepnet.dsp.nmf_least_squares_start). None raises the objective. ``auto`` is the one that
            takes less time: ``multiplicative`` with sparsity, for which there is no other, and for
            Kullback-Leibler with all spectra fixed; else ``accelerated``.

    Returns:
        The factorisation of each item.

    Raises:
        SepnetError: A setting is out of range, or X has negative numbers, NaN or infinity.
    """
    check_matrices(X, divergence)
    n_components = dictionary.shape[-1]
    if not 0 <= n_fixed <= n_components or n_iterations < 0 or tolerance < 0 or sparsity < 0:
        raise SepnetError(
            f"n_fixed={n_fixed} has to be between 0 and the {n_components} components, "
            f"and n_iterations={n_iterations}, tolerance={tolerance} and sparsity={sparsity} not negative"
        )
    if solver not in get_args(Solver):
        raise SepnetError(f"solver={solver!r} is none of {', '.join(get_args(Solver))}")
    size, n_parts = cache_parts(X)
    learns = n_fixed < n_components
    pays = solver == "accelerated" or (solver == "auto" and (learns or divergence != "kullback_leibler"))
    is_accelerated = pays and sparsity == 0
    batches = []
    for first in range(0, len(X), size):
        part = slice(first, first + size)
        problem = Problem(
            X[part],
            dictionary[part],
            activations[part],
            divergence,
            sparsity,
            n_fixed,
            1 if is_accelerated else n_parts,
        )
        given = problem.objective() if tolerance else None
        if is_accelerated and n_iterations and divergence != "frobenius" and learns:
            start_by_least_squares(problem)
        updates: GuardedUpdates | MultiplicativeUpdates
        updates = ACCELERATED[divergence](problem) if is_accelerated else MultiplicativeUpdates(problem)
        batches.append(_iterate(problem, updates, n_iterations, tolerance, given))
    return Factorisation(
        *(torch.cat([getattr(each, name) for each in batches]) for name in Factorisation.__dataclass_fields__)
    )


def _iterate(
    problem: Problem,
    updates: GuardedUpdates | MultiplicativeUpdates,
    n_iterations: int,
    tolerance: float,
    given: Tensor | None,
) -> Factorisation:
    """Update until each item has converged; its factors are kept as they were then.

    ``given`` (item,) is the objective of the given factors, against which convergence is judged; None: all
    iterations are made.
    """
    n_items, device = problem.n_items, problem.X.device
    if given is None:
        for _ in range(n_iterations):
            updates.iterate()
        updates.settle()
        return _current(problem, torch.full((n_items,), n_iterations, device=device))
    first, previous = given.clamp_min(0).sqrt(), problem.objective().clamp_min(0).sqrt()
    kept = _current(problem, torch.zeros(n_items, dtype=torch.int64, device=device))
    running = torch.ones(n_items, dtype=torch.bool, device=device)
    for iteration in range(1, n_iterations + 1):
        updates.iterate()
        if iteration % CHECK_EVERY and iteration < n_iterations:
            continue
        updates.settle()
        now = _current(problem, torch.full((n_items,), iteration, device=device))
        kept = choose_items(running, now, kept)
        current = now.objective.clamp_min(0).sqrt()
        running &= (previous - current) >= tolerance * first
        previous = current
        if not bool(running.any()):
            break
    return kept


def _current(problem: Problem, n_iterations: Tensor) -> Factorisation:
    """The current factors of a problem."""
    return Factorisation(problem.dictionary.clone(), problem.activations, problem.objective(), n_iterations)


def choose_items(first: Tensor, one: Factorisation, other: Factorisation) -> Factorisation:
    """For each item ``one`` where ``first`` (item,) is true, else ``other``."""
    wide = first[:, None, None]
    return Factorisation(
        torch.where(wide, one.dictionary, other.dictionary),
        torch.where(wide, one.activations, other.activations),
        torch.where(first, one.objective, other.objective),
        torch.where(first, one.n_iterations, other.n_iterations),
    )


def cache_parts(X: Tensor) -> tuple[int, int]:
    """How many items are processed together, and into how many parts the frames of each are cut.

    On a CPU they are so few that X and V stay in the caches of the cores from one pass to the next.
    """
    n_items, n_bytes = len(X), X[:1].numel() * X.element_size()
    if X.device.type != "cpu":
        return n_items, 1
    n_threads = torch.get_num_threads()
    together = min(n_items, max(n_threads, CACHED_BYTES // n_bytes))
    return together, 1 if X.shape[2] < n_threads else max(1, n_threads // together)


def check_matrices(X: Tensor, divergence: str) -> None:
    """Raise SepnetError for an unknown divergence, and for X that is empty, negative, NaN or infinite."""
    if divergence not in DEGREE:
        raise SepnetError(f"divergence={divergence!r} is none of {', '.join(DEGREE)}")
    if X.numel() == 0:
        raise SepnetError(f"X is {tuple(X.shape)}, so it has no entries: give at least one")
    lowest, highest = (float(value) for value in X.aminmax())
    if not (lowest >= 0 and highest < float("inf")):
        raise SepnetError(
            f"X has values from {lowest:.4g} to {highest:.4g}: a non-negative factorisation needs finite "
            "numbers that are not negative"
        )
