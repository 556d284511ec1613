"""Read text and JSON files that programs wrote and people have copied: refused in a sentence where damaged.

The counterpart of ``sepnet.atomic``. What a JSON file has to hold is given as a type, so that a file of
another content is refused where it is read, and not noticed where it is used.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sepnet.types import SepnetError

MAX_REASON = 200  # characters


def read_text(path: str | Path) -> str:
    """Read a text file in UTF-8.

    Args:
        path: The file.

    Raises:
        SepnetError: It is missing, no file, not readable, or no text.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error


def read_json(path: str | Path, content: Any = dict[str, Any]) -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        content: The type of what it has to hold: plain containers, a TypedDict, or a dataclass.

    Returns:
        The content, of this type.

    Raises:
        SepnetError: It can't be read, or holds something else.

    Example:
        >>> read_json("metrics.json", dict[str, float])  # doctest: +SKIP
        {'si_sdri_db': 7.5}
    """
    text = read_text(path)
    try:
        return _adapter(content).validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise unreadable(path, f"{place or 'content'}: {first['msg']}") from error


def unreadable(path: str | Path, reason: object) -> SepnetError:
    """Make the error for a file that can't be read.

    Args:
        path: The file.
        reason: Why, such as the error that was raised.
    """
    text = getattr(reason, "strerror", None) or " ".join(str(reason).split())
    return SepnetError(f"{path} can't be read ({text[:MAX_REASON]}): copy it again, or make it anew")


@cache
def _adapter(content: Any) -> Any:
    return TypeAdapter(content)
