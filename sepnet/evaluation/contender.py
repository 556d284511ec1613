"""The separators that take part in an evaluation, and what a test set may tell about its mixtures."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from sepnet.inference.pipeline import Pipeline, PipelineSettings
from sepnet.types import Separator, SepnetError

UNSAFE_IN_FILE_NAMES = re.compile(r'[/\\:*?"<>|\x00-\x1f]|^[. ]|[. ]$|^$')


class LoadError(SepnetError):
    """A separator cannot be loaded (a missing file, say), so nothing of it was scored."""


@dataclass(frozen=True)
class Contender:
    """A separator that takes part in an evaluation.

    Attributes:
        name: The name in tables and files.
        load: Makes the separator in a fresh process, so it has to be picklable: functools.partial of a
            module-level function, such as ``partial(sepnet.artifact.load, "runs/tcn")``.
        version: A text that differs between two trainings, such as a digest of the weights. Rows of one name
            and two versions are never mixed in one file.
        config: The settings of the separator, as text for the report.
        folder: The file or folder that it is loaded from, which all machines have to see; None for what is
            part of sepnet.

    Raises:
        SepnetError: The name cannot be that of a file.
    """

    name: str
    load: Callable[[], Separator]
    version: str = ""
    config: str = ""
    folder: Path | None = None

    def __post_init__(self) -> None:
        if UNSAFE_IN_FILE_NAMES.search(self.name):
            raise SepnetError(
                f'the name {self.name!r} cannot be a file name: leave out / \\ : * ? " < > | and control '
                "characters, and dots and spaces at its ends"
            )

    def pipeline(self, settings: PipelineSettings) -> Pipeline:
        """Load the separator, and put the pipeline around it through which every recording reaches it.

        Args:
            settings: The settings of the pipeline.
        """
        return Pipeline(self.load(), settings)


@runtime_checkable
class HasSexes(Protocol):
    """A test set that knows the sex of the speakers, by which the report breaks the table down."""

    def sexes(self, index: int, /) -> tuple[str, ...]:
        """Return f or m for each source of a mixture; an empty string if it is unknown."""
        ...


@runtime_checkable
class HasConditions(Protocol):
    """A test set made under several conditions, such as levels, by which the report breaks the table down."""

    def condition(self, index: int, /) -> str:
        """Return a short name for the condition of a mixture, such as ``-5 dB``."""
        ...
