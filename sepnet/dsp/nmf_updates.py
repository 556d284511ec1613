"""The multiplicative updates that minimise equation (1) of sepnet.dsp.nmf.

Updates. Fevotte and Idier ("Algorithms for nonnegative matrix factorization with the beta-divergence",
Neural Computation 23(9), 2011) bound each d from above by a function that touches it at the current h
and is separable in h. Let t be the factor by which h changes, and

    num = W^T (x v^(b-2)),   den = W^T v^(b-1),   b = 2, 1, 0 for the three divergences,

Then the bound on (1) is, up to a factor of h and constants,

    frobenius: den t^2 / 2 - num t + p t     kullback_leibler: den t - num log t + p t
    itakura_saito: den t + num / t + p t                                                           (2)

where p = s |w_k|_2 is the penalty's slope. By t <= (t^2 + 1) / 2 in the first line, all three have their
minimum at

    t = (num / (den + p))^g,   g = 1, 1, 1/2.                                                      (3)

None of these steps increases (1). For W the penalty is not linear: |w|_2 <= (|w|_2^2 / |w~|_2 + |w~|_2) / 2
at the current w~, whose slope in t is p t with p = s |h_k|_1 w~ / |w~|_2. What is linear in t is again
bounded by its square, and the minimum moves to t = (num / (den + p))^g with g = 1, 1/2, 1/3 (the common
power of Zhao and Tan, "A unified convergence analysis of the multiplicative update algorithm for
regularized nonnegative matrix factorization", IEEE TSP 66(1), 2018). Without sparsity g is as in (3).

Zeros. Itakura-Saito is infinite at x = 0, and both it and Kullback-Leibler at v = 0. For these two,
``FLOOR`` times the mean of X is therefore added to X and to V: this is a constant component, so (2) and (3)
still hold. scikit-learn instead clips values below 1.2e-7, where the objective may increase.

Layout. Both factors are stored with time or frequency last, and with one more row: the dictionary W^T
(component + 1, bin), whose last row is the floor, and the activations (component + 1, frame), whose last
row is one. Their product is V including the floor, without another pass over V. X may be cut into parts
along its frames, which are then items of a batched product: each core keeps its part in its cache.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad, threshold

Divergence = Literal["frobenius", "kullback_leibler", "itakura_saito"]
DEGREE = {"frobenius": 2, "kullback_leibler": 1, "itakura_saito": 0}
"""The power p of d(a x | a v) = a^p d(x | v)."""
FLOOR = 1e-10  # relative to the mean of X


class Problem:
    """Items at unit level, their factors, and the memory for their updates.

    Args:
        X: (item, bin, frame).
        dictionary: (item, bin, component).
        activations: (item, component, frame).
        divergence: The function d.
        sparsity: The weight s.
        n_fixed: The first components, whose spectra are not updated.
        n_parts: Into how many parts the frames are cut. A part is an item of its own in X, H, V and Q, filled
            up with frames in which X and H are zero.
    """

    def __init__(
        self,
        X: Tensor,
        dictionary: Tensor,
        activations: Tensor,
        divergence: Divergence,
        sparsity: float,
        n_fixed: int,
        n_parts: int = 1,
    ) -> None:
        self.divergence, self.sparsity, self.n_fixed, self.n_parts = divergence, sparsity, n_fixed, n_parts
        self.n_items, self.n_bins, self.n_frames = X.shape
        self.n_components = dictionary.shape[-1]
        mean = X.mean(dim=(1, 2), keepdim=True)
        self.level = torch.where(mean > 0, mean, 1.0)
        self.X = self._cut(X / self.level)  # (item x part, bin, frame)
        H, W = self._cut(activations.to(X) / self.level), dictionary.to(X).mT
        if divergence != "frobenius":
            self.X += FLOOR
            H, W = pad(H, (0, 0, 0, 1), value=1.0), pad(W, (0, 0, 0, 1), value=FLOOR)
        self.floored_W, self.floored_H = W.clone(memory_format=torch.contiguous_format), H.contiguous()
        self.W = self.floored_W[:, : self.n_components]  # (item, component, bin)
        self.H = self.floored_H[:, : self.n_components]  # (item x part, component, frame)
        # Products of two numbers below the root of the smallest one would be denormal, which is slow.
        self.smallest = torch.finfo(X.dtype).tiny ** 0.5
        self.slopes: Tensor | None = None  # (item, component), of another penalty on the activations
        self.V = torch.empty_like(self.X)
        self.Q = torch.empty_like(self.X) if divergence == "itakura_saito" else self.V

    @property
    def dictionary(self) -> Tensor:
        """W, (item, bin, component)."""
        return self.W.mT

    @property
    def activations(self) -> Tensor:
        """H, (item, component, frame), at the original level of X."""
        parts = self.H.reshape(self.n_items, self.n_parts, self.n_components, -1)
        joined: Tensor = parts.transpose(1, 2).flatten(2)[..., : self.n_frames]
        return joined * self.level

    def update_dictionary(self) -> None:
        """Apply equation (3) to the spectra that are not fixed."""
        W, H = self.W[:, self.n_fixed :], self.H[:, self.n_fixed :]
        if self.divergence == "frobenius":
            num = self._over_parts(H @ self.X.mT)
            den = self._over_parts(H @ self.H.mT) @ self.W
        else:
            powers = self._powers()
            num = self._over_parts(H @ self.Q.mT)
            den = self._over_parts(H.sum(dim=-1, keepdim=True) if powers is None else H @ powers.mT)
        exponent = 0.5 if self.divergence == "itakura_saito" else 1.0
        if self.sparsity:
            norms = W.norm(dim=-1, keepdim=True).clamp_min(self.smallest)
            sums = self._over_parts(H.sum(dim=-1, keepdim=True))  # (item, component, 1)
            den = den + self.sparsity * sums * W / norms
            exponent = {"frobenius": 1.0, "kullback_leibler": 0.5, "itakura_saito": 1 / 3}[self.divergence]
        self._scale(W, num, den, exponent)

    def update_activations(self) -> None:
        """Apply equation (3) to all activations."""
        W = self._for_parts(self.W)
        if self.divergence == "frobenius":
            num, den = W @ self.X, self._for_parts(self.W @ self.W.mT) @ self.H
        else:
            powers = self._powers()
            num = W @ self.Q
            den = W.sum(dim=-1, keepdim=True) if powers is None else W @ powers
        if self.sparsity:
            den = den + self.sparsity * W.norm(dim=-1, keepdim=True)
        if self.slopes is not None:
            den = den + self._for_parts(self.slopes.unsqueeze(-1))
        self._scale(self.H, num, den, 0.5 if self.divergence == "itakura_saito" else 1.0)

    def objective(self) -> Tensor:
        """Compute equation (1) for each item, (item,), at the original level of X."""
        V = self._model()
        if self.divergence == "frobenius":
            terms = V.sub_(self.X).square_().mul_(0.5)
        elif self.divergence == "kullback_leibler":
            terms = torch.log(self.X / V).mul_(self.X).add_(V).sub_(self.X)
        else:
            ratio = torch.div(self.X, V, out=self.Q)
            terms = torch.log(ratio, out=self.V).neg_().add_(ratio).sub_(1.0)
        total = self._over_parts(terms.sum(dim=(1, 2), dtype=torch.float64))
        if self.sparsity:
            sizes = self.W.norm(dim=-1) * self._over_parts(self.H.sum(dim=-1))  # (item, component)
            total = total + self.sparsity * sizes.sum(dim=-1, dtype=torch.float64)
        return total * self.level.flatten().double() ** DEGREE[self.divergence]

    def _model(self) -> Tensor:
        """V, including the floor."""
        return torch.bmm(self._for_parts(self.floored_W).mT, self.floored_H, out=self.V)

    def _powers(self) -> Tensor | None:
        """Store x v^(b-2) in Q, and return v^(b-1); None where that is 1."""
        V = self._model()
        if self.divergence == "kullback_leibler":
            torch.div(self.X, V, out=self.Q)
            return None
        torch.reciprocal(V, out=V)
        torch.mul(self.X, V, out=self.Q).mul_(V)
        return V

    def _scale(self, factor: Tensor, num: Tensor, den: Tensor, exponent: float) -> None:
        """Multiply a factor by (num / den)^exponent in place; where den is 0, factor or num is 0, too."""
        ratio_power = num.div_(den.clamp_min(self.smallest))
        if exponent == 0.5:
            ratio_power.sqrt_()
        elif exponent != 1.0:
            ratio_power.pow_(exponent)
        threshold(factor.mul_(ratio_power), self.smallest, 0.0, inplace=True)

    def _cut(self, rows: Tensor) -> Tensor:
        """(item, row, frame) to (item x part, row, frame)."""
        if self.n_parts == 1:
            return rows
        length = -(-self.n_frames // self.n_parts)
        filled = pad(rows, (0, length * self.n_parts - self.n_frames))
        parts: Tensor = filled.reshape(self.n_items, -1, self.n_parts, length).transpose(1, 2)
        return parts.flatten(0, 1).contiguous()

    def _over_parts(self, values: Tensor) -> Tensor:
        """The sum over an item's parts: (item x part, ...) to (item, ...)."""
        if self.n_parts == 1:
            return values
        return values.reshape(self.n_items, self.n_parts, *values.shape[1:]).sum(dim=1)

    def _for_parts(self, values: Tensor) -> Tensor:
        """Repeat for each part of an item: (item, ...) to (item x part, ...)."""
        if self.n_parts == 1:
            return values
        return values.unsqueeze(1).expand(-1, self.n_parts, *values.shape[1:]).flatten(0, 1)


class MultiplicativeUpdates:
    """The updates of the textbooks, in place: equation (3).

    Args:
        problem: Whose factors are updated.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def iterate(self) -> None:
        """Update the dictionary, then the activations."""
        self.problem.update_dictionary()
        self.problem.update_activations()

    def settle(self) -> None:
        """Do nothing: no update raises the objective."""
