"""Accelerated updates for non-negative matrix factorisation, which never raise the objective.

The objective is equation (1) of sepnet.dsp.nmf without sparsity. Three means are combined:

1. Frobenius: hierarchical alternating least squares (A. Cichocki, A.-H. Phan, "Fast local algorithms for
   large scale nonnegative matrix and tensor factorizations", 2009). With all else fixed, the best spectrum of
   a component, and its best activations, are in closed form:
   h_k = max(0, (w_k^T X - sum_j!=k w_k^T w_j h_j) / |w_k|^2). The products
   W^T X and W^T W serve all components.
2. Kullback-Leibler and Itakura-Saito: near a good model both are weighted squares, with the weights 1 / v and
   1 / v^2. With the weights of a rank-one model of X, 1 / (r_f c_n), the first iteration consists of
   ``N_WARM`` iterations of 1. on X / (r c)^(1/2), whose factors are then raised to ``MIN_SHARE`` of their
   mean. All further iterations are multiplicative updates (sepnet.dsp.nmf_updates). Where some spectra are
   fixed and others learnt, these begin at once: least squares could trap the latter in a poor minimum.
3. Extrapolation (A. M. S. Ang, N. Gillis, "Accelerating nonnegative matrix factorization algorithms using
   extrapolation", Neural Computation 31(2), 2019): each update is continued in the direction of the last
   change, in logarithms for multiplicative updates, where an entry whose direction turned starts anew.

Where the objective of an item has risen, its factors are restored, its extrapolation starts anew at half the
rate, and a plain update follows, which does not raise the objective.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import threshold

from sepnet.dsp.nmf_updates import Problem

N_WARM = 10
MIN_SHARE = 1e-2
MIN_RATE_FACTOR, RATE_GROWTH, MAX_RATE = 0.5, 1.05, 0.95
FIRST_RATE = {"frobenius": 0.4, "kullback_leibler": 0.7, "itakura_saito": 0.7}
WARM_RATE = 0.5
MAX_LOG_STEP = 5.0


class AcceleratedUpdates:
    """Accelerated updates of the factors of a problem, in place.

    Args:
        problem: Without sparsity, and not cut into parts.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        W, H = problem.W, problem.H
        self.is_frobenius = problem.divergence == "frobenius"
        self.exponent = 0.5 if problem.divergence == "itakura_saito" else 1.0
        self.rate = W.new_full((len(W), 1, 1), FIRST_RATE[problem.divergence])
        self.value = torch.full((len(W),), float("inf"), dtype=torch.float64, device=W.device)
        self.saved = W.clone(), H.clone()
        self.is_plain = torch.zeros(len(W), 1, 1, dtype=torch.bool, device=W.device)
        self.n_done = 0
        self.masks = [(factor > 0) if bool((factor == 0).any()) else None for factor in (W, H)]
        if self.is_frobenius:
            self.constant = 0.5 * problem.X.square().sum(dim=-1).sum(dim=-1, dtype=torch.float64)
            self.scaled_X = problem.X
            self.before = [W.clone(), H.clone()]
            return
        self.constant = problem.X.sum(dim=-1).sum(dim=-1, dtype=torch.float64)
        self.momentum = [torch.zeros_like(W), torch.zeros_like(H)]
        self.scratch = torch.empty_like(problem.X)

    def iterate(self) -> None:
        """Update the dictionary, then the activations."""
        self._guard()
        self._save()
        if self.is_frobenius:
            rate = torch.where(self.is_plain, 0.0, self.rate) if self.n_done else 0.0
            self._squares([self.problem.W, self.problem.H], rate)
        else:
            if self.n_done == 0 and not 0 < self.problem.n_fixed < self.problem.n_components:
                self._warm()
            else:
                self._multiply(0)
                self._ratio()
                self._multiply(1)
        self.is_plain = torch.zeros_like(self.is_plain)
        self.n_done += 1

    def settle(self) -> None:
        """Make sure that the objective has not risen: the factors may then be read."""
        if self._guard():
            self._save()
            if self.is_frobenius:
                self._squares([self.problem.W, self.problem.H], 0.0, only=self.is_plain)
            else:
                self._multiply(0, self.is_plain)
                self._ratio()
                self._multiply(1, self.is_plain)
            self.is_plain = torch.zeros_like(self.is_plain)
        self.value.fill_(float("inf"))

    def _save(self) -> None:
        self.saved[0].copy_(self.problem.W)
        self.saved[1].copy_(self.problem.H)

    def _guard(self) -> bool:
        """Restore the factors of items whose objective has risen, and return whether there are any."""
        value = self._objective()
        has_risen = ~(value <= self.value)
        self.value = torch.where(has_risen, self.value, value)
        rose = bool(has_risen.any())
        risen = has_risen[:, None, None]
        grown = (self.rate * RATE_GROWTH).clamp_max(MAX_RATE)
        if not rose:
            if self.n_done:
                self.rate = grown
            return False
        self.rate = torch.where(risen, self.rate * MIN_RATE_FACTOR, grown)
        for factor, saved in zip((self.problem.W, self.problem.H), self.saved, strict=True):
            factor.copy_(torch.where(risen, saved, factor))
        if self.is_frobenius:
            H = self.problem.H
            self.products = H @ self.problem.X.mT, H @ H.mT
            self.before = [
                torch.where(risen, saved, before)
                for saved, before in zip(self.saved, self.before, strict=True)
            ]
        else:
            for momentum in self.momentum:
                momentum.masked_fill_(risen, 0.0)
            self._ratio()
        self.is_plain = risen
        return True

    def _objective(self) -> Tensor:
        """The objective of X at unit level, (item,), from sums that the updates need as well."""
        problem = self.problem
        if self.is_frobenius:
            W, H = problem.W, problem.H
            self.products = H @ problem.X.mT, H @ H.mT
            cross = (self.products[0] * W).sum(dim=-1).sum(dim=-1, dtype=torch.float64)
            square = ((W @ W.mT) * self.products[1]).sum(dim=(1, 2), dtype=torch.float64)
            return self.constant - cross + 0.5 * square
        ratio = self._ratio()
        log = torch.log(ratio, out=self.scratch)
        if problem.divergence == "kullback_leibler":
            sums = [rows.sum(dim=-1, dtype=torch.float64) for rows in (problem.floored_W, problem.floored_H)]
            total = log.mul_(problem.X).sum(dim=-1).sum(dim=-1, dtype=torch.float64)
            return total - self.constant + (sums[0] * sums[1]).sum(dim=-1)
        log.neg_().add_(ratio).sub_(1.0)
        return log.sum(dim=-1).sum(dim=-1, dtype=torch.float64)

    def _ratio(self) -> Tensor:
        """X / V, in ``problem.Q``."""
        return torch.div(self.problem.X, self.problem._model(), out=self.problem.Q)

    def _multiply(self, index: int, only: Tensor | None = None) -> None:
        """Update the dictionary (0) or the activations (1) of all items or some; Q and V are current."""
        problem, first = self.problem, self.problem.n_fixed if index == 0 else 0
        factor = (problem.W, problem.H)[index][:, first:]
        other = (problem.H[:, first:], problem.W)[index]
        if factor.shape[1] == 0:
            return
        Q = problem.Q.mT if index == 0 else problem.Q
        if problem.divergence == "kullback_leibler":
            num, den = other @ Q, other.sum(dim=-1, keepdim=True)
        else:
            inverse = problem.V.reciprocal_()
            problem.Q.mul_(inverse)
            num, den = other @ Q, other @ (inverse.mT if index == 0 else inverse)
        ratio = num.div_(den.clamp_min(problem.smallest)).clamp_min_(problem.smallest)
        plain = ratio.log_().mul_(self.exponent)
        momentum = self.momentum[index][:, first:]
        kept = torch.where(plain * momentum < 0, 0.0, momentum) * self.rate
        step = torch.where(self.is_plain, plain, (plain + kept).clamp_(-MAX_LOG_STEP, MAX_LOG_STEP))
        if only is None:
            momentum.copy_(step)
            threshold(factor.mul_(step.exp_()), problem.smallest, 0.0, inplace=True)
        else:
            momentum.copy_(torch.where(only, step, momentum))
            updated = threshold(factor * step.exp(), problem.smallest, 0.0)
            factor.copy_(torch.where(only, updated, factor))

    def _warm(self) -> None:
        """Start with least squares on X / (r c)^(1/2)."""
        problem = self.problem
        X = problem.X
        rows = X.mean(dim=2, keepdim=True).sqrt()  # (item, bin, 1)
        columns = (X.mean(dim=1, keepdim=True) / X.mean(dim=(1, 2), keepdim=True)).sqrt()  # (item, 1, frame)
        scales = (rows.mT, columns)
        self.scaled_X = X / rows / columns
        scaled = [factor / scale for factor, scale in zip((problem.W, problem.H), scales, strict=True)]
        self.before = [factor.clone() for factor in scaled]
        for sweep in range(N_WARM):
            self._squares(scaled, WARM_RATE if sweep else 0.0)
        for index, factor in enumerate((problem.W, problem.H)):
            first = problem.n_fixed if index == 0 else 0
            new = torch.maximum(scaled[index], MIN_SHARE * scaled[index].mean(dim=-1, keepdim=True))
            new = new * scales[index]
            mask = self.masks[index]
            if mask is not None:
                new = new * mask
            factor[:, first:] = new[:, first:]
        del self.scaled_X, self.before

    def _squares(self, factors: list[Tensor], rate: Tensor | float, only: Tensor | None = None) -> None:
        """Make an iteration of least squares on ``scaled_X``, extrapolated; of all items or some."""
        for index, factor in enumerate(factors):
            first = self.problem.n_fixed if index == 0 else 0
            if first == factor.shape[1]:
                continue
            other, X = factors[1 - index], self.scaled_X.mT if index == 0 else self.scaled_X
            if index == 0 and self.is_frobenius:
                num, gram = self.products
            else:
                num, gram = other @ X, other @ other.mT
            start = factor.clone()
            self._sweep(factor, num, gram, first, self.masks[index])
            new = factor.clone()
            if not isinstance(rate, float) or rate > 0:
                factor[:, first:] += rate * (new - self.before[index])[:, first:]
                threshold(factor, self.problem.smallest, 0.0, inplace=True)
            if only is None:
                self.before[index] = new
            else:
                self.before[index] = torch.where(only, new, self.before[index])
                factor.copy_(torch.where(only, factor, start))

    def _sweep(self, factor: Tensor, num: Tensor, gram: Tensor, first: int, mask: Tensor | None) -> None:
        """The best values of one component after the other, in place."""
        squares = gram.diagonal(dim1=1, dim2=2).unsqueeze(2).clamp_min(self.problem.smallest)
        num, gram = num / squares, gram / squares
        gram.diagonal(dim1=1, dim2=2).zero_()
        best = torch.empty_like(factor[:, :1])
        for k in range(first, factor.shape[1]):
            torch.baddbmm(num[:, k : k + 1], gram[:, k : k + 1], factor, alpha=-1, out=best)
            row = factor[:, k : k + 1]
            torch.clamp(best, min=0.0, out=row)
            if mask is not None:
                row.mul_(mask[:, k : k + 1])
