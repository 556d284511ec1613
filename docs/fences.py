"""For mkdocs.yml: fences as tests/test_docs.py reads them, without the mark that Markdown does not know."""

from __future__ import annotations

import re
from typing import Any

MARKED = re.compile(r"^( *```(?:bash|python)) no-run$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page, with the marks no-run of its fences left out: MkDocs' hook."""
    return MARKED.sub(r"\1", markdown)
