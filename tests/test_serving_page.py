"""The page in a real browser: upload, separate, play, solo, mute, download, and a bad file."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import soundfile

from sepnet.metrics.opinion import is_installed
from sepnet.serving import Limits, running, screenshot
from sepnet.types import SepnetError
from tests.serving_fixtures import RATE, noise, wav

pytest.importorskip("gradio", reason="the page needs gradio: pip install 'sepnet[demo]'")
sync_api = pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")
try:
    BROWSER = screenshot.browser_path()
except SepnetError as error:
    pytest.skip(str(error), allow_module_level=True)
WAIT_MS = 180_000  # on a busy machine
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
TONE_HZ, TONE_LEVEL = 440, 0.3
TONE_SECONDS = 19.0  # it plays on while a busy machine presses buttons


@pytest.fixture(scope="module")
def address():
    with running(["hpss", "nmf", "energy_reference"], limits=Limits(seconds=60), examples=True) as found:
        yield found


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Its sound goes nowhere, but its clock runs; its microphone hears a steady tone."""
    heard = tmp_path_factory.mktemp("microphone") / "tone.wav"
    tone = TONE_LEVEL * np.sin(2 * np.pi * TONE_HZ * np.arange(48000) / 48000)
    soundfile.write(heard, tone, 48000, subtype="PCM_16")
    microphone = [
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={heard}",
    ]
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", *microphone])
        yield found
        found.close()


@pytest.fixture(scope="module")
def opened(address, browser):
    """A tab of the browser; what pages there complain of; and what they ask other hosts for."""
    context = browser.new_context(viewport=DESKTOP, accept_downloads=True)
    found, complaints, elsewhere = context.new_page(), [], []
    found.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    found.on("pageerror", lambda error: complaints.append(str(error)))
    found.on(
        "request",
        lambda request: request.url.startswith((address, "data:", "blob:")) or elsewhere.append(request.url),
    )
    yield found, complaints, elsewhere
    context.close()


@pytest.fixture
def page(address, opened):
    """The page as it is at first. It must not complain, nor ask any other host for anything."""
    found, complaints, elsewhere = opened
    found.set_viewport_size(DESKTOP)
    found.goto(address)
    found.locator("#go").wait_for(timeout=WAIT_MS)
    yield found
    # Gradio's player says this of a file that is no sound, which is what one of the tests uploads.
    assert [told for told in complaints if not told.startswith("Waveform load error")] == []
    assert elsewhere == []


@pytest.fixture
def recording(tmp_path):
    """A tone and clicks, which hpss takes apart."""
    tone = TONE_LEVEL * np.sin(2 * np.pi * TONE_HZ * np.arange(round(TONE_SECONDS * RATE)) / RATE)
    clicks = np.zeros_like(tone)
    clicks[500::2000] = 0.6
    path = tmp_path / "my recording.wav"
    path.write_bytes(wav(tone + clicks))
    return path


def upload(page, path):
    page.locator("#mixture input[type=file]").first.set_input_files(path)
    page.locator("#mixture audio").first.wait_for(state="attached", timeout=WAIT_MS)


def take_example(page, name, model):
    page.get_by_role("button", name=name).click()
    page.wait_for_function(
        f"() => document.querySelector('#model input').value === '{model}'", timeout=WAIT_MS
    )
    page.locator("#mixture audio").first.wait_for(state="attached", timeout=WAIT_MS)


def separate(page):
    """Wait for a result that is not the one that stood there."""
    page.evaluate("document.querySelectorAll('[data-mixer]').forEach(each => each.dataset.old = 'yes')")
    page.locator("#go").click()
    page.locator("[data-mixer]:not([data-old])").wait_for(timeout=WAIT_MS)


def told(page, name):
    return float(page.locator("[data-mixer]").get_attribute(f"data-{name}") or 0)


def until(page, condition):
    page.wait_for_function(
        f"() => {{ const d = document.querySelector('[data-mixer]').dataset; return {condition}; }}",
        timeout=WAIT_MS,
    )


def test_nothing_uploaded_is_told_in_a_sentence(page):
    page.locator("#go").click()
    page.get_by_text("there is no recording yet").first.wait_for(timeout=WAIT_MS)


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


def test_a_recording_is_what_the_microphone_heard(page):
    page.locator("#mixture button[aria-label='Record audio']").click()
    page.locator("#mixture button.record-button").click()
    page.wait_for_timeout(2000)
    page.locator("#mixture button.stop-button").click()
    page.locator("#mixture audio").first.wait_for(state="attached", timeout=WAIT_MS)
    separate(page)
    with page.expect_download() as download:
        page.locator("[data-track] a.get").first.click()
    heard, rate = soundfile.read(download.value.path())
    pieces = heard[: len(heard) // rate * rate].reshape(-1, rate // 10)[2:]  # of 0.1 s; it may begin late
    levels = np.sqrt(2 * np.square(pieces).mean(axis=1))
    assert len(levels) >= 8
    np.testing.assert_allclose(levels, TONE_LEVEL, rtol=0.1)  # neither turned up nor taken for noise


def test_the_form_follows_from_what_the_method_needs(page):
    def choose(name):
        page.locator("#model input").click()
        page.get_by_role("option", name=name, exact=True).click()

    choose("hpss")
    page.locator("#n_sources").wait_for(state="hidden", timeout=WAIT_MS)
    choose("nmf")
    page.locator("#n_sources").wait_for(timeout=WAIT_MS)
    choose("energy_reference")
    page.locator("#query").wait_for(timeout=WAIT_MS)
    page.locator("#n_sources").wait_for(state="hidden", timeout=WAIT_MS)


def test_an_example_comes_with_its_scores(page):
    take_example(page, "Bell and hum", "energy_reference")
    separate(page)
    assert page.locator(".scores tbody tr").count() == 2
    # The mixture and its sources are judged without a reference, too.
    opinions = page.locator("[data-mixer]:not([data-old]) .opinion").all_inner_texts()
    assert len(opinions) == 3 * is_installed()
    assert all(text.startswith("DNSMOS ") for text in opinions)
    assert page.locator(".scores td").first.inner_text() in ("1", "2")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"no sound at all", "can't be read as audio"),
        (wav(noise(61)), "of 60 s at the most"),
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


def test_it_fits_a_phone(page):
    page.set_viewport_size(PHONE)
    take_example(page, "Chords and drum", "hpss")
    separate(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    boxes = [each.bounding_box() for each in page.locator("[data-mixer] button, [data-mixer] a").all()]
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["height"] >= 24 for box in boxes)


def test_a_browser_that_does_not_start_is_told_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(screenshot, "browser_path", lambda: "/bin/false")
    with pytest.raises(SepnetError, match=r"Chromium \(/bin/false\) can't take screenshots"):
        screenshot.take_screenshots(tmp_path / "page.png", ["hpss"], Limits())
    assert not list(tmp_path.iterdir())
