"""Choose the decoder that a sound file can be trusted to."""

from __future__ import annotations

import contextlib
import functools
import io
import stat
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import soundfile
from jaxtyping import Float

from sepnet.data.audio import headers
from sepnet.data.audio.ffmpeg import FfmpegDecoder, count_flac_frames
from sepnet.data.audio.libsndfile import SndfileDecoder
from sepnet.types import SepnetError

SUFFIXES = frozenset(
    {
        *(".wav", ".wave", ".w64", ".rf64", ".aif", ".aiff", ".aifc", ".caf", ".au", ".flac", ".ogg", ".oga"),
        *(".opus", ".mp3", ".mp2", ".m4a", ".m4b", ".aac", ".ac3", ".eac3", ".wma", ".amr", ".mka", ".weba"),
        *(".wv", ".tta", ".ape", ".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".wmv", ".flv"),
        *(".ogv", ".mpg", ".mpeg", ".mts", ".m2ts"),
    }
)
"""Of the files that are looked for in folders; a file that is named may have any suffix."""
UNCOMPRESSED_OR_FLAC = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b"caff", b".snd", b"NIST", b"fLaC")
UNCOMPRESSED = frozenset(
    {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"}
)


@runtime_checkable
class Decoder(Protocol):
    """Gives the samples of one file, front to back.

    Attributes:
        sample_rate: In Hz.
        channels: Number of channels.
        frames: Samples of one channel, where that is certain without decoding; else None.
        announced_frames: What the header says, where it says more than an estimate; else None.
        tolerance_frames: By how much the header of an intact file may differ.
        n_lost_frames: Samples of one channel that could not be decoded so far.
        ends_incomplete: Whether the last packet so far could not be decoded.
    """

    sample_rate: int
    channels: int
    frames: int | None
    announced_frames: int | None
    tolerance_frames: int
    n_lost_frames: int
    ends_incomplete: bool

    def read(self, count: int) -> Float[np.ndarray, "channel time"]:
        """Decode the next samples: ``count`` of them, or fewer at the end."""
        ...

    def seek(self, start: int) -> None:
        """Go to a sample."""
        ...

    def count(self) -> int:
        """Decode all that remains, keep nothing, and return how many samples of one channel it were."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


def open_decoder(source: Path | bytes, name: Path | str, track: int = 0) -> Decoder:
    """Open a sound file with the decoder that reads it whole.

    Args:
        source: The file, or its bytes.
        name: Its name, for messages.
        track: Which of the audio tracks, from 0.

    Raises:
        SepnetError: The file is missing, empty, no sound, or has no such track.
    """
    if isinstance(source, bytes):
        n_bytes = len(source)
    else:
        check_exists(source)
        n_bytes = source.stat().st_size
    if n_bytes == 0:
        raise SepnetError(f"{name} is empty (0 bytes): copy or download it again")
    try:
        return _open(source, name, n_bytes, track)
    except OSError as error:
        raise SepnetError(f"can't read {name}: {error.strerror or error}; check its permissions") from error


def check_exists(path: Path) -> None:
    """Raise SepnetError if there is no file at a path."""
    try:
        is_file, is_link = stat.S_ISREG(path.stat().st_mode), False
    except FileNotFoundError:
        is_file, is_link = False, path.is_symlink()
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise SepnetError(f"can't read {path}: {getattr(error, 'strerror', None) or error}") from error
    if is_link:
        raise SepnetError(f"{path} is a link to {path.readlink()}, which does not exist: mend the link")
    if not is_file:
        raise SepnetError(f"there is no file {path}: check the path")
    try:
        str(path).encode()
    except UnicodeEncodeError:  # tables and records could not name it
        name = str(path).encode(errors="backslashreplace").decode()
        raise SepnetError(f"the name of {name} is not UTF-8: rename the file") from None


def _open(source: Path | bytes, name: Path | str, n_bytes: int, track: int) -> Decoder:
    with open_source(source) as stream:
        is_candidate = headers.magic(stream) in UNCOMPRESSED_OR_FLAC and track == 0
        promise = headers.promised_bytes(stream, n_bytes)
    if is_candidate:
        with contextlib.suppress(soundfile.LibsndfileError, TypeError):  # TypeError: of headerless formats
            file = soundfile.SoundFile(source if isinstance(source, Path) else io.BytesIO(source))
            if _is_trusted(file, source):
                return SndfileDecoder(file, name, promise)
            file.close()
    return FfmpegDecoder(open_source(source), name, n_bytes=n_bytes, track=track)


def _is_trusted(file: soundfile.SoundFile, source: Path | bytes) -> bool:
    """Whether the length that libsndfile gives is that of the samples."""
    if file.format == "FLAC":
        if isinstance(source, bytes):
            return count_flac_frames(open_source(source)) == int(file.frames)
        status = source.stat()
        return _count_flac_once(source.absolute(), status.st_size, status.st_mtime_ns) == int(file.frames)
    return file.subtype in UNCOMPRESSED


@functools.lru_cache(maxsize=1 << 14)
def _count_flac_once(path: Path, n_bytes: int, modified: int) -> int:
    """As ``count_flac_frames``, but again only for a file that has changed."""
    return count_flac_frames(open_source(path))


def open_source(source: Path | bytes) -> io.BufferedIOBase:
    """Open a file, or its bytes, for reading."""
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
