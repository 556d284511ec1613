"""What the page looks like in a headless Chromium: for the documents, and to look at after a change."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from sepnet.data import audio
from sepnet.serving.limits import Limits
from sepnet.serving.server import running
from sepnet.types import SepnetError

DESKTOP, PHONE = (1280, 900), (390, 844)
EXAMPLE = "Two voices"
WAIT_MS = 120_000
SEEN = "() => [...document.querySelectorAll('[data-mixer] img')].every((each) => each.complete)"


def browser_path() -> str:
    """The Chromium of this machine. Raises SepnetError where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    raise SepnetError("there is no Chromium here: install one (Debian: apt install chromium)")


def take(path: Path, models: Sequence[str], limits: Limits) -> list[Path]:
    """Separate the example of two voices on the page; write it at desktop width to ``path``, and as
    ``<stem>-phone`` at a phone's, in the dark theme. Raises SepnetError without playwright or Chromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise SepnetError("pictures of the page need playwright: pip install playwright") from error
    program = browser_path()
    written = [path, path.with_stem(f"{path.stem}-phone")]
    with running(models, limits=limits, examples=True) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for target, (width, height), scheme in zip(written, (DESKTOP, PHONE), ("light", "dark"), strict=True):
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme="dark" if scheme == "dark" else "light",
            )
            page = context.new_page()
            page.goto(address)
            page.get_by_role("button", name=EXAMPLE).click()
            page.locator("#mixture audio").first.wait_for(timeout=WAIT_MS, state="attached")
            page.locator("#go").click()
            page.locator("[data-mixer] img").last.wait_for(timeout=WAIT_MS)
            page.wait_for_function(SEEN, timeout=WAIT_MS)
            page.wait_for_timeout(1500)  # the end of the scrolling, and of the progress bar's fading
            _write(target, page.screenshot(full_page=True, type="png"))
            context.close()
        browser.close()
    return written


def _write(path: Path, screenshot: bytes) -> None:
    """In 256 colours, which takes a third of the room."""
    with audio.replacing(path) as draft, Image.open(io.BytesIO(screenshot)) as picture:
        picture.convert("RGB").quantize(256).save(draft, format="png", optimize=True)
