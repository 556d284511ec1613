"""Take screenshots of the page in a headless Chromium, for the documentation and to check changes."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PIL import Image

from sepnet.atomic import replacing
from sepnet.serving.limits import Limits
from sepnet.serving.server import running
from sepnet.types import SepnetError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Scheme = Literal["light", "dark"]
PAGES: tuple[tuple[tuple[int, int], Scheme], ...] = (((1280, 900), "light"), ((390, 844), "dark"))
EXAMPLE = "Two voices"
TIMEOUT_MS = 120_000
IMAGES_LOADED = "() => [...document.querySelectorAll('[data-mixer] img')].every((image) => image.complete)"


def browser_path() -> str:
    """Find the Chromium of this machine.

    Raises:
        SepnetError: There is none.
    """
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    raise SepnetError("there is no Chromium here: install one (Debian: apt install chromium)")


def take_screenshots(path: Path, models: Sequence[str], limits: Limits) -> list[Path]:
    """Separate the example of two voices on the page, and take screenshots at the width of a desktop and a
    phone.

    Args:
        path: The screenshot at a desktop's width, in the light theme. The one at a phone's width, in the dark
            theme, is written beside it as ``<stem>-phone``.
        models: The models to serve.
        limits: The limits of the server.

    Returns:
        The paths of both screenshots.

    Raises:
        SepnetError: Playwright or Chromium is missing, or Chromium can't be used.
    """
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise SepnetError("screenshots need playwright: pip install playwright") from error
    executable = browser_path()
    paths = [path, path.with_stem(f"{path.stem}-phone")]
    with running(models, limits=limits, examples=True) as address:
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=executable, args=["--no-sandbox", "--disable-gpu"]
                )
                for target, (size, scheme) in zip(paths, PAGES, strict=True):
                    _write(target, _screenshot(browser, address, size, scheme))
                browser.close()
        except Error as error:
            raise SepnetError(
                f"Chromium ({executable}) can't take screenshots of the page: {error.message.splitlines()[0]}"
            ) from error
    return paths


def _screenshot(browser: Browser, address: str, size: tuple[int, int], scheme: Scheme) -> bytes:
    """The page after the example was separated, as PNG."""
    width, height = size
    with browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme) as context:
        page = context.new_page()
        page.goto(address)
        page.get_by_role("button", name=EXAMPLE).click()
        page.locator("#mixture audio").first.wait_for(timeout=TIMEOUT_MS, state="attached")
        page.locator("#go").click()
        page.locator("[data-mixer] img").last.wait_for(timeout=TIMEOUT_MS)
        page.wait_for_function(IMAGES_LOADED, timeout=TIMEOUT_MS)
        page.wait_for_timeout(1500)  # until scrolling and the fading of the progress bar end
        return page.screenshot(full_page=True, type="png")


def _write(path: Path, screenshot: bytes) -> None:
    """Write a PNG in 256 colours, a third of the size."""
    with replacing(path) as draft, Image.open(io.BytesIO(screenshot)) as picture:
        picture.convert("RGB").quantize(256).save(draft, format="png", optimize=True)
