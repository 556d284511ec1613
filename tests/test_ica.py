"""FastICA finds what another implementation finds, obeys its invariances, and says what it doubts."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sepnet.evaluation.contender import Contender
from sepnet.evaluation.table import Line
from sepnet.evaluation.worker import Worker
from sepnet.separators.identity import Identity
from sepnet.types import Mixture, Separation, SeparationWarning

RATE = 8000


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Reservations


@dataclass(frozen=True)
class OneMixture:
    fingerprint: str = "one"

    def __len__(self) -> int:
        return 1

    def id(self, index: int) -> str:
        return "only"

    def __getitem__(self, index: int) -> Mixture:
        references = 0.1 * noise(2, 2000)
        return Mixture(references.sum(dim=0, keepdim=True), RATE, 2, None, references)


class Doubtful(Identity):
    """Has two reservations, one of them twice, and touches something deprecated."""

    needs: ClassVar[frozenset[str]] = frozenset({"n_sources"})

    def separate(self, mixture: Mixture) -> Separation:
        for _ in range(2):
            warnings.warn(SeparationWarning("it did not\nconverge"), stacklevel=1)
        warnings.warn(SeparationWarning("the level is a guess"), stacklevel=1)
        warnings.warn(UserWarning("of no concern"), stacklevel=1)
        return super().separate(mixture)


def test_a_reservation_shows_in_the_row_and_under_the_table() -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        rows = Worker(Contender("doubtful", Doubtful), OneMixture(), ("si_sdr",)).score(0)
    assert [(row.status, row.reason) for row in rows] == [
        ("ok", "it did not converge; the level is a guess")
    ] * 2
    assert [str(warning.message) for warning in shown] == ["of no concern"]
    assert Line("doubtful", rows).remarks(["si_sdr"]) == [
        "2 of 2 scored with a reservation: it did not converge; the level is a guess"
    ]
