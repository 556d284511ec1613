"""Updates of a factorisation by extrapolation, which never raise the objective: what the solvers share.

An extrapolated update may raise the objective, so it is looked at every few iterations. Where that of an item
is higher than at the last look, its factors become those of then, its extrapolation starts anew at half the
rate, and a plain update follows, which does not raise it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from sepnet.dsp.nmf_updates import Problem

MIN_RATE_FACTOR, RATE_GROWTH, MAX_RATE = 0.5, 1.05, 0.95


class GuardedUpdates(ABC):
    """Updates of the factors of a problem, in place; never does the objective rise from look to look.

    Args:
        problem: Without sparsity, and not cut into parts.
        first_rate: The rate of extrapolation at first, which grows while the objective falls.
        guard_every: Iterations between two looks at the objective, where it costs much of an iteration.
    """

    def __init__(self, problem: Problem, first_rate: float, guard_every: int = 1) -> None:
        self.problem, self.guard_every = problem, guard_every
        W, H = problem.W, problem.H
        self.rate = W.new_full((len(W), 1, 1), first_rate)
        self.value = torch.full((len(W),), float("inf"), dtype=torch.float64, device=W.device)
        self.saved = W.clone(), H.clone()
        self.is_plain = torch.zeros(len(W), 1, 1, dtype=torch.bool, device=W.device)
        self.n_done, self.until_guard = 0, 0

    def iterate(self) -> None:
        """Update the dictionary, then the activations."""
        if self.until_guard == 0:
            self._guard()
            self._save()
            self.until_guard = self.guard_every
        else:
            self._prepare()
        self._update(None)
        self.is_plain = torch.zeros_like(self.is_plain)
        self.until_guard -= 1
        self.n_done += 1

    def settle(self) -> None:
        """Make sure that the objective has not risen: the factors may then be read."""
        if self._guard():
            self._save()
            self._update(self.is_plain)
            self.is_plain = torch.zeros_like(self.is_plain)
        self.value.fill_(float("inf"))
        self.until_guard = 0

    @abstractmethod
    def _prepare(self) -> None:
        """Compute what the updates of the current factors need."""

    @abstractmethod
    def _objective(self) -> Tensor:
        """The objective of X at unit level, (item,), and what ``_prepare`` computes."""

    @abstractmethod
    def _forget(self, risen: Tensor) -> None:
        """Start extrapolation anew for the items (item, 1, 1) whose factors were restored."""

    @abstractmethod
    def _update(self, only: Tensor | None) -> None:
        """Update both factors of all items, or of some; those in ``is_plain`` without extrapolation."""

    def _save(self) -> None:
        self.saved[0].copy_(self.problem.W)
        self.saved[1].copy_(self.problem.H)

    def _guard(self) -> bool:
        """Restore the factors of items whose objective has risen, and return whether there are any."""
        value = self._objective()
        has_risen = ~(value <= self.value)
        self.value = torch.where(has_risen, self.value, value)
        risen = has_risen[:, None, None]
        grown = (self.rate * RATE_GROWTH).clamp_max(MAX_RATE)
        if not bool(has_risen.any()):
            if self.n_done:
                self.rate = grown
            return False
        self.rate = torch.where(risen, self.rate * MIN_RATE_FACTOR, grown)
        for factor, saved in zip((self.problem.W, self.problem.H), self.saved, strict=True):
            factor.copy_(torch.where(risen, saved, factor))
        self._forget(risen)
        self.is_plain = risen
        return True
