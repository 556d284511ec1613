"""FastICA: the directions in which whitened signals are least Gaussian.

A. Hyvarinen, E. Oja: "Independent component analysis: algorithms and applications", Neural Networks 13,
2000; equation numbers are theirs. With microphones x = A s, whitening z = K (x - mean) leaves a rotation R
to be found (section 5.2). One row w of it is a fixed point of

    w <- E[z g(w z)] - E[g'(w z)] w,    w <- w / |w|                                        (40)

for a contrast G with derivative g:

    logcosh    g(u) = tanh(alpha u)              robust, for most sounds                     (26)
    exp        g(u) = u exp(-u^2 / 2)            for very sparse ones                        (26)
    cube       g(u) = u^3                        kurtosis; sensitive to outliers

Rows are estimated one after the other, each orthogonalised to those before it (deflation, eq. 42), or
together, with R <- (R R')^(-1/2) R after each step (symmetric, eq. 43). The latter matrix is U V' of the
singular value decomposition R = U S V', which is how it is computed here.

Everything is in float64: for microphones close to each other A is ill-conditioned, and float32 would lose
their differences.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float64
from torch import Tensor

from sepnet.types import CannotSeparate, SepnetError

Contrast = Literal["logcosh", "exp", "cube"]
BLOCK_ELEMENTS = 32_768  # fits into the cache of a core; torch does not split a smaller one among threads
RANK_TOLERANCE = 1e-12  # power, relative to the strongest direction: at -120 dB lies the rounding of float32


@dataclass(frozen=True)
class Unmixing:
    """The result of FastICA: components are ``matrix @ (x - mean)``, uncorrelated and of unit power.

    Attributes:
        matrix: From channels to components.
        mixing: Its inverse; its pseudoinverse where there are more channels than components.
        iterations: The largest number of iterations of any component.
        converged: Whether all components converged.
    """

    matrix: Float64[Tensor, "component channel"]
    mixing: Float64[Tensor, "channel component"]
    iterations: int
    converged: bool


def fast_ica(
    x: Float64[Tensor, "channel sample"],
    n_components: int | None = None,
    *,
    contrast: Contrast = "logcosh",
    alpha: float = 1.0,
    deflation: bool = False,
    start: Float64[Tensor, "component component"] | None = None,
    seed: int = 0,
    tolerance: float = 1e-8,
    max_iterations: int = 200,
) -> Unmixing:
    """Estimate independent components; their order and signs are arbitrary.

    Args:
        x: The signals of the channels.
        n_components: How many, from the subspace of the strongest principal components; None: as many as
            channels.
        contrast: The function g, see the module.
        alpha: Of the contrast ``logcosh``.
        deflation: Whether components are estimated one after the other, otherwise together.
        start: The initial rotation in whitened coordinates; None: it is drawn.
        seed: Of that draw.
        tolerance: It has converged once no row changes by more than this in a step, as 1 - |cos(angle)|:
            1e-8 is 0.008 degrees.
        max_iterations: Largest number of iterations, with deflation of each component.

    Returns:
        The unmixing matrix and its inverse.

    Raises:
        SepnetError: There is no contrast of this name.
        CannotSeparate: The rank of ``x`` is smaller than ``n_components``.

    Example:
        >>> x = torch.rand(2, 1000, dtype=torch.float64)
        >>> fast_ica(x).matrix.shape
        torch.Size([2, 2])
    """
    n = len(x) if n_components is None else n_components
    if contrast not in get_args(Contrast):
        raise SepnetError(f"the contrast {contrast!r} is none of {', '.join(get_args(Contrast))}")
    covariance = torch.cov(x, correction=0).reshape(len(x), len(x))
    if not 1 <= n <= rank(covariance):
        raise CannotSeparate(
            f"{n} components cannot be estimated from {len(x)} channels of rank {rank(covariance)}: "
            "take fewer"
        )
    whitening, unwhitening = _principal(covariance, n)
    z = whitening @ (x - x.mean(dim=1, keepdim=True))
    if start is None:
        start = torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=x.dtype).to(x.device)
    find = _deflation if deflation else _symmetric
    step = _Step.of(contrast, alpha, z)
    rotation, iterations, converged = find(start, step, tolerance, max_iterations)
    return Unmixing(rotation @ whitening, unwhitening @ rotation.T, iterations, converged)


def rank(covariance: Float64[Tensor, "channel channel"]) -> int:
    """Count the directions that have power, to the rounding of float32."""
    power = torch.linalg.eigvalsh(covariance)
    return int((power > RANK_TOLERANCE * power[-1]).sum()) if power[-1] > 0 else 0


def _principal(covariance: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The n strongest principal components scaled to unit power (component, channel), and the way back."""
    power, directions = torch.linalg.eigh(covariance)  # ascending
    power, directions = power.flip(0)[:n], directions.flip(1)[:, :n]
    # The sign of an eigenvector is arbitrary; scikit-learn's gives the same results from the same start.
    directions = directions * torch.where(directions[0] < 0, -1.0, 1.0)
    return (directions / power.sqrt()).T, directions * power.sqrt()


@dataclass(frozen=True)
class _Step:
    """One step of (40) for all rows w (row, component) at once, without the normalisation.

    z (component, sample) is split into blocks that fit into the cache, and that torch does not split among
    threads, which would take more time than it saves.
    """

    contrast: Contrast
    alpha: float
    z: tuple[Tensor, ...]

    @classmethod
    def of(cls, contrast: Contrast, alpha: float, z: Tensor) -> _Step:
        size = max(1, BLOCK_ELEMENTS // len(z))
        blocks = tuple(z[:, k : k + size].contiguous() for k in range(0, z.shape[1], size))
        return cls(contrast, alpha, blocks)

    def __call__(self, w: Tensor) -> Tensor:
        expectation, slope, n_samples = torch.zeros_like(w), w.new_zeros(len(w)), 0
        for block in self.z:
            g, slopes = self._contrast_of(w @ block)
            expectation += g @ block.T
            slope += slopes
            n_samples += block.shape[1]
        turned: Tensor = (expectation - slope[:, None] * w) / n_samples
        return turned

    def _contrast_of(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """g(u) (row, sample), and the sum of g'(u) over the samples (row,).

        The sum follows from sums of squares and products, without an array of g'(u).
        """
        if self.contrast == "logcosh":
            g = u.mul_(self.alpha).tanh_()
            return g, self.alpha * (u.shape[1] - torch.linalg.vecdot(g, g))
        if self.contrast == "exp":
            bell = (u * u).mul_(-0.5).exp_()
            g = u * bell
            return g, bell.sum(dim=1) - torch.linalg.vecdot(u, g)
        square = u * u
        return square * u, 3 * square.sum(dim=1)


def _symmetric(start: Tensor, step: _Step, tolerance: float, max_iterations: int) -> tuple[Tensor, int, bool]:
    rotation = _nearest_rotation(start)
    for iteration in range(1, max_iterations + 1):
        turned = _nearest_rotation(step(rotation))
        moved = float(((turned * rotation).sum(dim=1).abs() - 1).abs().max())
        rotation = turned
        if moved < tolerance:
            return rotation, iteration, True
    return rotation, max_iterations, False


def _deflation(start: Tensor, step: _Step, tolerance: float, max_iterations: int) -> tuple[Tensor, int, bool]:
    rotation = start.new_zeros(0, len(start))
    max_taken, all_converged = 0, True
    for k in range(len(start)):
        row = start[k : k + 1] / start[k].norm()
        iterations, moved = 0, math.inf
        while iterations < max_iterations and moved >= tolerance:
            turned = step(row)
            turned = turned - turned @ rotation.T @ rotation
            turned = turned / turned.norm()
            moved = float(((turned * row).sum().abs() - 1).abs())
            row, iterations = turned, iterations + 1
        max_taken, all_converged = max(max_taken, iterations), all_converged and moved < tolerance
        rotation = torch.cat([rotation, row])
    return rotation, max_taken, all_converged


def _nearest_rotation(matrix: Tensor) -> Tensor:
    """(M M')^(-1/2) M, which is the orthogonal matrix nearest to M."""
    left, _, right = torch.linalg.svd(matrix)
    rotation: Tensor = left @ right
    return rotation
