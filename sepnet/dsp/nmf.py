"""Non-negative matrix factorisation by multiplicative updates, batched, on any device.

X (bin, frame) is described as W H, a dictionary W (bin, component) times activations H (component,
frame), all non-negative. Minimised is, with V = W H and the sparsity s,

    sum_fn d(x_fn | v_fn)  +  s sum_k |w_k|_2 |h_k|_1                                               (1)

    frobenius          d(x | v) = (x - v)^2 / 2        (Lee and Seung, NIPS 2000)
    kullback_leibler   d(x | v) = x log(x / v) - x + v (Lee and Seung, NIPS 2000)
    itakura_saito      d(x | v) = x / v - log(x / v) - 1   (Fevotte, Bertin and Durrieu 2009)

Both norms in the penalty make it blind to how a component's level is shared between w_k and h_k; a
plain |H|_1 would be made as small as one likes by shrinking H and growing W.

Updates. Fevotte and Idier ("Algorithms for nonnegative matrix factorization with the beta-divergence",
Neural Computation 23(9), 2011) bound each d from above by a function that touches it at the present h
and is separable in h. With t the factor by which h is to grow, and

    num = W^T (x v^(b-2)),   den = W^T v^(b-1),   b = 2, 1, 0 for the three divergences,

the bound on (1) is, up to a factor of h and constants,

    frobenius: den t^2 / 2 - num t + p t     kullback_leibler: den t - num log t + p t
    itakura_saito: den t + num / t + p t                                                           (2)

where p = s |w_k|_2 is the penalty's slope. By t <= (t^2 + 1) / 2 in the first line, all three have their
minimum at

    t = (num / (den + p))^g,   g = 1, 1, 1/2.                                                      (3)

None of these steps raises (1). For W the penalty is not linear: |w|_2 <= (|w|_2^2 / |w~|_2 + |w~|_2) / 2
at the present w~, whose slope in t is p t with p = s |h_k|_1 w~ / |w~|_2. What is linear in t is again
bounded by its square, and the minimum moves to t = (num / (den + p))^g with g = 1, 1/2, 1/3 (the common
power of Zhao and Tan, "A unified convergence analysis of the multiplicative update algorithm for
regularized nonnegative matrix factorization", IEEE TSP 66(1), 2018). Without sparsity g is as in (3).

Zeros. Itakura-Saito is infinite at x = 0, and both it and Kullback-Leibler at v = 0. ``FLOOR`` times the
mean of X is therefore added to X and to V alike, in these two: a constant component, which leaves (2)
and (3) as they are. scikit-learn instead raises what is below 1.2e-7, which is not monotone there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import threshold

from sepnet.types import SepnetError

Divergence = Literal["frobenius", "kullback_leibler", "itakura_saito"]
Start = Literal["random", "nndsvd"]
Matrices = Float[Tensor, "item bin frame"]
Dictionaries = Float[Tensor, "item bin component"]
Activations = Float[Tensor, "item component frame"]

DEGREE = {"frobenius": 2, "kullback_leibler": 1, "itakura_saito": 0}
"""How d(a x | a v) grows with the level a: as its power."""
FLOOR = 1e-10  # times the mean of X
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
    found = [
        _descend(
            _Problem(X[part], dictionary[part], activations[part], divergence, sparsity, n_fixed),
            n_iterations,
            tolerance,
        )
        for part in _parts(X)
    ]
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
    problem = _Problem(X, dictionary, _flat(X, dictionary), divergence, 0.0, n_components)
    even = problem.H.sum(dim=(1, 2)) / n_groups  # (item,)
    weight, smallest = penalty * X[0].numel(), 1e-3 * even[:, None] + problem.smallest
    for _ in range(n_iterations):
        totals = problem.H.sum(dim=2).reshape(len(X), n_groups, -1).sum(dim=2)  # (item, group)
        slopes = weight / (smallest + totals)
        problem.slopes = slopes.repeat_interleave(n_components // n_groups, dim=1).unsqueeze(-1)
        problem.update_activations()
    return problem.H * problem.level


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
    return _Problem(X, dictionary, activations, divergence, sparsity, 0).objective()


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


class _Problem:
    """Some items at unit level, their factors, and room for what each update needs."""

    def __init__(
        self,
        X: Tensor,
        dictionary: Tensor,
        activations: Tensor,
        divergence: Divergence,
        sparsity: float,
        n_fixed: int,
    ) -> None:
        self.divergence, self.sparsity, self.n_fixed = divergence, sparsity, n_fixed
        mean = X.mean(dim=(1, 2), keepdim=True)
        self.level = torch.where(mean > 0, mean, 1.0)
        self.X = X / self.level
        self.floor = 0.0 if divergence == "frobenius" else FLOOR
        self.X += self.floor
        self.W = dictionary.to(X, copy=True).contiguous()
        self.H = activations.to(X) / self.level
        # Below the root of the smallest number, products of two would be denormal, and those are slow.
        self.smallest = torch.finfo(X.dtype).tiny ** 0.5
        self.slopes: Tensor | None = None  # of a further penalty on the activations, per component
        self.V = torch.empty_like(self.X)
        self.Q = torch.empty_like(self.X) if divergence == "itakura_saito" else self.V

    def update_dictionary(self) -> None:
        """Equation (3) for the components that are free."""
        W, H = self.W[:, :, self.n_fixed :], self.H[:, self.n_fixed :]
        if self.divergence == "frobenius":
            num, den = self.X @ H.mT, self.W @ (self.H @ H.mT)
        else:
            powers = self._powers()
            num = self.Q @ H.mT
            den = H.sum(dim=-1).unsqueeze(1) if powers is None else powers @ H.mT
        exponent = 0.5 if self.divergence == "itakura_saito" else 1.0
        if self.sparsity:
            norms = W.norm(dim=1, keepdim=True).clamp_min(self.smallest)
            den = den + self.sparsity * H.sum(dim=-1).unsqueeze(1) * W / norms
            exponent = {"frobenius": 1.0, "kullback_leibler": 0.5, "itakura_saito": 1 / 3}[self.divergence]
        self._grow(W, num, den, exponent)

    def update_activations(self) -> None:
        """Equation (3) for all components."""
        Wt = self.W.mT
        if self.divergence == "frobenius":
            num, den = Wt @ self.X, (Wt @ self.W) @ self.H
        else:
            powers = self._powers()
            num = Wt @ self.Q
            den = Wt.sum(dim=-1, keepdim=True) if powers is None else Wt @ powers
        if self.sparsity:
            den = den + self.sparsity * self.W.norm(dim=1).unsqueeze(-1)
        if self.slopes is not None:
            den = den + self.slopes
        self._grow(self.H, num, den, 0.5 if self.divergence == "itakura_saito" else 1.0)

    def objective(self) -> Tensor:
        """Equation (1) for each item (item,), at the level that X had."""
        V = torch.bmm(self.W, self.H, out=self.V)
        if self.divergence == "frobenius":
            terms = V.sub_(self.X).square_().mul_(0.5)
        elif self.divergence == "kullback_leibler":
            V.add_(self.floor)
            terms = torch.log(self.X / V).mul_(self.X).add_(V).sub_(self.X)
        else:
            ratio = torch.div(self.X, V.add_(self.floor), out=self.Q)
            terms = torch.log(ratio, out=self.V).neg_().add_(ratio).sub_(1.0)
        total = terms.sum(dim=(1, 2), dtype=torch.float64)
        if self.sparsity:
            sizes = self.W.norm(dim=1) * self.H.sum(dim=-1)  # (item, component)
            total = total + self.sparsity * sizes.sum(dim=-1, dtype=torch.float64)
        return total * self.level.flatten().double() ** DEGREE[self.divergence]

    def factorisation(self, n_iterations: Tensor) -> Factorisation:
        """Where it stands, at the level that X had."""
        return Factorisation(self.W, self.H * self.level, self.objective(), n_iterations)

    def _powers(self) -> Tensor | None:
        """Leaves x v^(b-2) in Q; returns v^(b-1), or None where that is 1."""
        V = torch.bmm(self.W, self.H, out=self.V).add_(self.floor)
        if self.divergence == "kullback_leibler":
            torch.div(self.X, V, out=self.Q)
            return None
        torch.reciprocal(V, out=V)
        torch.mul(self.X, V, out=self.Q).mul_(V)
        return V

    def _grow(self, factor: Tensor, num: Tensor, den: Tensor, exponent: float) -> None:
        """factor times (num / den)^exponent, in place; where den is zero, so is factor or num."""
        growth = num.div_(den.clamp_min(self.smallest))
        if exponent == 0.5:
            growth.sqrt_()
        elif exponent != 1.0:
            growth.pow_(exponent)
        threshold(factor.mul_(growth), self.smallest, 0.0, inplace=True)


def _descend(problem: _Problem, n_iterations: int, tolerance: float) -> Factorisation:
    """Updates until each item has converged; one that has is kept as it was then."""
    n_items, device = len(problem.X), problem.X.device
    if tolerance == 0:
        for _ in range(n_iterations):
            problem.update_dictionary()
            problem.update_activations()
        return problem.factorisation(torch.full((n_items,), n_iterations, device=device))
    first = previous = problem.objective().clamp_min(0).sqrt()
    kept = problem.factorisation(torch.zeros(n_items, dtype=torch.int64, device=device))
    running = torch.ones(n_items, dtype=torch.bool, device=device)
    for iteration in range(1, n_iterations + 1):
        problem.update_dictionary()
        problem.update_activations()
        if iteration % CHECK_EVERY and iteration < n_iterations:
            continue
        now = problem.factorisation(torch.full((n_items,), iteration, device=device))
        kept = _choose(running, now, kept)
        current = now.objective.clamp_min(0).sqrt()
        running &= (previous - current) >= tolerance * first
        previous = current
        if not bool(running.any()):
            break
    return kept


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


def _parts(X: Tensor) -> list[slice]:
    """Items that are worked on together. On a CPU so few that their X stays in the cores' caches."""
    n_items, n_bytes = len(X), X[:1].numel() * X.element_size()
    size = n_items
    if X.device.type == "cpu" and n_bytes > 0:
        size = max(torch.get_num_threads(), CACHED_BYTES // n_bytes)
    return [slice(start, start + size) for start in range(0, n_items, size)]


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
