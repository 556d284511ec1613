"""Types that say which values a setting may have. They are checked where a configuration is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Len, Lt

from sepnet.paths import expand_home
from sepnet.types import MAX_SOURCES
from sepnet.urls import local_path

PositiveInt = Annotated[int, Ge(1), Le(1_000_000_000)]
NonNegativeInt = Annotated[int, Ge(0), Le(1_000_000_000)]
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
"""A seed of random numbers; the largest is NumPy's."""
LayerSize = Annotated[int, Ge(1), Le(65_536)]
"""Channels, units or features of a layer, or its taps."""
Depth = Annotated[int, Ge(1), Le(1_000)]
"""How many times something is repeated in a network."""
NumberOfSources = Annotated[int, Ge(1), Le(MAX_SOURCES)]
SampleRate = Annotated[int, Ge(1_000), Le(768_000)]
"""In Hz."""
FrameSamples = Annotated[int, Ge(1), Le(1_048_576)]
"""Samples of a window or a hop."""
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Probability = Annotated[float, Ge(0), Le(1)]
"""A probability, or a share of a whole."""
Fraction = Annotated[float, Gt(0), Lt(1)]
"""A share of a whole that is neither nothing nor all of it."""
Dropout = Annotated[float, Ge(0), Lt(1)]
"""The probability that dropout sets a value to zero."""
Seconds = Annotated[float, Gt(0), Le(86_400)]
"""A duration of at most a day."""
Decibels = Annotated[float, Ge(-200), Le(200)]
SourceCount = NumberOfSources | Literal["auto"]
"""A number of sources, or ``auto`` where it is to be estimated."""
Device = Literal["cpu", "cuda"]
"""Where networks compute; which of several GPUs says CUDA_VISIBLE_DEVICES."""
Text = Annotated[str, Len(1)]


class Verbatim:
    """Marks a text that is typed as it is, without quotes and with any signs."""


class Location(Verbatim):
    """Marks a path, or a name that may be a path: ``~`` stands for the home folder."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Make the schema of the annotated type, whose values are then expanded."""
        from pydantic_core import core_schema

        expanded = core_schema.no_info_after_validator_function(_expand, handler(source))
        check = _check_path if source is Path else _check_not_empty
        return core_schema.no_info_before_validator_function(check, expanded)


class LocationOrUrl(Location):
    """Marks a path, or the URL of something in a store."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, str]:
        """Describe it, for messages."""
        return {"type": "string", "format": "a path or a URL"}


class Duration:
    """Marks a text that is a duration as Lightning reads it."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Make the schema of a text of this form."""
        from pydantic_core import core_schema

        return core_schema.str_schema(pattern=r"^\d+:\d\d:\d\d:\d\d$")

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, str]:
        """Describe it, for messages."""
        return {"type": "string", "format": "days:hours:minutes:seconds, as in 00:00:20:00"}


def _check_not_empty(value: Any) -> Any:
    """Refuse a path of no letters, which would stand for the present folder."""
    if value == "":
        raise ValueError
    return value


def _check_path(value: Any) -> Any:
    """Refuse no letters, and the URL of a store, which would become the name of a folder."""
    _check_not_empty(value)
    return str(local_path(value)) if isinstance(value, str) else value


def _expand(value: str | Path) -> str | Path:
    return type(value)(expand_home(value)) if str(value).startswith("~") else value


PathSetting = Annotated[Path, Location()]
PathOrUrl = Annotated[str, LocationOrUrl()]
NameOrPath = Annotated[str, Len(1), Location()]
"""A name of shipped weights, of a file in conf/model or on the hub, or a path."""
Name = Annotated[str, Len(1), Verbatim()]
Days = Annotated[str, Duration()]
Node = dict[str, Any]
"""A part of the configuration that describes an object by its ``_target_``."""
