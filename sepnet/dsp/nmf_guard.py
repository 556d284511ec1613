"""Updates of a factorisation by extrapolation, which never raise the objective: what the solvers share.

An extrapolated update may raise the objective. Where that of an item has risen, its factors are restored, its
extrapolation starts anew at half the rate, and a plain update follows, which does not raise it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from sepnet.dsp.nmf_updates import Problem

MIN_RATE_FACTOR, RATE_GROWTH, MAX_RATE = 0.5, 1.05, 0.95


class GuardedUpdates(ABC):
    """Updates of the factors of a problem, in place.

    Args:
        problem: Without sparsity, and not cut into parts.
        first_rate: The rate of extrapolation at first, which grows while the objective falls.
    """

    def __init__(self, problem: Problem, first_rate: float) -> None:
        self.problem = problem
        W, H = problem.W, problem.H
        self.rate = W.new_full((len(W), 1, 1), first_rate)
        self.value = torch.full((len(W),), float("inf"), dtype=torch.float64, device=W.device)
        self.saved = W.clone(), H.clone()
        self.is_plain = torch.zeros(len(W), 1, 1, dtype=torch.bool, device=W.device)
        self.n_done = 0

    def iterate(self) -> None:
        """Update the dictionary, then the activations."""
        self._guard()
        self._save_and_update(None)
        self.n_done += 1

    def settle(self) -> None:
        """Make sure that the objective has not risen: the factors may then be read."""
        if self._guard():
            self._save_and_update(self.is_plain)
        self.value.fill_(float("inf"))

    @abstractmethod
    def _objective(self) -> Tensor:
        """The objective of X at unit level, (item,), from sums that the updates need as well."""

    @abstractmethod
    def _forget(self, risen: Tensor) -> None:
        """Start extrapolation anew for the items (item, 1, 1) whose factors were restored."""

    @abstractmethod
    def _update(self, only: Tensor | None) -> None:
        """Update both factors of all items, or of some; those in ``is_plain`` without extrapolation."""

    def _save_and_update(self, only: Tensor | None) -> None:
        self.saved[0].copy_(self.problem.W)
        self.saved[1].copy_(self.problem.H)
        self._update(only)
        self.is_plain = torch.zeros_like(self.is_plain)

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
