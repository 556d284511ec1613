"""Sound files in memory, from untrusted senders.

A file of a few kilobytes can decode to hours: limits are checked before anything is decoded where the length
is known, and after each block, so that memory depends on the audio itself and never on the promises of a
header.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soundfile
from jaxtyping import Float

from sepnet.commands import command
from sepnet.data.audio.reading import AudioReader
from sepnet.data.audio.writing import check_finite
from sepnet.types import SepnetError

RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000)
"""In Hz. Between rates with a small common divisor, resampling takes gigabytes."""


@dataclass(frozen=True, kw_only=True)
class SoundLimits:
    """Limits of a sound file.

    Attributes:
        seconds: Longest duration.
        channels: Largest number of channels.
    """

    seconds: float
    channels: int


@dataclass(frozen=True)
class DecodedSound:
    """A sound file in memory.

    Attributes:
        audio: (channel, time).
        sample_rate: In Hz.
        defect: What is wrong with a file that can be read only in part, in a sentence; None: nothing is.
    """

    audio: Float[np.ndarray, "channel time"]
    sample_rate: int
    defect: str | None = None


def decode(data: bytes, *, limits: SoundLimits, name: str = "the file") -> DecodedSound:
    """Decode a whole sound file, or what can be read of one that is cut off.

    Args:
        data: The bytes of the file.
        limits: Limits that it has to keep.
        name: What to call it in errors.

    Raises:
        SepnetError: It is no sound, has an unusual rate, holds NaN or infinity, or exceeds the limits.
    """
    reader = AudioReader(data, name)
    try:
        rate, channels = reader.sample_rate, reader.channels
        if rate not in RATES:
            raise SepnetError(
                f"{name} is at {rate} Hz: resample it to one of {', '.join(map(str, RATES))} Hz"
            )
        if channels > limits.channels:
            raise SepnetError(
                f"{name} has {channels} channels, of {limits.channels} at the most: leave some out"
            )
        audio = np.concatenate(list(_blocks_within(reader, limits, name)), axis=1)
        return DecodedSound(audio, rate, reader.defect)
    finally:
        reader.close()


def _blocks_within(
    reader: AudioReader, limits: SoundLimits, name: str
) -> Iterator[Float[np.ndarray, "channel time"]]:
    """All samples, block by block. Raises SepnetError as soon as it is certain that there are too many."""
    rate = reader.sample_rate
    n_frames = reader.known_frames or 0
    _check_duration(n_frames, rate, limits, name)
    n_frames = 0
    for block in reader.blocks():
        n_frames += block.shape[1]
        _check_duration(n_frames, rate, limits, name)
        yield block


def _check_duration(n_frames: int, rate: int, limits: SoundLimits, name: str) -> None:
    if n_frames > limits.seconds * rate:
        raise SepnetError(
            f"{name} lasts {n_frames / rate:.1f} s or more, of {limits.seconds:g} s at the most: cut it, or "
            f"use {command('separate')}, which takes files of any length"
        )


def encode(audio: Float[np.ndarray, "channel time"] | Float[np.ndarray, " time"], sample_rate: int) -> bytes:
    """Encode audio as a WAV file of 32-bit floats, so that nothing clips.

    Args:
        audio: (channel, time) or (time,).
        sample_rate: In Hz.

    Returns:
        The bytes of the file.

    Raises:
        SepnetError: Samples are NaN or infinite.
    """
    samples = np.atleast_2d(audio)
    check_finite(samples, "the result")
    stream = io.BytesIO()
    soundfile.write(stream, samples.T, sample_rate, format="WAV", subtype="FLOAT")
    return stream.getvalue()
