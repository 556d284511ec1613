"""What is compared, and on what: separators by name, and a fixed set of mixtures."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from sepnet.types import Separator, SepnetError

UNSAFE_IN_FILE_NAMES = re.compile(r'[/\\:*?"<>|\x00-\x1f]|^[. ]|[. ]$|^$')


class LoadError(SepnetError):
    """A contender's separator can't be made (a missing file, a wrong name): nothing of it was scored."""


@dataclass(frozen=True)
class Contender:
    """A separator that takes part, under the name that it bears in the table and in file names.

    load: makes the separator in a fresh process, so it has to be picklable: functools.partial of a
    module-level function, such as ``partial(sepnet.artifact.load, "runs/tcn")``. version: tells one
    training of it from another (a hash of the weights, say); rows of one name and two versions are
    never mixed in one file. config: what it was made from, as text for the report. Raises SepnetError for a
    name that no file can bear.
    """

    name: str
    load: Callable[[], Separator]
    version: str = ""
    config: str = ""

    def __post_init__(self) -> None:
        if UNSAFE_IN_FILE_NAMES.search(self.name):
            raise SepnetError(
                f"the name {self.name!r} can't be a file name: leave out / \\ : * ? \" < > | and control "
                "characters, and dots and spaces at its ends"
            )


@runtime_checkable
class Described(Protocol):
    """What a test set may tell beside its mixtures, for the breakdown of a table: who speaks in them."""

    def sexes(self, index: int, /) -> tuple[str, ...]:
        """For each source of mixture ``index`` f or m, or an empty string where it is not known."""
        ...


@runtime_checkable
class Conditioned(Protocol):
    """A test set made under several conditions, such as levels, to break a table down by."""

    def condition(self, index: int, /) -> str:
        """A short name of the condition of mixture ``index``, such as ``-5 dB``."""
        ...
