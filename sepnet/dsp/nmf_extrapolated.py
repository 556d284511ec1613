"""Multiplicative updates with extrapolation, for Kullback-Leibler and Itakura-Saito.

An update multiplies an entry by a factor t, equation (3) of sepnet.dsp.nmf_updates. Its logarithm is a step,
to which a share of the entry's last step is added: the extrapolation of A. M. S. Ang, N. Gillis,
"Accelerating nonnegative matrix factorization algorithms using extrapolation", Neural Computation 31(2),
2019, in logarithms. Where the step of an entry turns, its extrapolation starts anew.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import threshold

from sepnet.dsp.nmf_guard import GuardedUpdates
from sepnet.dsp.nmf_updates import Problem

FIRST_RATE = 0.7
GUARD_EVERY = 4  # iterations: the logarithm of X / V takes as long as a product
MAX_LOG_STEP = 5.0


class ExtrapolatedUpdates(GuardedUpdates):
    """Multiplicative updates, extrapolated.

    Args:
        problem: Of Kullback-Leibler or Itakura-Saito, without sparsity, and not cut into parts.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem, FIRST_RATE, GUARD_EVERY)
        self.constant = problem.X.sum(dim=-1).sum(dim=-1, dtype=torch.float64)
        self.last_steps = [torch.zeros_like(problem.W), torch.zeros_like(problem.H)]
        self.scratch = torch.empty_like(problem.X)

    def _prepare(self) -> None:
        self._ratio()

    def _objective(self) -> Tensor:
        problem = self.problem
        ratio = self._ratio()
        log = torch.log(ratio, out=self.scratch)
        if problem.divergence == "kullback_leibler":
            sums = [rows.sum(dim=-1).double() for rows in (problem.floored_W, problem.floored_H)]
            total = log.mul_(problem.X).sum(dim=-1).sum(dim=-1, dtype=torch.float64)
            return total - self.constant + (sums[0] * sums[1]).sum(dim=-1)
        total = torch.sub(ratio, log, out=log).sum(dim=-1).sum(dim=-1, dtype=torch.float64)
        return total - problem.X[0].numel()

    def _forget(self, risen: Tensor) -> None:
        for steps in self.last_steps:
            steps.masked_fill_(risen, 0.0)
        self._ratio()

    def _update(self, only: Tensor | None) -> None:
        if self.problem.n_fixed < self.problem.n_components:
            self._multiply(0, only)
            self._ratio()
        self._multiply(1, only)

    def _ratio(self) -> Tensor:
        """X / V, in ``problem.Q``."""
        return torch.div(self.problem.X, self.problem._model(), out=self.problem.Q)

    def _multiply(self, index: int, only: Tensor | None) -> None:
        """Update the dictionary (0) or the activations (1) of all items or some; Q and V are current."""
        problem, first = self.problem, self.problem.n_fixed if index == 0 else 0
        factor = (problem.W, problem.H)[index][:, first:]
        other = (problem.H[:, first:], problem.W)[index]
        Q = problem.Q.mT if index == 0 else problem.Q
        if problem.divergence == "kullback_leibler":
            num, den = torch.bmm(other, Q), other.sum(dim=-1, keepdim=True)
        else:
            inverse = problem.V.reciprocal_()
            problem.Q.mul_(inverse)
            num, den = torch.bmm(other, Q), torch.bmm(other, inverse.mT if index == 0 else inverse)
        step = num.div_(den.clamp_min(problem.smallest)).clamp_min_(problem.smallest).log_()
        if problem.divergence == "itakura_saito":
            step.mul_(0.5)
        last = self.last_steps[index][:, first:]  # zero in items whose update is to be plain
        kept = (step * last).sign_().clamp_min_(0.0).mul_(last)  # zero where the step turned
        torch.addcmul(step, kept, self.rate, out=step).clamp_(-MAX_LOG_STEP, MAX_LOG_STEP)
        if only is None:
            last.copy_(step)
            threshold(factor.mul_(step.exp_()), problem.smallest, 0.0, inplace=True)
        else:
            last.copy_(torch.where(only, step, last))
            updated = threshold(factor * step.exp(), problem.smallest, 0.0)
            factor.copy_(torch.where(only, updated, factor))
