"""The settings of another toolkit's model, checked as they are taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sepnet.artifact.build import shorten
from sepnet.types import SepnetError

MAX_NETWORK_SOURCES = 16
MAX_CHANNELS = 8192
MAX_LAYERS = 256
MAX_SAMPLE_RATE = 768_000


class Settings:
    """The settings of a foreign model, which have to be of the expected types and within bounds.

    Args:
        values: By name.
        place: Where they stand, for messages.
    """

    def __init__(self, values: object, place: str) -> None:
        if not isinstance(values, Mapping):
            raise SepnetError(f"{place} has to be a mapping, but is a {type(values).__name__}")
        self._values: dict[str, Any] = {str(name): value for name, value in values.items()}
        self.place = place

    def whole(self, name: str, default: float | None, *, most: int, least: int = 1) -> int:
        """Take a whole number, or ``default``; where that is None, it has to be there."""
        value = self._values.pop(name, None)
        value = default if value is None else value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise SepnetError(
                f"{self.place}: {name}={shorten(value)} has to be a number from {least} to {most}"
            )
        return value

    def flag(self, name: str, default: bool) -> bool:
        """Take true or false."""
        value = self._values.pop(name, default)
        if not isinstance(value, bool):
            raise SepnetError(f"{self.place}: {name}={shorten(value)} has to be true or false")
        return value

    def choice(self, name: str, default: str | bool | None, choices: Mapping[Any, str]) -> str:
        """Take one of several values, and return what it stands for."""
        value = self._values.pop(name, default)
        if not isinstance(value, str | bool | None) or value not in choices:
            known = ", ".join(str(choice) for choice in choices)
            raise SepnetError(f"{self.place}: {name}={shorten(value)} is not supported; known are {known}")
        return choices[value]

    def only(self, name: str, value: str | bool, *, default: str | bool | None = None) -> None:
        """Refuse any value but one; ``default`` is the toolkit's, where it has another."""
        self.choice(name, value if default is None else default, {value: ""})

    def ignore(self, *names: str) -> None:
        """Leave out settings that matter to training alone."""
        for name in names:
            self._values.pop(name, None)

    def finish(self) -> None:
        """Raise SepnetError for settings that nobody has taken: they might change what the model computes."""
        if self._values:
            raise SepnetError(f"{self.place}: the setting {shorten(min(self._values))!r} is unknown")
