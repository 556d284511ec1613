"""Sound files in memory, read from those whom one does not trust.

A file of a few kilobytes can decode to hours: its header is held against the limits before anything is
decoded, and what is decoded is held against them block by block, so that memory follows what is really
there and never what a header promises.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import soundfile
from jaxtyping import Float

from sepnet.data.audio import (
    BLOCK_FRAMES,
    check_chunks,
    check_finite,
    check_length,
    decode_block,
    reason,
)
from sepnet.types import SepnetError

CONTAINERS = "WAV, FLAC, Ogg, MP3 or AIFF"
MAGIC = (b"RIFF", b"fLaC", b"OggS", b"FORM", b"ID3")
RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000)
"""In Hz. Between rates that have hardly a common divisor, resampling takes gigabytes."""


@dataclass(frozen=True, kw_only=True)
class SoundLimits:
    """The most that a sound file may hold."""

    seconds: float
    channels: int


def decode(
    data: bytes, *, limits: SoundLimits, name: str = "the file"
) -> tuple[Float[np.ndarray, "channel time"], int]:
    """Samples and rate in Hz of a whole sound file. name: what to call it in errors.

    Raises SepnetError for what is no WAV, FLAC, Ogg, MP3 or AIFF, is damaged or cut off, is of an unusual
    rate, holds NaN or infinity, or more than ``limits``.
    """
    if not data:
        raise SepnetError(f"{name} is empty (0 bytes): choose another")
    if not (data.startswith(MAGIC) or _is_mpeg(data)):
        raise SepnetError(f"{name} ({len(data)} bytes) is no {CONTAINERS} file: convert it to one of these")
    stream = io.BytesIO(data)
    check_chunks(stream, name, len(data))
    stream.seek(0)
    try:
        with soundfile.SoundFile(stream) as file:
            check_length(file, name, len(data))
            return _within(file, limits, name), int(file.samplerate)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: soundfile, of headerless formats
        told = reason(error) if isinstance(error, soundfile.LibsndfileError) else "no header"
        raise SepnetError(
            f"{name} ({len(data)} bytes) can't be read as audio ({told}): convert it to WAV or FLAC"
        ) from error


def encode(audio: Float[np.ndarray, "channel time"] | Float[np.ndarray, " time"], sample_rate: int) -> bytes:
    """A WAV file of 32-bit floats, so that nothing clips. Raises SepnetError for NaN and infinity."""
    samples = np.atleast_2d(audio)
    check_finite(samples, "the result")
    stream = io.BytesIO()
    soundfile.write(stream, samples.T, sample_rate, format="WAV", subtype="FLOAT")
    return stream.getvalue()


def _within(file: soundfile.SoundFile, limits: SoundLimits, name: str) -> np.ndarray:
    """(channel, time), or SepnetError where it is more than the limits allow."""
    rate, channels, promised = int(file.samplerate), int(file.channels), int(file.frames)
    if rate not in RATES:
        raise SepnetError(f"{name} is at {rate} Hz: resample it to one of {', '.join(map(str, RATES))} Hz")
    if channels > limits.channels:
        raise SepnetError(f"{name} has {channels} channels, of {limits.channels} at the most: leave some out")
    if promised > limits.seconds * rate:
        raise SepnetError(
            f"{name} lasts {promised / rate:.1f} s, of {limits.seconds:g} s at the most: cut it, or use "
            "scripts/separate.py, which takes files of any length"
        )
    blocks, done = [], 0
    while done < promised:
        blocks.append(decode_block(file, name, done, min(BLOCK_FRAMES, promised - done)))
        done += blocks[-1].shape[1]
    return np.concatenate(blocks, axis=1)


def _is_mpeg(data: bytes) -> bool:
    """Whether it begins with the frame header of MPEG audio: eleven ones, and a layer."""
    return len(data) > 2 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0 and data[1] & 0x06 != 0
