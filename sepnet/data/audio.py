"""The only reader and writer of sound files.

Samples are float32 with full scale 1.0, arrays are (channel, time), rates are in Hz. Nothing here
resamples, clips or cuts: what does not fit is refused in one sentence, with the numbers and the remedy.
"""

from __future__ import annotations

import io
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float

from sepnet.types import SepnetError

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff"})
BLOCK_FRAMES = 1 << 18
UNKNOWN_LENGTH = 1 << 62  # libsndfile's count for a stream whose header gives none
FORMATS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".aif": "AIFF", ".aiff": "AIFF"}
INTEGER_BITS = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
SUBTYPES = frozenset({*INTEGER_BITS, "FLOAT", "DOUBLE", "VORBIS"})


@dataclass(frozen=True)
class AudioInfo:
    """What the header of a file says; frames counts the samples of one channel."""

    sample_rate: int
    channels: int
    frames: int

    @property
    def seconds(self) -> float:
        """The duration."""
        return self.frames / self.sample_rate


def info(path: str | Path) -> AudioInfo:
    """What the header says, without decoding. Raises SepnetError for a file that is missing, empty, not
    audio, of zero length, or shorter than its header says (as far as that shows without decoding)."""
    with opened(Path(path)) as file:
        return _info(file)


def verify(path: str | Path) -> AudioInfo:
    """Decode the whole file, block by block, and keep nothing. Raises SepnetError as ``read`` does."""
    path = Path(path)
    with opened(path) as file:
        promised = _info(file)
        done = 0
        while done < promised.frames:
            block = decode_block(file, path, done, min(BLOCK_FRAMES, promised.frames - done))
            done += block.shape[1]
    return promised


def read(
    path: str | Path, *, sample_rate: int | None = None, start: int = 0, frames: int = -1
) -> tuple[Float[np.ndarray, "channel time"], int]:
    """Samples ``start`` to ``start + frames`` (-1: to the end) of all channels, and the rate in Hz.

    Raises SepnetError for a file that is missing, empty, cut off, not audio or without samples, for NaN
    and infinity, for a stretch that the file doesn't hold, and where ``sample_rate`` is given and the
    file has another.
    """
    path = Path(path)
    with opened(path) as file:
        header = _info(file)
        if sample_rate is not None and header.sample_rate != sample_rate:
            raise SepnetError(
                f"{path} is at {header.sample_rate} Hz, but {sample_rate} Hz is asked for: "
                "resample it with sepnet.dsp.resample, or set the sample rate to the file's"
            )
        count = header.frames - start if frames == -1 else frames
        if start < 0 or count < 1 or start + count > header.frames:
            raise SepnetError(
                f"{path} has {header.frames} samples, so {count} samples from {start} can't be read: "
                "ask for a stretch of at least one sample inside it"
            )
        if start:
            seek(file, path, start)
        return decode_block(file, path, start, count), header.sample_rate


def write(
    path: str | Path,
    audio: Float[np.ndarray, "channel time"] | Float[np.ndarray, " time"],
    sample_rate: int,
    *,
    subtype: str = "FLOAT",
) -> None:
    """Write ``audio`` under a temporary name beside ``path``, then move it there.

    The format follows from the suffix (.wav, .flac, .ogg, .aiff), ``subtype`` is libsndfile's: FLOAT,
    PCM_16, PCM_24, VORBIS. Integers are rounded to the nearest step of 2^-(bits - 1), so that what was
    read from a file of integers is written back bit by bit. Raises SepnetError for audio that is empty,
    of another shape or not finite, that would clip, and for a disk that is full or forbidden.
    """
    path = Path(path)
    samples = np.atleast_2d(np.asarray(audio))
    if samples.ndim != 2 or samples.size == 0:
        raise SepnetError(
            f"{path}: audio to write is (channel, time) or (time,) with samples, not {np.shape(audio)}"
        )
    form = file_format(path, subtype)
    samples = as_written(samples, subtype, path)
    with replacing(path) as temporary:
        try:
            soundfile.write(temporary, samples.T, sample_rate, subtype=subtype, format=form)
        except (soundfile.LibsndfileError, AssertionError) as error:  # AssertionError: a short write
            raise OSError("not all samples could be written") from error


def file_format(path: Path, subtype: str) -> str:
    """libsndfile's name for the suffix. Raises SepnetError for one that is unknown or has no such subtype."""
    found = FORMATS.get(path.suffix.lower())
    if not found or subtype not in SUBTYPES or not soundfile.check_format(found, subtype):
        raise SepnetError(
            f"{path}: suffix {path.suffix!r} and subtype {subtype} can't be written; give a suffix of "
            f"{sorted(FORMATS)} and a subtype of {sorted(SUBTYPES)} that go together, as .wav and FLOAT do"
        )
    return found


def as_written(samples: Float[np.ndarray, "channel time"], subtype: str, path: Path) -> np.ndarray:
    """As libsndfile is given them, (channel, time), floats or integers.

    Raises SepnetError for NaN and infinity, and for what would clip.
    """
    check_finite(samples, path)
    return _integers(samples, INTEGER_BITS[subtype], path) if subtype in INTEGER_BITS else samples


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path``, moved over it if the block ends well and removed if not.

    An OSError of the block becomes a SepnetError about ``path``: the disk is full, or the folder closed.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(6)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise SepnetError(f"can't write {path}: {error.strerror or error}; {_room(path)}") from error
    finally:
        if temporary.exists():
            temporary.unlink()


def _room(path: Path) -> str:
    folder = next((parent for parent in path.parents if parent.is_dir()), Path("/"))
    megabytes = shutil.disk_usage(folder).free / 1e6
    return f"{megabytes:.0f} MB are free there: make room, or choose a folder that you may write to"


@contextmanager
def opened(path: Path) -> Iterator[soundfile.SoundFile]:
    """The file, checked as far as can be without decoding. Raises SepnetError as ``info`` does."""
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
    """What libsndfile says."""
    return str(error.error_string).strip().rstrip(".") or f"libsndfile error {error.code}"


def _info(file: soundfile.SoundFile) -> AudioInfo:
    return AudioInfo(int(file.samplerate), int(file.channels), int(file.frames))


def check_length(file: soundfile.SoundFile, path: Path | str, n_bytes: int) -> None:
    """Refuse a file whose header says that it holds nothing, or not how much."""
    if file.frames <= 0:  # libsndfile says 0 for an Ogg stream without its last page, too
        raise SepnetError(
            f"{path} ({n_bytes} bytes) is audio of zero length, or was cut off: copy or download it again"
        )
    if file.frames >= UNKNOWN_LENGTH:
        raise SepnetError(
            f"the header of {path} ({n_bytes} bytes) does not say how long it is: convert it again"
        )


def check_chunks(stream: io.BufferedIOBase, name: Path | str, n_bytes: int) -> None:
    """Refuse a WAV or AIFF whose samples go past the end: libsndfile reads such a file as a short one."""
    magic = stream.read(12)
    wanted = {b"RIFF": b"data", b"FORM": b"SSND"}.get(magic[:4])
    while wanted and len(header := stream.read(8)) == 8:
        size = int.from_bytes(header[4:], "little" if wanted == b"data" else "big")
        there = n_bytes - stream.tell()
        if header[:4] == wanted:
            if size != 0xFFFFFFFF and size > there:  # 0xFFFFFFFF: written to a pipe, length unknown
                raise SepnetError(
                    f"{name} is cut off: its header promises {size} bytes of samples, but {there} are "
                    "there; copy or download it again"
                )
            return
        stream.seek(size + size % 2, os.SEEK_CUR)  # chunks are padded to even sizes


def seek(file: soundfile.SoundFile, path: Path, start: int) -> None:
    """Go to sample ``start`` of a file of which nothing was read. Raises SepnetError where it can't be."""
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
    """The next ``count`` samples, before which ``start`` were read. Raises SepnetError as ``read`` does."""
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
    """Refuse NaN and infinity."""
    finite = np.isfinite(samples)
    if not finite.all():
        bad = samples.size - int(finite.sum())
        raise SepnetError(
            f"{path}: {bad} of {samples.size} samples are NaN or infinite: repair or leave out the file"
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
