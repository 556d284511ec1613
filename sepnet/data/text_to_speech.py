"""Synthetic speech: a text spoken by one of the voices of eSpeak NG, at 8 kHz.

eSpeak NG: https://github.com/espeak-ng/espeak-ng, here through the package espeakng_loader (extra ``demo``).
"""

from __future__ import annotations

import json
import subprocess
import sys
from math import gcd
from pathlib import Path

import numpy as np
import scipy
from jaxtyping import Float32

from sepnet.data.espeak import Request
from sepnet.data.voices import Voice
from sepnet.types import SepnetError

SAMPLE_RATE = 8000
HIGH_PASS_HZ = 50.0  # some variants hum below their pitch, down to 0 Hz
LEVEL_DB = -26.0  # root mean square of an utterance, re full scale
SILENCE_DB = -60.0  # re the peak of the utterance: what is below at its ends is cut
MARGIN_SECONDS = 0.01
SPEAK_TIMEOUT_SECONDS = 60.0

WORKER = Path(__file__).with_name("espeak.py")


def speak(text: str, voice: Voice) -> Float32[np.ndarray, " time"]:
    """Speak a text: 8 kHz, silent ends cut, its RMS at LEVEL_DB.

    A pure function of its arguments for a given eSpeak NG (see sepnet.data.espeak), and safe in threads.

    Args:
        text: What to say.
        voice: Who says it.

    Returns:
        (time,).

    Raises:
        SepnetError: espeakng_loader is not installed, the accent or the variant is unknown, or the result is
            silent.
    """
    native, native_rate = _run_espeak(text, voice)
    common = gcd(SAMPLE_RATE, native_rate)
    # Kaiser's beta of 8: aliases 80 dB down, where resample_poly's default has some 50.
    speech = scipy.signal.resample_poly(
        native, SAMPLE_RATE // common, native_rate // common, window=("kaiser", 8.0)
    )
    speech = scipy.signal.sosfilt(
        scipy.signal.butter(4, HIGH_PASS_HZ, "highpass", fs=SAMPLE_RATE, output="sos"), speech
    )
    peak = np.abs(speech).max(initial=0.0)
    if peak == 0.0:
        raise SepnetError(f"the voice {voice.name} is silent for {text!r}: give a text with words")
    loud = np.flatnonzero(np.abs(speech) > peak * 10 ** (SILENCE_DB / 20))
    margin = round(MARGIN_SECONDS * SAMPLE_RATE)
    speech = speech[max(loud[0] - margin, 0) : loud[-1] + 1 + margin]
    speech = speech * (10 ** (LEVEL_DB / 20) / np.sqrt(np.mean(speech**2)))
    peak = np.abs(speech).max()
    if peak >= 1.0:
        raise SepnetError(
            f"at {LEVEL_DB} dB, {text!r} by the voice {voice.name} peaks at {peak:.2f}, above full scale"
        )
    return np.asarray(speech, dtype=np.float32)


def _find_espeak() -> tuple[str, Path]:
    """The paths of the shared library and of its data."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise SepnetError(
            "the embedded corpus is spoken by eSpeak NG, and the package espeakng_loader is not installed: "
            "pip install 'sepnet[demo]'"
        ) from error
    try:
        return str(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())
    except (OSError, RuntimeError) as error:
        raise SepnetError(
            f"espeakng_loader lacks its data ({error}): pip install --force-reinstall espeakng-loader"
        ) from error


def _run_espeak(text: str, voice: Voice) -> tuple[np.ndarray, int]:
    """Samples (time,) in -1 to 1 and their rate (Hz), from a fresh process."""
    library, data = _find_espeak()
    # eSpeak accepts an unknown variant silently, and speaks with the plain voice instead.
    if not (data / "voices" / "!v" / voice.variant).is_file():
        raise SepnetError(
            f"eSpeak NG has no variant {voice.variant!r}, which the voice {voice.name} asks for"
        )
    request = Request(
        library=library,
        data=data.name,
        text=text,
        voice=f"{voice.accent}+{voice.variant}",
        rate=voice.rate,
        pitch=voice.pitch,
        pitch_range=voice.pitch_range,
    )
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(WORKER)],
            input=json.dumps(request._asdict()).encode(),
            capture_output=True,
            cwd=data.parent,
            timeout=SPEAK_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SepnetError(f"eSpeak NG could not speak {text!r} by the voice {voice.name}: {error}") from error
    messages = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
    if done.returncode != 0 or not messages[-1].startswith("rate="):
        raise SepnetError(
            f"eSpeak NG failed on {text!r} by the voice {voice.name} (status {done.returncode}): "
            f"{messages[-1]}"
        )
    samples = np.frombuffer(done.stdout, dtype=np.int16).astype(np.float64) / 2**15
    return samples, int(messages[-1].removeprefix("rate="))
