"""For mkdocs.yml: the docstrings, which are prose for a terminal, as Markdown.

    audio: (*channel, time). sample_rate: in Hz. Raises SepnetError for NaN.

has each parameter (or field) begin a paragraph, in bold, and so have Raises, Returns and the entries of a
list of references ([1] ...); asterisks and underscores stay what they are. What is in backticks, and indented
examples, are left alone.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

NAMES = re.compile(r"(?P<before>^|[.;:)] )(?P<names>\w+(?:, \w+)*): (?=\S)", re.MULTILINE)
ENDS = re.compile(r"(?<=[.)]) (?=(?:Raises|Returns) )|\n(?=\[\d+\] )")
VERBATIM = re.compile(r"(``?[^`]+``?)")
SPECIAL = re.compile(r"([*_<>\[\]])")


class Prose(griffe.Extension):
    """Changes the docstrings of a package once it is loaded."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Griffe's hook."""
        _rewrite(pkg)


def _rewrite(node: griffe.Object) -> None:
    if node.docstring is not None:
        node.docstring.value = markdown(node.docstring.value, _names(node))
    for member in node.members.values():
        if not member.is_alias:
            _rewrite(member)  # type: ignore[arg-type]


def _names(node: griffe.Object) -> set[str]:
    """What a docstring may explain: parameters of a function, parameters and fields of a class."""
    names = {parameter.name.lstrip("*") for parameter in getattr(node, "parameters", ())}
    if node.is_class:
        names |= {name for name, member in node.members.items() if member.is_attribute}
    return names


def markdown(text: str, names: set[str]) -> str:
    """The docstring as Markdown; ``names`` are those that it may explain."""
    paragraphs = []
    for paragraph in text.split("\n\n"):
        if paragraph.startswith((" ", ">>>")):
            paragraphs.append(paragraph)
            continue
        apart = ENDS.sub("\n\n", re.sub(r"\n(?![-\d\[ ])", " ", paragraph))
        parts = VERBATIM.split(NAMES.sub(lambda match: _bold(match, names), apart))
        parts[::2] = [SPECIAL.sub(r"\\\1", part) for part in parts[::2]]
        paragraphs.append("".join(parts).replace("\0", "**"))
    return "\n\n".join(paragraphs)


def _bold(match: re.Match[str], names: set[str]) -> str:
    if not names.issuperset(match["names"].split(", ")):
        return match[0]
    line = "" if not match["before"] else match["before"].rstrip() + "\n\n"
    return f"{line}\0{match['names']}\0: "
