"""The report in a browser: nothing of its results has to be scrolled to on a common screen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sepnet.evaluation.report import report
from sepnet.serving import screenshot
from sepnet.types import SepnetError
from tests.test_report import some_rows, write

sync_api = pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")
SCREEN, SCROLLBAR = 1280, 15


@pytest.fixture
def page() -> Iterator[Any]:
    try:
        path = screenshot.browser_path()
    except SepnetError as error:
        pytest.skip(str(error))
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": SCREEN - SCROLLBAR, "height": 900})
        browser.close()


def test_the_widest_results_fit_a_screen_of_1280_pixels(tmp_path: Path, page: Any) -> None:
    wide = [
        replace(
            row,
            parameters=123_456_789,
            peak_memory_mb=12_345.0,
            compute_seconds=987.65,
            two_thread_seconds=876.54,
            macs_per_second=9.876e12,
        )
        for row in some_rows("speechbrain/sepformer-libri2mix", 1, gain_db=-22.0)
    ]
    failed = some_rows(
        "deep_clustering_with_a_long_name", 2, n=5, status="failed", reason="it ran out of memory"
    )
    report(write(tmp_path, [*some_rows("identity", 3, role="floor"), *wide, *failed]))
    page.goto((tmp_path / "report.html").as_uri())
    table = page.locator("section[aria-labelledby=results] .scroll")
    assert table.evaluate("box => box.scrollWidth - box.clientWidth") == 0
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
