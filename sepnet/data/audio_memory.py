"""Sound files in memory, from untrusted senders.

A file of a few kilobytes can decode to hours: its header is checked against limits before anything is
decoded, and the decoded audio block by block, so that memory depends on the audio itself and never on the
promises of a header.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import soundfile
from jaxtyping import Float

from sepnet.commands import command
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


def decode(
    data: bytes, *, limits: SoundLimits, name: str = "the file"
) -> tuple[Float[np.ndarray, "channel time"], int]:
    """Decode a whole sound file.

    Args:
        data: The bytes of the file.
        limits: Limits that it has to keep.
        name: What to call it in errors.

    Returns:
        The samples (channel, time) and the rate in Hz.

    Raises:
        SepnetError: It is not a WAV, FLAC, Ogg, MP3 or AIFF, is damaged or cut off, has an unusual rate,
            holds NaN or infinity, or exceeds the limits.
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
            return _decode_within(file, limits, name), int(file.samplerate)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: soundfile, of headerless formats
        message = reason(error) if isinstance(error, soundfile.LibsndfileError) else "no header"
        raise SepnetError(
            f"{name} ({len(data)} bytes) can't be read as audio ({message}): convert it to WAV or FLAC"
        ) from error


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


def _decode_within(file: soundfile.SoundFile, limits: SoundLimits, name: str) -> np.ndarray:
    """Decode a file (channel, time), or raise SepnetError if it exceeds the limits."""
    rate, channels, n_frames = int(file.samplerate), int(file.channels), int(file.frames)
    if rate not in RATES:
        raise SepnetError(f"{name} is at {rate} Hz: resample it to one of {', '.join(map(str, RATES))} Hz")
    if channels > limits.channels:
        raise SepnetError(f"{name} has {channels} channels, of {limits.channels} at the most: leave some out")
    if n_frames > limits.seconds * rate:
        raise SepnetError(
            f"{name} lasts {n_frames / rate:.1f} s, of {limits.seconds:g} s at the most: cut it, or use "
            f"{command('separate')}, which takes files of any length"
        )
    blocks, n_decoded = [], 0
    while n_decoded < n_frames:
        blocks.append(decode_block(file, name, n_decoded, min(BLOCK_FRAMES, n_frames - n_decoded)))
        n_decoded += blocks[-1].shape[1]
    return np.concatenate(blocks, axis=1)


def _is_mpeg(data: bytes) -> bool:
    """Whether it begins with the frame header of MPEG audio: eleven ones, and a layer."""
    return len(data) > 2 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0 and data[1] & 0x06 != 0
