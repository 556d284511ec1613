"""The models that the operator has chosen; requests can use no others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sepnet import artifact
from sepnet.types import Separator, SeparatorInfo, SepnetError


def summarise(info: SeparatorInfo) -> str:
    """Describe in a sentence or two what a separator does and needs, for the page and the API.

    Args:
        info: The description of the separator.
    """
    if "queries" in info.needs:
        task = "Extracts the sound that you give an example of."
    elif info.labels:
        task = f"Separates {', '.join(info.labels).replace('_', ' ')}."
    elif "n_sources" in info.needs:
        task = "Separates as many sources as you ask for."
    elif info.n_sources:
        task = f"Separates {info.n_sources} sources."
    else:
        task = "Finds the number of sources by itself."
    if info.sample_rate is None:
        return task
    kilohertz = info.sample_rate / 1000
    return (
        f"{task} Works at {kilohertz:g} kHz; what is above {kilohertz / 2:g} kHz is shared among the sources."
    )


class Models:
    """Separators by name, loaded once and shared by all requests. Nothing else is ever opened.

    Args:
        names: What ``sepnet.load`` takes. Clients see the short name that an evaluation gives the model, too:
            for a run folder, the last part of its path.

    Raises:
        SepnetError: No name is given, two are alike, a model can't be loaded, or it is an oracle.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._separators: dict[str, Separator] = {}
        for name in names:
            source = artifact.resolve(name)
            public_name = source.label
            if public_name in self._separators:
                raise SepnetError(f"models: two models are named {public_name!r}: rename a folder")
            separator = artifact.load(source)
            if "references" in separator.info.needs:
                raise SepnetError(f"models: {name} is an oracle, which needs the true sources: leave it out")
            self._separators[public_name] = separator
        if not self._separators:
            raise SepnetError("models: the list is empty, so there is nothing to serve: give models=[nmf]")

    def __getitem__(self, name: str) -> Separator:
        """The separator of a name.

        Raises:
            SepnetError: No model has this name.
        """
        if name not in self._separators:
            raise SepnetError(f"there is no model {name[:40]!r}: there are {', '.join(self._separators)}")
        return self._separators[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._separators)

    @property
    def default(self) -> str:
        """The name of the model for requests that name none: the first."""
        return next(iter(self._separators))

    def describe(self) -> list[dict[str, object]]:
        """Describe all models, in plain containers for JSON."""
        return [
            {
                "name": name,
                "about": summarise(separator.info),
                "needs": sorted(separator.info.needs),
                "n_sources": separator.info.n_sources,
                "labels": separator.info.labels,
                "sample_rate": separator.info.sample_rate,
            }
            for name, separator in self._separators.items()
        ]
