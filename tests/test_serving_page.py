"""The page in a real browser: upload, separate, play, solo, mute, download, and a bad file."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import soundfile

from sepnet.serving import Limits, picture, running
from sepnet.types import SepnetError
from tests.serving_fixtures import RATE, noise, wav

pytest.importorskip("gradio", reason="the page needs gradio: pip install 'sepnet[demo]'")
sync_api = pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")
try:
    BROWSER = picture.browser_path()
except SepnetError as error:
    pytest.skip(str(error), allow_module_level=True)
WAIT_MS = 60_000
TONE_SECONDS = 3.0


@pytest.fixture(scope="module")
def address():
    with running(["hpss", "nmf", "energy_reference"], limits=Limits(seconds=20), examples=True) as found:
        yield found


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        # Sound goes nowhere, but its clock runs.
        found = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(address, browser):
    """A page of the site, which must not complain, nor ask any other host for anything."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    found = context.new_page()
    complaints, elsewhere = [], []
    found.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    found.on("pageerror", lambda error: complaints.append(str(error)))
    found.on(
        "request",
        lambda request: request.url.startswith((address, "data:", "blob:")) or elsewhere.append(request.url),
    )
    found.goto(address)
    found.locator("#go").wait_for(timeout=WAIT_MS)
    yield found
    context.close()
    assert complaints == []
    assert elsewhere == []


@pytest.fixture
def recording(tmp_path):
    """A tone and clicks, which hpss takes apart."""
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(TONE_SECONDS * RATE)) / RATE)
    clicks = np.zeros_like(tone)
    clicks[500::2000] = 0.6
    path = tmp_path / "my recording.wav"
    path.write_bytes(wav(tone + clicks))
    return path


def upload(page, path, name="mixture"):
    page.locator(f"#{name} input[type=file]").first.set_input_files(path)
    page.locator(f"#{name} audio").first.wait_for(state="attached", timeout=WAIT_MS)


def separate(page):
    page.locator("#go").click()
    page.locator("[data-mixer]").wait_for(timeout=WAIT_MS)


def told(page, name):
    return float(page.locator("[data-mixer]").get_attribute(f"data-{name}") or 0)


def until(page, condition):
    page.wait_for_function(
        f"() => {{ const d = document.querySelector('[data-mixer]').dataset; return {condition}; }}"
    )


def test_upload_separate_play_solo_mute_and_download(page, recording):
    upload(page, recording)
    separate(page)
    assert page.locator("[data-track]").count() == 3
    assert page.locator("[data-track] b").all_inner_texts() == ["mixture", "harmonic", "percussive"]
    for picture_ in page.locator("[data-track] img").all():
        until(page, "[...document.querySelectorAll('[data-track] img')].every(i => i.complete)")
        assert picture_.evaluate("i => i.naturalWidth") > 50

    page.locator("[data-play]").click()
    until(page, "d.position > 0.3 && d.level > 0.01")  # its clock runs, and it sounds
    mutes, solos = page.locator("[data-mute]"), page.locator("[data-solo]")
    mutes.nth(1).click()
    mutes.nth(2).click()
    until(page, "d.level < 1e-4")
    solos.nth(1).click()
    until(page, "d.level > 0.05")  # solo is above mute: the tone alone
    page.locator("[data-play]").click()
    stood = told(page, "position")
    page.wait_for_timeout(300)
    assert told(page, "position") == stood
    page.locator("[data-seek]").nth(2).click(position={"x": 5, "y": 30})
    assert told(page, "position") < 0.1 * TONE_SECONDS

    with page.expect_download() as download:
        page.locator("[data-track] a.get").nth(1).click()
    assert download.value.suggested_filename == "s1.wav"
    harmonic, rate = soundfile.read(download.value.path(), dtype="float32")
    assert (rate, len(harmonic)) == (RATE, round(TONE_SECONDS * RATE))
    with page.expect_download() as download:
        page.locator(".mixer-bar a.get").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.namelist() == ["manifest.json", "s1.wav", "s2.wav"]
        parts = [
            soundfile.read(io.BytesIO(archive.read(name)), dtype="float32")[0]
            for name in archive.namelist()[1:]
        ]
    np.testing.assert_array_equal(parts[0], harmonic)
    np.testing.assert_allclose(sum(parts), soundfile.read(recording, dtype="float32")[0], atol=1e-5)


def test_the_form_follows_from_what_the_method_needs(page):
    def choose(name):
        page.locator("#model input").click()
        page.get_by_role("option", name=name, exact=True).click()

    assert not page.locator("#n_sources").is_visible()
    choose("nmf")
    page.locator("#n_sources").wait_for(timeout=WAIT_MS)
    choose("energy_reference")
    page.locator("#query").wait_for(timeout=WAIT_MS)
    page.locator("#n_sources").wait_for(state="hidden", timeout=WAIT_MS)


def test_an_example_comes_with_its_scores(page):
    page.get_by_role("button", name="Bell and hum").click()
    page.locator("#mixture audio").first.wait_for(state="attached", timeout=WAIT_MS)
    separate(page)
    assert page.locator(".scores tbody tr").count() == 2
    assert page.locator(".scores td").first.inner_text() in ("1", "2")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"no sound at all", "is no WAV, FLAC, Ogg, MP3 or AIFF file"),
        (wav(noise(21)), "lasts 21.0 s, of 20 s"),
    ],
)
def test_a_bad_file_is_told_in_a_sentence(page, tmp_path, data, sentence):
    path = tmp_path / "bad.wav"
    path.write_bytes(data)
    upload(page, path)
    page.locator("#go").click()
    toast = page.get_by_text(sentence).first
    toast.wait_for(timeout=WAIT_MS)
    assert "Traceback" not in page.content()
    assert page.locator("[data-mixer]").count() == 0


def test_nothing_uploaded_is_told_in_a_sentence(page):
    page.locator("#go").click()
    page.get_by_text("there is no sound yet").first.wait_for(timeout=WAIT_MS)


def test_it_fits_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_role("button", name="Chords and drum").click()
    page.locator("#mixture audio").first.wait_for(state="attached", timeout=WAIT_MS)
    separate(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    boxes = [each.bounding_box() for each in page.locator("[data-mixer] button, [data-mixer] a").all()]
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["height"] >= 24 for box in boxes)
