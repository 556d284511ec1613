"""Insert generated tables into a Markdown page, so that no number there is typed by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sepnet.atomic import write_text
from sepnet.stored import read_text
from sepnet.types import SepnetError


def insert(page: Path, tables: Mapping[str, str]) -> None:
    """Replace the texts between the marks ``<!-- name -->`` and ``<!-- /name -->`` of a page, all or none.

    Args:
        page: The Markdown file.
        tables: The new texts by the names in the marks.

    Raises:
        SepnetError: As ``inserted`` does.
    """
    write_text(page, inserted(page, tables))


def inserted(page: Path, tables: Mapping[str, str]) -> str:
    """Return the content that a page has with other texts between its marks.

    Args:
        page: The Markdown file.
        tables: The new texts by the names in the marks.

    Raises:
        SepnetError: There is no such page, or it does not have both marks of a name, once each and in this
            order.
    """
    if not page.is_file():
        names = " and ".join(tables)
        raise SepnetError(
            f"there is no page {page} to insert the table {names} into: give another with page="
        )
    content = read_text(page)
    for name, text in tables.items():
        content = _between(page, content, name, text)
    return content


def _between(page: Path, content: str, name: str, text: str) -> str:
    """The content of a page with another text between two marks."""
    opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, opened, rest = content.partition(opening)
    old, closed, after = rest.partition(closing)
    if not opened or not closed or opening in old + after or closing in before + after:
        raise SepnetError(
            f"{page} needs the lines {opening} and {closing}, once each, to put the table between them"
        )
    return f"{before}{opening}\n{text.strip()}\n{closing}{after}"
