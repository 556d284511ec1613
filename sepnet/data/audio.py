"""The only reader and writer of sound files.

Samples are float32 with full scale 1.0, arrays are (channel, time), rates are in Hz. Nothing here
resamples, clips or cuts: a file that does not fit is refused with the numbers and the remedy.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float

from sepnet.atomic import replacing
from sepnet.types import SepnetError

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff"})
BLOCK_FRAMES = 1 << 18
UNKNOWN_LENGTH = 1 << 62  # libsndfile's count for a stream whose header gives none
FORMATS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".aif": "AIFF", ".aiff": "AIFF"}
INTEGER_BITS = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
SUBTYPES = frozenset({*INTEGER_BITS, "FLOAT", "DOUBLE", "VORBIS"})


@dataclass(frozen=True)
class AudioInfo:
    """The header of a file.

    Attributes:
        sample_rate: In Hz.
        channels: Number of channels.
        frames: Samples of one channel.
    """

    sample_rate: int
    channels: int
    frames: int

    @property
    def seconds(self) -> float:
        """The duration."""
        return self.frames / self.sample_rate


def info(path: str | Path) -> AudioInfo:
    """Read the header of a file, without decoding it.

    Args:
        path: The file.

    Raises:
        SepnetError: The file is missing, empty, not audio, of zero length, or shorter than its header says
            (as far as that shows without decoding).
    """
    with opened(Path(path)) as file:
        return _info(file)


def verify(path: str | Path) -> AudioInfo:
    """Decode a whole file, block by block, and keep nothing.

    Args:
        path: The file.

    Returns:
        Its header.

    Raises:
        SepnetError: As ``read`` does.
    """
    path = Path(path)
    with opened(path) as file:
        header = _info(file)
        n_decoded = 0
        while n_decoded < header.frames:
            block = decode_block(file, path, n_decoded, min(BLOCK_FRAMES, header.frames - n_decoded))
            n_decoded += block.shape[1]
    return header


def read(
    path: str | Path, *, sample_rate: int | None = None, start: int = 0, frames: int = -1
) -> tuple[Float[np.ndarray, "channel time"], int]:
    """Read a part of a file, all channels.

    Args:
        path: The file.
        sample_rate: The rate that the file has to have, in Hz; None: any.
        start: The first sample.
        frames: Samples of one channel; -1: to the end.

    Returns:
        The samples (channel, time) and the rate in Hz.

    Raises:
        SepnetError: The file is missing, empty, cut off, not audio, without samples or at another rate, holds
            NaN or infinity, or doesn't have these samples.

    Example:
        >>> audio, sample_rate = read("mix.wav")
    """
    path = Path(path)
    with opened(path) as file:
        header = _info(file)
        if sample_rate is not None and header.sample_rate != sample_rate:
            raise SepnetError(
                f"{path} is at {header.sample_rate} Hz, but {sample_rate} Hz is required: "
                "resample it with sepnet.dsp.resample, or set the sample rate to the file's"
            )
        n_samples = header.frames - start if frames == -1 else frames
        if start < 0 or n_samples < 1 or start + n_samples > header.frames:
            raise SepnetError(
                f"{path} has {header.frames} samples, so {n_samples} samples from {start} can't be read: "
                "give a start and a number of samples inside it"
            )
        if start:
            seek(file, path, start)
        return decode_block(file, path, start, n_samples), header.sample_rate


def write(
    path: str | Path,
    audio: Float[np.ndarray, "channel time"] | Float[np.ndarray, " time"],
    sample_rate: int,
    *,
    subtype: str = "FLOAT",
) -> None:
    """Write a sound file under a temporary name beside ``path``, then move it there.

    Integers are rounded to the nearest step of 2^-(bits - 1), so that what was read from a file of integers
    is written back bit by bit.

    Args:
        path: The file; its suffix (.wav, .flac, .ogg, .aiff) determines the format.
        audio: (channel, time) or (time,).
        sample_rate: In Hz.
        subtype: libsndfile's: FLOAT, PCM_16, PCM_24, VORBIS.

    Raises:
        SepnetError: The audio is empty, of another shape or not finite, it would clip, or the disk is full or
            read-only.
    """
    path = Path(path)
    samples = np.atleast_2d(np.asarray(audio))
    if samples.ndim != 2 or samples.size == 0:
        raise SepnetError(
            f"{path}: audio to write is (channel, time) or (time,) with samples, not {np.shape(audio)}"
        )
    form = file_format(path, subtype)
    samples = to_subtype(samples, subtype, path)
    with replacing(path) as temporary:
        try:
            soundfile.write(temporary, samples.T, sample_rate, subtype=subtype, format=form)
        except (soundfile.LibsndfileError, AssertionError) as error:  # AssertionError: a short write
            raise OSError("not all samples could be written") from error


def file_format(path: Path, subtype: str) -> str:
    """Return libsndfile's name of the format of a file to write.

    Args:
        path: The file.
        subtype: libsndfile's.

    Raises:
        SepnetError: The suffix is unknown, or its format has no such subtype.
    """
    name = FORMATS.get(path.suffix.lower())
    if not name or subtype not in SUBTYPES or not soundfile.check_format(name, subtype):
        raise SepnetError(
            f"{path}: suffix {path.suffix!r} and subtype {subtype} can't be written; give a suffix of "
            f"{sorted(FORMATS)} and a subtype of {sorted(SUBTYPES)} that go together, as .wav and FLOAT do"
        )
    return name


def to_subtype(samples: Float[np.ndarray, "channel time"], subtype: str, path: Path) -> np.ndarray:
    """Convert samples to what libsndfile gets, floats or integers.

    Args:
        samples: (channel, time).
        subtype: libsndfile's.
        path: The file, for the message.

    Returns:
        (channel, time).

    Raises:
        SepnetError: Samples are not finite, or would clip.
    """
    check_finite(samples, path)
    return _integers(samples, INTEGER_BITS[subtype], path) if subtype in INTEGER_BITS else samples


@contextmanager
def opened(path: Path) -> Iterator[soundfile.SoundFile]:
    """Open a file, checked as far as possible without decoding it. Raises SepnetError as ``info`` does."""
    if not path.is_file():
        raise SepnetError(f"there is no file {path}: check the path")
    try:
        n_bytes = path.stat().st_size
        if n_bytes == 0:
            raise SepnetError(f"{path} is empty (0 bytes): copy or download it again")
        with path.open("rb") as stream:
            check_chunks(stream, path, n_bytes)
        file = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        raise _unreadable(path, n_bytes, error) from error
    except OSError as error:
        raise SepnetError(f"can't read {path}: {error.strerror or error}; check its permissions") from error
    with file:
        check_length(file, path, n_bytes)
        try:
            yield file
        except soundfile.LibsndfileError as error:
            raise _unreadable(path, n_bytes, error) from error


def _unreadable(path: Path, n_bytes: int, error: soundfile.LibsndfileError) -> SepnetError:
    return SepnetError(
        f"{path} ({n_bytes} bytes) can't be read as audio ({reason(error)}): "
        "copy or download it again, or convert it to WAV or FLAC"
    )


def reason(error: soundfile.LibsndfileError) -> str:
    """Return libsndfile's message."""
    return str(error.error_string).strip().rstrip(".") or f"libsndfile error {error.code}"


def _info(file: soundfile.SoundFile) -> AudioInfo:
    return AudioInfo(int(file.samplerate), int(file.channels), int(file.frames))


def check_length(file: soundfile.SoundFile, path: Path | str, n_bytes: int) -> None:
    """Raise SepnetError if a file holds nothing according to its header, or does not say how much."""
    if file.frames <= 0:  # libsndfile says 0 for an Ogg stream without its last page, too
        raise SepnetError(
            f"{path} ({n_bytes} bytes) is audio of zero length, or was cut off: copy or download it again"
        )
    if file.frames >= UNKNOWN_LENGTH:
        raise SepnetError(
            f"the header of {path} ({n_bytes} bytes) does not say how long it is: convert it again"
        )


def check_chunks(stream: io.BufferedIOBase, name: Path | str, n_bytes: int) -> None:
    """Raise SepnetError if a WAV or AIFF was cut off: libsndfile reads such a file as a shorter one.

    Args:
        stream: The file, at its beginning.
        name: Its name, for the message.
        n_bytes: Its size.
    """
    magic = stream.read(12)
    data_chunk = {b"RIFF": b"data", b"FORM": b"SSND"}.get(magic[:4])
    while data_chunk and len(header := stream.read(8)) == 8:
        size = int.from_bytes(header[4:], "little" if data_chunk == b"data" else "big")
        available = n_bytes - stream.tell()
        if header[:4] == data_chunk:
            if size != 0xFFFFFFFF and size > available:  # 0xFFFFFFFF: written to a pipe, length unknown
                raise SepnetError(
                    f"{name} is cut off: its header promises {size} bytes of samples, but {available} are "
                    "there; copy or download it again"
                )
            return
        stream.seek(size + size % 2, os.SEEK_CUR)  # chunks are padded to even sizes


def seek(file: soundfile.SoundFile, path: Path, start: int) -> None:
    """Go to a sample of a file of which nothing was read.

    Args:
        file: The open file.
        path: Its path, for the message.
        start: The sample.

    Raises:
        SepnetError: The sample can't be reached.
    """
    if file.subtype == "VORBIS":
        # libsndfile 1.2.2 arrives at the wrong sample in the last page of a stream: decode up to there.
        for begin in range(0, start, BLOCK_FRAMES):
            decode_block(file, path, begin, min(BLOCK_FRAMES, start - begin))
        return
    try:
        file.seek(start)
    except soundfile.LibsndfileError as error:
        raise _cut_off(path, int(file.frames), f"sample {start} can't be reached") from error


def decode_block(
    file: soundfile.SoundFile, path: Path | str, start: int, count: int
) -> Float[np.ndarray, "channel time"]:
    """Decode the next samples of a file.

    Args:
        file: The open file.
        path: Its path, for the message.
        start: How many samples were read before.
        count: How many to read.

    Returns:
        (channel, time).

    Raises:
        SepnetError: As ``read`` does.
    """
    try:
        samples = file.read(count, dtype="float32", always_2d=True)  # (time, channel)
    except soundfile.LibsndfileError as error:
        raise _cut_off(path, int(file.frames), f"decoding fails after {start} ({reason(error)})") from error
    if len(samples) < count:
        raise _cut_off(path, int(file.frames), f"{start + len(samples)} can be read")
    check_finite(samples, path)
    return np.ascontiguousarray(samples.T)


def _cut_off(path: Path | str, frames: int, what: str) -> SepnetError:
    return SepnetError(
        f"{path} is cut off or damaged: its header promises {frames} samples, but {what}; "
        "copy or download it again"
    )


def check_finite(samples: np.ndarray, path: Path | str) -> None:
    """Raise SepnetError if samples are NaN or infinite."""
    finite = np.isfinite(samples)
    if not finite.all():
        n_bad = samples.size - int(finite.sum())
        raise SepnetError(
            f"{path}: {n_bad} of {samples.size} samples are NaN or infinite: repair or leave out the file"
        )


def _integers(samples: np.ndarray, bits: int, path: Path) -> np.ndarray:
    """Samples as integers, left-aligned in int16 or int32 as libsndfile takes them.

    libsndfile's own way from float is off by one step above half of full scale, so that a file of
    integers read and written again would not be the same file.
    """
    steps = float(1 << (bits - 1))
    rounded = np.rint(samples.astype(np.float64) * steps)
    if rounded.max() > steps - 1 or rounded.min() < -steps:
        peak = float(np.abs(samples).max())
        gain = (1 - 1 / steps) / peak
        raise SepnetError(
            f"{path} would clip: the peak is {peak:.6g} of full scale in {bits} bit integers; multiply the "
            f"audio by {np.floor(gain * 1e6) / 1e6:.6f} or less, or write subtype FLOAT"
        )
    if bits <= 16:
        return rounded.astype(np.int16) << (16 - bits)
    return rounded.astype(np.int32) << (32 - bits)
