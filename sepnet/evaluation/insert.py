"""Insert generated tables into a Markdown page, so that no number there is typed by hand."""

from __future__ import annotations

from pathlib import Path

from sepnet.types import SepnetError


def insert(page: Path, name: str, text: str) -> None:
    """Replace the text between the marks ``<!-- name -->`` and ``<!-- /name -->`` of a page.

    Args:
        page: The Markdown file.
        name: That of the marks.
        text: What goes between them.

    Raises:
        SepnetError: The page does not have both marks, once each, in this order.
    """
    opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
    content = page.read_text()
    before, opened, rest = content.partition(opening)
    old, closed, after = rest.partition(closing)
    if not opened or not closed or opening in old + after or closing in before + after:
        raise SepnetError(
            f"{page} needs the lines {opening} and {closing}, once each, to put the table between them"
        )
    page.write_text(f"{before}{opening}\n{text.strip()}\n{closing}{after}")
