"""The models that the operator allowed: the only ones that a request can name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sepnet import artifact
from sepnet.types import Separator, SepnetError


@dataclass(frozen=True)
class Model:
    """One of them. n_sources: what it was made for; None: whatever it is told, or it finds out."""

    name: str
    separator: Separator

    @property
    def n_sources(self) -> int | None:
        """The number that it was made for."""
        return self.separator.info.n_sources

    @property
    def sample_rate(self) -> int | None:
        """The one that it works at, in Hz; None: any."""
        return self.separator.info.sample_rate

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The classes that its outputs stand for."""
        return self.separator.info.labels

    @property
    def about(self) -> str:
        """What it does and wants, in a sentence or two."""
        needs = self.separator.info.needs
        if "queries" in needs:
            told = "Takes out the sound that you give an example of."
        elif self.labels:
            told = f"Separates {', '.join(self.labels).replace('_', ' ')}."
        elif "n_sources" in needs:
            told = "Separates as many sources as you ask for."
        elif self.n_sources:
            told = f"Separates {self.n_sources} sources."
        else:
            told = "Finds the number of sources by itself."
        rate = self.sample_rate
        if rate is None:
            return told
        return f"{told} Works at {rate / 1000:g} kHz, and shares what is above {rate / 2000:g} kHz alike."

    def describe(self) -> dict[str, object]:
        """As JSON."""
        return {
            "name": self.name,
            "about": self.about,
            "needs": sorted(self.separator.info.needs),
            "n_sources": self.n_sources,
            "labels": self.labels,
            "sample_rate": self.sample_rate,
        }


class Models:
    """All of them, loaded once and shared. Nothing else is ever opened."""

    def __init__(self, names: Iterable[str]) -> None:
        """names: what ``sepnet.load`` takes; of a path its last part is the name that clients see.

        Raises SepnetError for no names, for two of one name, what can't be loaded, and for an oracle.
        """
        self._models: dict[str, Model] = {}
        for name in names:
            shown = Path(name).name
            if shown in self._models:
                raise SepnetError(f"models: two are called {shown!r}: rename a folder")
            separator = artifact.load(name)
            if "references" in separator.info.needs:
                raise SepnetError(f"models: {name} is an oracle, which has to see the sources: leave it out")
            self._models[shown] = Model(shown, separator)
        if not self._models:
            raise SepnetError("models: none is named, so there is nothing to serve: say models=[nmf]")

    def __getitem__(self, name: str) -> Model:
        """Raises SepnetError for a name that is not among them."""
        if name not in self._models:
            raise SepnetError(f"no model is called {name[:40]!r}: there are {', '.join(self._models)}")
        return self._models[name]

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())
