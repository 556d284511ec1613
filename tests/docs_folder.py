"""The folder in which the commands of docs/*.md are run: sound files as a reader may have them, made here.

mix.wav: two voices, 8 kHz, 4 s. street.wav: barks in noise, 16 kHz, 6 s; bark.wav: an example of them, 2 s.
stereo.wav: two voices on two microphones, 16 kHz, 4 s. voices/<speaker>/<n>.wav: 8 speakers, 8 kHz.
classes/<class>/<n>.wav, noise/<kind>/<n>.wav and stems/<track>/<stem>.wav, 16 kHz. noisy.wav: a voice in
noise, 8 kHz. scripts, benchmarks and conf are copies of the checkout's.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import butter, sosfilt

ROOT = Path(__file__).resolve().parents[1]
# Their names, and those of the tracks and clips, fall into splits of 1/2, 1/4 and 1/4 of them.
SPEAKERS = ("anna", "ben", "carla", "david", "emma", "grace", "olga", "simon")
VOWELS_HZ = ((730, 1090), (270, 2290), (300, 870), (530, 1840), (570, 840))  # the first two formants

Sound = np.ndarray  # (time,)


def make(folder: Path) -> Path:
    """Fill the folder; the same on every run."""
    rng = np.random.default_rng(0)
    voices = [voice(4.0, pitch, rng) for pitch in (105.0, 210.0)]
    write(folder / "mix.wav", voices[0] + voices[1], 8000)
    write(folder / "street.wav", street(6.0, rng), 16000)
    write(folder / "bark.wav", barks(2.0, (0.1, 0.5, 0.9, 1.4), rng), 16000)
    low, high = (voice(4.0, pitch, rng, 16000) for pitch in (120.0, 230.0))
    write(folder / "stereo.wav", np.stack([low + 0.5 * high, 0.6 * low - high]), 16000)
    for number, name in enumerate(SPEAKERS):
        for take in range(3):
            write(folder / f"voices/{name}/{take + 1}.wav", voice(2.0, 95.0 + 20 * number, rng), 8000)
    makers: dict[str, Callable[[], Sound]] = {
        "dog_bark": lambda: barks(2.0, (0.2, 1.0, 1.5), rng),
        "rain": lambda: noise(2.0, 0.05, rng),
        "bell": lambda: bell(2.0, rng),
    }
    for label, made in makers.items():
        for take in range(16):
            write(folder / f"classes/{label}/{take + 1}.wav", made(), 16000)
    for track in range(8):
        place = folder / f"stems/track_{track + 1}"
        stems = {
            "vocals": voice(4.0, 200 + 10 * track, rng, 16000),
            "drums": barks(4.0, (0.5, 1.5, 2.5), rng),
        }
        stems["bass"] = voice(4.0, 50.0 + track, rng, 16000, syllables_hz=1.0)
        for stem, sound in (*stems.items(), ("mixture", sum(stems.values()))):
            write(place / f"{stem}.wav", np.asarray(sound), 16000)
    for kind in ("wind", "street"):
        for take in range(4):
            write(folder / f"noise/{kind}/{take + 1}.wav", noise(3.0, 0.05, rng), 16000)
    write(folder / "noisy.wav", voice(4.0, 130.0, rng) + noise(2.0, 0.03, rng), 8000)
    for name in ("scripts", "benchmarks", "conf"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def write(path: Path, sound: np.ndarray, rate: int) -> None:
    """16 bit, with folders above it; full scale is far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert np.abs(sound).max() < 1
    soundfile.write(path, sound.T, rate, subtype="PCM_16")


def voice(
    seconds: float, pitch_hz: float, rng: np.random.Generator, rate: int = 8000, syllables_hz: float = 3.0
) -> Sound:
    """Harmonics under the formants of random vowels, in syllables with pauses between them."""
    clock = np.arange(round(seconds * rate)) / rate
    pitch = pitch_hz * (1 + 0.08 * np.sin(2 * np.pi * rng.uniform(0.3, 0.8) * clock + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    sound = np.zeros_like(clock)
    length = round(rate / syllables_hz)
    for start in range(0, len(clock), length):
        part = slice(start, start + length)
        formants = VOWELS_HZ[rng.integers(len(VOWELS_HZ))]
        envelope = np.hanning(length)[: len(clock[part])] * (rng.random() < 0.8)
        for number in range(1, int(0.45 * rate / pitch.max())):
            height = sum(1 / (1 + ((number * pitch_hz - peak) / 120) ** 2) for peak in formants)
            sound[part] += height * envelope * np.sin(number * phase[part])
    return 0.15 * sound / np.abs(sound).max()


def barks(seconds: float, starts: tuple[float, ...], rng: np.random.Generator, rate: int = 16000) -> Sound:
    """Short rough calls, shortly behind the moments ``starts``."""
    sound = np.zeros(round(seconds * rate))
    clock = np.arange(round(0.25 * rate)) / rate
    for start in starts:
        phase = 2 * np.pi * 700 * rng.uniform(0.95, 1.05) * clock
        tone = sum(np.sin(k * phase) / k**0.5 for k in range(1, 9))
        rough = tone * (1 + 0.2 * rng.standard_normal(len(clock))) + 0.5 * rng.standard_normal(len(clock))
        first = round((start + rng.uniform(0, 0.05)) * rate)
        sound[first : first + len(clock)] += rough * np.minimum(clock / 0.01, 1) * np.exp(-14 * clock)
    return np.asarray(0.3 * sound / np.abs(sound).max())


def noise(seconds: float, rms: float, rng: np.random.Generator, rate: int = 16000) -> Sound:
    """Noise that falls off above 3 kHz, as rain and streets."""
    sections = butter(2, 3000, fs=rate, output="sos")
    filtered = sosfilt(sections, rng.standard_normal(round(seconds * rate)))
    return np.asarray(rms * filtered / filtered.std())


def street(seconds: float, rng: np.random.Generator) -> Sound:
    """Two groups of barks in noise."""
    return barks(seconds, (1.5, 1.9, 2.3, 2.7, 4.2, 4.6), rng) + noise(seconds, 0.01, rng)


def bell(seconds: float, rng: np.random.Generator, rate: int = 16000) -> Sound:
    """Inharmonic partials that die away."""
    clock = np.arange(round(seconds * rate)) / rate
    base = rng.uniform(600, 900)
    partials = [np.sin(2 * np.pi * base * ratio * clock) for ratio in (1.0, 1.48, 2.71, 3.76)]
    return np.asarray(0.1 * sum(partials) * np.exp(-4 * clock))
