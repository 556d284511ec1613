"""Non-negative matrix factorisation by multiplicative updates, batched, on any device.

X (bin, frame) is described as W H, a dictionary W (bin, component) times activations H (component,
frame), all non-negative. Minimised is, with V = W H and the sparsity s,

    sum_fn d(x_fn | v_fn)  +  s sum_k |w_k|_2 |h_k|_1                                               (1)

    frobenius          d(x | v) = (x - v)^2 / 2        (Lee and Seung, NIPS 2000)
    kullback_leibler   d(x | v) = x log(x / v) - x + v (Lee and Seung, NIPS 2000)
    itakura_saito      d(x | v) = x / v - log(x / v) - 1   (Fevotte, Bertin and Durrieu 2009)

Both norms in the penalty make it blind to how a component's level is shared between w_k and h_k; a
plain |H|_1 would be made as small as one likes by shrinking H and growing W.

How it is minimised, and that the objective never rises: see sepnet.dsp.nmf_updates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sepnet.dsp.nmf_updates import DEGREE as DEGREE
from sepnet.dsp.nmf_updates import Divergence as Divergence
from sepnet.dsp.nmf_updates import Problem
from sepnet.types import SepnetError

Start = Literal["random", "nndsvd"]
Matrices = Float[Tensor, "item bin frame"]
Dictionaries = Float[Tensor, "item bin component"]
Activations = Float[Tensor, "item component frame"]

CHECK_EVERY = 10  # iterations between two looks at the objective
CACHED_BYTES = 2**20  # of X: more would not stay near a core from one iteration to the next


@dataclass(frozen=True)
class Factorisation:
    """X (item, bin, frame) as dictionary (item, bin, component) times activations (item, component, frame).

    objective: (item,) in float64, what was minimised, equation (1). n_iterations: (item,), how many it took.
    """

    dictionary: Tensor
    activations: Tensor
    objective: Tensor
    n_iterations: Tensor

    @property
    def model(self) -> Tensor:
        """Dictionary times activations: (item, bin, frame)."""
        return self.dictionary @ self.activations


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
) -> Factorisation:
    """Factorise from a start of its own choice; of several random starts the best objective is kept.

    tolerance, n_iterations, sparsity: see ``descend``. seed: of the random starts, the same on every
    device. Raises SepnetError for settings that can't be, negative X, NaN and infinity.
    """
    if start not in get_args(Start):
        raise SepnetError(f"start={start!r} is none of {', '.join(get_args(Start))}")
    if n_components < 1 or n_restarts < 1:
        raise SepnetError(
            f"n_components={n_components} and n_restarts={n_restarts}: both have to be 1 or more"
        )
    _check(X, divergence)
    generator = torch.Generator().manual_seed(seed)
    best: Factorisation | None = None
    for _ in range(n_restarts if start == "random" else 1):
        begin = nndsvd(X, n_components) if start == "nndsvd" else random_start(X, n_components, generator)
        found = descend(
            X,
            *begin,
            divergence=divergence,
            n_iterations=n_iterations,
            tolerance=tolerance,
            sparsity=sparsity,
        )
        best = found if best is None else _better(best, found)
    assert best is not None
    return best


@torch.no_grad()
def descend(
    X: Matrices,
    dictionary: Dictionaries,
    activations: Activations,
    *,
    divergence: Divergence = "kullback_leibler",
    n_iterations: int = 200,
    tolerance: float = 1e-4,
    sparsity: float = 0.0,
    n_fixed: int = 0,
) -> Factorisation:
    """Multiplicative updates from a given start: the dictionary, then the activations, in each iteration.

    n_fixed: the first so many components keep their spectra (all of them: the dictionary is given, and
    only the activations are found). tolerance: an item ends where the root of its objective fell by less
    than this share of the first in ten iterations, as in scikit-learn; 0 for all ``n_iterations``.
    sparsity: the weight s of equation (1), for X of mean 1: the same at every level of X.

    A zero in the start stays zero. The start is left as it was. Items do not see each other. Raises
    SepnetError for negative X, NaN, infinity, and shapes that do not fit.
    """
    _check(X, divergence)
    n_components = dictionary.shape[-1]
    if not 0 <= n_fixed <= n_components or n_iterations < 0 or tolerance < 0 or sparsity < 0:
        raise SepnetError(
            f"n_fixed={n_fixed} has to be between 0 and the {n_components} components, "
            f"and n_iterations={n_iterations}, tolerance={tolerance} and sparsity={sparsity} not negative"
        )
    size, n_parts = _parts(X)
    found = []
    for first in range(0, len(X), size):
        part = slice(first, first + size)
        problem = Problem(
            X[part], dictionary[part], activations[part], divergence, sparsity, n_fixed, n_parts
        )
        found.append(_descend(problem, n_iterations, tolerance))
    return Factorisation(
        *(torch.cat([getattr(each, name) for each in found]) for name in Factorisation.__dataclass_fields__)
    )


def activate(
    X: Matrices,
    dictionary: Dictionaries,
    *,
    divergence: Divergence = "kullback_leibler",
    n_iterations: int = 100,
    tolerance: float = 0.0,
    sparsity: float = 0.0,
) -> Activations:
    """The activations of X for a given dictionary, from a flat start: each frame is found on its own.

    The problem is convex for the Frobenius norm and Kullback-Leibler, so the start does not matter there.
    """
    return descend(
        X,
        dictionary,
        _flat(X, dictionary),
        divergence=divergence,
        n_iterations=n_iterations,
        tolerance=tolerance,
        sparsity=sparsity,
        n_fixed=dictionary.shape[-1],
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
    """Activations of a dictionary of groups, few of which are active: block sparsity.

    Minimised is D(X | W H) + s sum_g log(e + |H_g|_1), with |H_g|_1 all activations of a group (item,
    component, frame) over all of X: Lefevre, Bach and Fevotte, "Itakura-Saito nonnegative matrix
    factorization with group sparsity", ICASSP 2011, eq. 5, and with dictionaries of speakers Sun and
    Mysore, "Universal speech models for speaker independent single channel source separation", ICASSP
    2013. The logarithm lies under its tangent at the present H, which is a penalty as in (2), of slope
    s / (e + |H_g|_1); so the objective never rises. s is ``penalty`` times the number of entries of X,
    which itself is brought to mean 1, and e a thousandth of an even share of the activations: neither
    depends on the level or the length of X.

    n_groups: the components are so many groups of equal size, one after the other. Raises SepnetError
    where they can't be.
    """
    _check(X, divergence)
    n_components = dictionary.shape[-1]
    if n_groups < 1 or n_components % n_groups or penalty < 0:
        raise SepnetError(
            f"{n_components} components can't be {n_groups} groups of equal size with a penalty of {penalty}"
        )
    problem = Problem(X, dictionary, _flat(X, dictionary), divergence, 0.0, n_components)
    even = problem.H.sum(dim=(1, 2)) / n_groups  # (item,): the problem is not cut into parts
    weight, smallest = penalty * X[0].numel(), 1e-3 * even[:, None] + problem.smallest
    for _ in range(n_iterations):
        totals = problem.H.sum(dim=2).reshape(len(X), n_groups, -1).sum(dim=2)  # (item, group)
        slopes = weight / (smallest + totals)
        problem.slopes = slopes.repeat_interleave(n_components // n_groups, dim=1)
        problem.update_activations()
    return problem.activations


def gains(
    dictionary: Float[Tensor, "bin component"],
    activations: Float[Tensor, "component frame"],
    sources: Int[Tensor, " component"],
    n_sources: int,
    exponent: float = 2.0,
) -> Float[Tensor, "source bin frame"]:
    """Each source's share V_i^p / sum_j V_j^p of the model's power p, equal where there is no model.

    sources: which source each component belongs to. V_i is the part of W H that these components make.
    """
    models = torch.stack(
        [dictionary[:, sources == i] @ activations[sources == i] for i in range(n_sources)]
    )  # (source, bin, frame)
    # Relative to the loudest, so that no power of a small number is lost.
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
    """Equation (1) for each item, in float64."""
    _check(X, divergence)
    return Problem(X, dictionary, activations, divergence, sparsity, 0).objective()


def random_start(X: Matrices, n_components: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """|N(0, 1)| in both factors, at the level of X. generator: on the CPU, whatever the device of X."""
    n_items, n_bins, n_frames = X.shape
    level = (X.mean(dim=(1, 2), keepdim=True) / n_components).sqrt()
    level = torch.where(level > 0, level, 1.0)
    shapes = ((n_items, n_bins, n_components), (n_items, n_components, n_frames))
    draws = [torch.randn(shape, generator=generator, dtype=torch.float64).abs() for shape in shapes]
    dictionary, activations = (draw.to(X) * level for draw in draws)
    return dictionary, activations


def nndsvd(X: Matrices, n_components: int) -> tuple[Tensor, Tensor]:
    """A start from the singular vectors, the same each time, with zeros filled by the mean of X.

    Boutsidis and Gallopoulos, "SVD based initialization: a head start for nonnegative matrix
    factorization", Pattern Recognition 41(4), 2008: of each singular triplet the positive or the negative
    half, whichever is larger; the filling is their NNDSVDa, since a zero would stay zero.

    Raises SepnetError for more components than X has bins or frames.
    """
    if n_components > min(X.shape[1:]):
        raise SepnetError(
            f"an NNDSVD start has at most as many components as X has bins and frames: {n_components} of "
            f"{X.shape[1]} and {X.shape[2]} can't be; take fewer, or a random start"
        )
    U, S, Vh = torch.linalg.svd(X.double(), full_matrices=False)
    U, S, V = U[..., :n_components], S[:, :n_components], Vh[:, :n_components].mT
    halves = [(U.clamp_min(0), V.clamp_min(0)), ((-U).clamp_min(0), (-V).clamp_min(0))]
    norms = [(u.norm(dim=1), v.norm(dim=1)) for u, v in halves]  # (item, component) each
    sizes = [u * v for u, v in norms]
    positive = (sizes[0] >= sizes[1])[:, None]
    mean = X.double().mean(dim=(1, 2), keepdim=True)
    factors = []
    for side in (0, 1):
        units = [
            half[side] / norm[side][:, None].clamp_min(1e-300)
            for half, norm in zip(halves, norms, strict=True)
        ]
        factor = (S * torch.maximum(*sizes)).sqrt()[:, None] * torch.where(positive, *units)
        factors.append(torch.where(factor < 1e-6 * mean.sqrt(), mean, factor))
    return factors[0].to(X), factors[1].mT.to(X)


def _flat(X: Tensor, dictionary: Tensor) -> Tensor:
    """Activations (item, component, frame), alike in each frame, that give the model the level of X there."""
    spectrum = dictionary.mean(dim=1).sum(dim=1).clamp_min(torch.finfo(X.dtype).tiny)  # (item,)
    level = X.mean(dim=1, keepdim=True) / spectrum[:, None, None]  # (item, 1, frame)
    return level.repeat(1, dictionary.shape[-1], 1)


def _descend(problem: Problem, n_iterations: int, tolerance: float) -> Factorisation:
    """Updates until each item has converged; one that has is kept as it was then."""
    n_items, device = problem.n_items, problem.X.device
    if tolerance == 0:
        for _ in range(n_iterations):
            problem.update_dictionary()
            problem.update_activations()
        return _stand(problem, torch.full((n_items,), n_iterations, device=device))
    first = previous = problem.objective().clamp_min(0).sqrt()
    kept = _stand(problem, torch.zeros(n_items, dtype=torch.int64, device=device))
    running = torch.ones(n_items, dtype=torch.bool, device=device)
    for iteration in range(1, n_iterations + 1):
        problem.update_dictionary()
        problem.update_activations()
        if iteration % CHECK_EVERY and iteration < n_iterations:
            continue
        now = _stand(problem, torch.full((n_items,), iteration, device=device))
        kept = _choose(running, now, kept)
        current = now.objective.clamp_min(0).sqrt()
        running &= (previous - current) >= tolerance * first
        previous = current
        if not bool(running.any()):
            break
    return kept


def _stand(problem: Problem, n_iterations: Tensor) -> Factorisation:
    """Where a problem stands."""
    return Factorisation(problem.dictionary.clone(), problem.activations, problem.objective(), n_iterations)


def _choose(first: Tensor, one: Factorisation, other: Factorisation) -> Factorisation:
    """Item by item: ``one`` where ``first`` (item,) is true, else ``other``."""
    wide = first[:, None, None]
    return Factorisation(
        torch.where(wide, one.dictionary, other.dictionary),
        torch.where(wide, one.activations, other.activations),
        torch.where(first, one.objective, other.objective),
        torch.where(first, one.n_iterations, other.n_iterations),
    )


def _better(one: Factorisation, other: Factorisation) -> Factorisation:
    return _choose(one.objective <= other.objective, one, other)


def _parts(X: Tensor) -> tuple[int, int]:
    """How many items are worked on together, and into how many parts the frames of each are cut.

    On a CPU there are so few that X and V stay in the cores' own caches from one pass to the next.
    """
    n_items, n_bytes = len(X), X[:1].numel() * X.element_size()
    if X.device.type != "cpu":
        return n_items, 1
    n_threads = torch.get_num_threads()
    together = min(n_items, max(n_threads, CACHED_BYTES // n_bytes))
    return together, 1 if X.shape[2] < n_threads else max(1, n_threads // together)


def _check(X: Tensor, divergence: str) -> None:
    if divergence not in DEGREE:
        raise SepnetError(f"divergence={divergence!r} is none of {', '.join(DEGREE)}")
    if X.numel() == 0:
        raise SepnetError(f"X is {tuple(X.shape)}: there is nothing to factorise")
    lowest, highest = (float(value) for value in X.aminmax())
    if not (lowest >= 0 and highest < float("inf")):
        raise SepnetError(
            f"X is between {lowest:.4g} and {highest:.4g}: a non-negative factorisation wants finite numbers "
            "that are not negative"
        )
