"""Examples for the page, synthesised when the server starts, so that nothing is downloaded."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sepnet.data.audio.memory import encode
from sepnet.data.text_to_speech import SAMPLE_RATE, speak
from sepnet.data.voices import VOICES, Voice
from sepnet.serving.uploads import UploadFolder
from sepnet.types import SepnetError

log = logging.getLogger(__name__)
SECONDS = 4.0
# Models for each example, the best first.
VOICE_MODELS = ("pit-2spk-8k", "deep-clustering-8k", "nmf")
MUSIC_MODELS = ("hpss", "nmf")
QUERY_MODELS = ("energy_reference", "ast_dgmo", "query-mask-esc10", "nmf")
SENTENCES = {
    "f02": "The old ferry leaves the harbour at seven, and nobody on board looks back.",
    "m11": "We counted eleven boats, three gulls, and one very patient dog.",
}


@dataclass(frozen=True)
class Example:
    """The files of one example.

    Attributes:
        title: The text of its button.
        models: Names of suitable models, the best first.
        mixture: Path of the recording.
        references: Paths of the true sources.
        query: Path of an example of one source.
        n_sources: The number of sources in the mixture.
    """

    title: str
    models: tuple[str, ...]
    mixture: Path
    references: tuple[Path, ...]
    query: Path | None = None
    n_sources: int = 2


def make_examples(uploads: UploadFolder) -> list[Example]:
    """Synthesise the examples: two voices (with eSpeak NG), chords and a drum, and a bell over a hum.

    Args:
        uploads: The folder for their files.

    Returns:
        The examples, in the order of their buttons.
    """
    examples = []
    try:
        voices = [_fit(speak(text, _voice(name))) for name, text in SENTENCES.items()]
        examples.append(_make_example(uploads, "Two voices", VOICE_MODELS, voices, SAMPLE_RATE))
    except SepnetError as error:
        log.warning("the page has no example of voices: %s", error)
    music = [_chords(), _strokes()]
    examples.append(_make_example(uploads, "Chords and drum", MUSIC_MODELS, music, 16000))
    bells = [_bell(np.array([0.4, 1.9, 3.1]), SECONDS), _hum()]
    query = _bell(np.array([0.2, 0.9]), 2.0)
    examples.append(_make_example(uploads, "Bell and hum", QUERY_MODELS, bells, 16000, query))
    return examples


def _make_example(
    uploads: UploadFolder,
    title: str,
    models: tuple[str, ...],
    sources: Iterable[np.ndarray],
    rate: int,
    query: np.ndarray | None = None,
) -> Example:
    signals = [source.astype(np.float32) for source in sources]
    name = title.lower().replace(" ", "-")

    def write(suffix: str, signal: np.ndarray) -> Path:
        return uploads.add_permanent(f"{name}{suffix}.wav", encode(signal.astype(np.float32), rate))

    mixture = write("", np.sum(signals, axis=0))
    references = tuple(write(f"-source-{k + 1}", signal) for k, signal in enumerate(signals))
    query_path = None if query is None else write("-example", query)
    return Example(title, models, mixture, references, query_path)


def _voice(name: str) -> Voice:
    return next(voice for voice in VOICES if voice.name == name)


def _fit(speech: np.ndarray) -> np.ndarray:
    """Cut or pad to SECONDS."""
    n_samples = round(SECONDS * SAMPLE_RATE)
    return np.pad(speech[:n_samples], (0, max(0, n_samples - len(speech))))


def _clock(seconds: float = SECONDS) -> np.ndarray:
    return np.arange(round(seconds * 16000)) / 16000


def _chords() -> np.ndarray:
    """Four chords of steady tones."""
    clock, chords = _clock(), [(220, 277, 330), (196, 247, 294), (175, 220, 262), (196, 247, 330)]
    signal = np.zeros_like(clock)
    for number, pitches in enumerate(chords):
        shape = np.clip(np.minimum(clock - number, number + 1 - clock) / 0.05, 0, 1)
        signal += (
            0.04
            * shape
            * sum(np.sin(2 * np.pi * k * f * clock) / k**1.5 for f in pitches for k in range(1, 6))
        )
    return signal


def _strokes() -> np.ndarray:
    """Short bursts of noise, twice a second."""
    clock, noise = _clock(), np.random.default_rng(0).standard_normal(round(SECONDS * 16000))
    return 0.25 * noise * np.exp(-40 * (clock % 0.5))


def _bell(onsets: np.ndarray, seconds: float) -> np.ndarray:
    clock, signal = _clock(seconds), np.zeros(round(seconds * 16000))
    for onset in onsets:
        since = np.clip(clock - onset, 0, None)
        partials = zip((1.0, 2.76, 5.40), (1.0, 0.6, 0.3), strict=True)
        ring = sum(level * np.sin(2 * np.pi * 880 * ratio * since) for ratio, level in partials)
        signal += 0.15 * ring * np.exp(-5 * since)
    return signal


def _hum() -> np.ndarray:
    clock = _clock()
    partials = [np.sin(2 * np.pi * 110 * k * clock + k) / k for k in range(1, 5)]
    return np.asarray(0.12 * np.sum(partials, axis=0) * (1 + 0.2 * np.sin(9 * clock)))
