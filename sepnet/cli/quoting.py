"""Values as people type them: paths and other texts need no quotes of Hydra's grammar."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

LITERALS = ("", "null", "true", "false", "???")
QUOTES = ("'", '"')


def quoted(word: str, verbatim: Mapping[str, bool], *, sweep: bool = False) -> str:
    """Quote the value of an override where Hydra would not read it as it was typed.

    That is so for paths, such as ``out=a,b`` or ``out=2024``, and for every other value that the grammar
    can't read, such as ``data.corpus.root=/home/me/R&B``.

    Args:
        word: ``name=value``, or any other word of the command line, which is returned as it is.
        verbatim: The settings that hold texts, and whether they hold lists of them.
        sweep: Whether commas separate the values of several runs.

    Returns:
        The override, with quotes where they are needed.
    """
    name, equals, value = word.partition("=")
    if not equals or name.startswith(("-", "~")) or _is_written_for_hydra(value):
        return word
    key = name.lstrip("+")
    if key in verbatim and not (sweep and "," in value):
        return f"{name}={_quote_list(value) if verbatim[key] else _quote(value)}"
    return word if _is_readable(word) else f"{name}={_quote_list(value)}"


def unquoted(value: str) -> str | None:
    """Read a value that Hydra does not see: null is None, and quotes around a text are left out.

    Args:
        value: As it was typed.
    """
    if value == "null":
        return None
    is_quoted = len(value) > 1 and value.startswith(QUOTES) and value[-1] == value[0]
    return value[1:-1] if is_quoted else value


def _quote_list(value: str) -> str:
    """Quote each item of a list, or a value that is none."""
    if not (value.startswith("[") and value.endswith("]")):
        return _quote(value)
    items = [item.strip() for item in value[1:-1].split(",")]
    return f"[{','.join(item if _is_written_for_hydra(item) else _quote(item) for item in items)}]"


def _quote(value: str) -> str:
    """A text in single quotes. Backslashes are doubled before quotes and at the end, to be themselves."""
    inside = re.sub(r"(\\*)'", lambda match: 2 * match[1] + "\\'", value)
    return "'" + re.sub(r"\\+$", lambda match: 2 * match[0], inside) + "'"


def _is_written_for_hydra(value: str) -> bool:
    return value in LITERALS or value.startswith(QUOTES) or "${" in value


def _is_readable(word: str) -> bool:
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        return False
    return True
