"""Insert generated tables into a Markdown page, so that no number there is typed by hand."""

from __future__ import annotations

from pathlib import Path

from sepnet.atomic import write_text
from sepnet.stored import read_text
from sepnet.types import SepnetError


def insert(page: Path, name: str, text: str) -> None:
    """Replace the text between the marks ``<!-- name -->`` and ``<!-- /name -->`` of a page.

    Args:
        page: The Markdown file.
        name: The name in the marks.
        text: The new text between them.

    Raises:
        SepnetError: There is no such page, or it does not have both marks, once each and in this order.
    """
    if not page.is_file():
        raise SepnetError(f"there is no page {page} to insert the table {name} into: give another with page=")
    opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
    content = read_text(page)
    before, opened, rest = content.partition(opening)
    old, closed, after = rest.partition(closing)
    if not opened or not closed or opening in old + after or closing in before + after:
        raise SepnetError(
            f"{page} needs the lines {opening} and {closing}, once each, to put the table between them"
        )
    write_text(page, f"{before}{opening}\n{text.strip()}\n{closing}{after}")
