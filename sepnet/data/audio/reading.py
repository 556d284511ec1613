"""Read sound files: whole, in part, or block by block in the memory of a block."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from sepnet.data.audio import headers
from sepnet.data.audio.decoding import Decoder, open_decoder, open_source
from sepnet.data.audio.writing import check_finite
from sepnet.types import SepnetError

log = logging.getLogger(__name__)
BLOCK_FRAMES = 1 << 18
MAX_LOST_SECONDS = 0.5  # joined files have a few packets between them that are no sound


@dataclass(frozen=True)
class AudioInfo:
    """What is known of a file after it was decoded.

    Attributes:
        sample_rate: In Hz.
        channels: Number of channels.
        frames: Samples of one channel.
        defect: What is wrong with a file that can be read only in part, in a sentence; None: nothing is.
    """

    sample_rate: int
    channels: int
    frames: int
    defect: str | None = field(default=None, compare=False)

    @property
    def seconds(self) -> float:
        """The duration."""
        return self.frames / self.sample_rate


@dataclass(frozen=True)
class _Length:
    """What a decoder gave of a whole file.

    Attributes:
        frames: Samples of one channel.
        n_lost_frames: Samples of one channel that it could not decode.
        ends_incomplete: Whether the last packet could not be decoded.
    """

    frames: int
    n_lost_frames: int = 0
    ends_incomplete: bool = False

    @classmethod
    def of(cls, frames: int, decoder: Decoder) -> _Length:
        """The length of a file that was decoded to its end."""
        return cls(frames, decoder.n_lost_frames, decoder.ends_incomplete)


class AudioReader:
    """An open sound file: its exact length, and its samples by their position.

    Reading forward never goes back in the file; parts may overlap.

    Args:
        source: The file, or its bytes.
        name: Its name, for messages; None: the path.
        track: Which of the audio tracks, from 0.

    Attributes:
        name: The name, for messages.
        sample_rate: In Hz.
        channels: Number of channels.

    Raises:
        SepnetError: The file is missing, empty, no sound, or has no such track.
    """

    def __init__(self, source: Path | bytes, name: str | None = None, track: int = 0) -> None:
        self._source, self._track = source, track
        self.name = str(source) if name is None and isinstance(source, Path) else str(name)
        self._decoder: Decoder = open_decoder(source, self.name, track)
        self.sample_rate, self.channels = self._decoder.sample_rate, self._decoder.channels
        self._buffer: Float[np.ndarray, "channel time"] = np.zeros((self.channels, 0), dtype=np.float32)
        self._start = 0
        self._length: _Length | None = None

    def close(self) -> None:
        """Release the file."""
        self._decoder.close()

    @property
    def frames(self) -> int:
        """Samples of one channel; where only decoding tells, the whole file is decoded for that, once."""
        return self._known_length().frames

    @property
    def known_frames(self) -> int | None:
        """Samples of one channel, where that is known without decoding; else None."""
        return self._decoder.frames if self._length is None else self._length.frames

    @property
    def info(self) -> AudioInfo:
        """Rate, channels, length, and whether the file can be read only in part."""
        return AudioInfo(self.sample_rate, self.channels, self.frames, self.defect)

    @property
    def defect(self) -> str | None:
        """What is wrong with a file that can be read only in part, in a sentence; None: nothing is."""
        length, announced = self._known_length(), self._decoder.announced_frames
        rate = self.sample_rate
        if announced is not None and length.frames < announced - self._decoder.tolerance_frames:
            return (
                f"{self.name} is cut off or damaged: its header promises {announced} samples "
                f"({announced / rate:.2f} s), but {length.frames} ({length.frames / rate:.2f} s) can be read"
            )
        if length.n_lost_frames > MAX_LOST_SECONDS * rate:
            return (
                f"{self.name} is damaged: about {length.n_lost_frames / rate:.2f} s of it can't be decoded, "
                f"but {length.frames} samples ({length.frames / rate:.2f} s) can"
            )
        if length.ends_incomplete or self._lacks_last_page():
            return (
                f"{self.name} is cut off: its last part is incomplete, and {length.frames} samples "
                f"({length.frames / rate:.2f} s) can be read"
            )
        return None

    def read(self, start: int, stop: int) -> Float[np.ndarray, "channel time"]:
        """Read samples ``start`` to ``stop`` of all channels.

        Args:
            start: The first sample.
            stop: The sample after the last one.

        Returns:
            (channel, time).

        Raises:
            SepnetError: The file doesn't have these samples, or some of them are NaN or infinite.
        """
        end = self._start + self._buffer.shape[1]
        if not self._start <= start <= end:
            self._decoder.seek(start)
            self._buffer, self._start = self._buffer[:, :0], start
        else:
            self._buffer, self._start = self._buffer[:, start - self._start :], start
        missing = stop - self._start - self._buffer.shape[1]
        if missing > 0:
            block = self._decode(missing)
            self._buffer = block if not self._buffer.size else np.concatenate([self._buffer, block], axis=1)
        if self._buffer.shape[1] < stop - start:
            raise SepnetError(
                f"{self.name} ends after {start + self._buffer.shape[1]} samples, so {start} to {stop} can't "
                "be read: did it change meanwhile?"
            )
        return self._buffer[:, : stop - start]

    def blocks(self) -> Iterator[Float[np.ndarray, "channel time"]]:
        """All samples from the beginning, block by block; afterwards the length is known."""
        self._decoder.seek(0)
        n_frames = 0
        while (block := self._decode(BLOCK_FRAMES)).shape[1]:
            n_frames += block.shape[1]
            yield block
        if n_frames == 0:
            raise self._empty()
        self._length = _Length.of(n_frames, self._decoder)
        self._buffer, self._start = self._buffer[:, :0], n_frames

    def _decode(self, count: int) -> Float[np.ndarray, "channel time"]:
        block = self._decoder.read(count)
        check_finite(block, self.name)
        return block

    def _known_length(self) -> _Length:
        if self._length is None:
            if self._decoder.frames is not None:
                self._length = _Length(self._decoder.frames)
            elif isinstance(self._source, bytes):
                self._length = _count(self._source, self.name, self._track)
            else:
                stat = self._source.stat()
                self._length = _count_once(
                    self._source.absolute(), stat.st_size, stat.st_mtime_ns, self._track
                )
        if self._length.frames == 0:
            raise self._empty()
        return self._length

    def _empty(self) -> SepnetError:
        return SepnetError(f"{self.name} is audio of zero length: copy or download it again")

    def _lacks_last_page(self) -> bool:
        with open_source(self._source) as stream:
            return headers.lacks_last_page(stream)


def _count(source: Path | bytes, name: str, track: int) -> _Length:
    decoder = open_decoder(source, name, track)
    try:
        return _Length.of(decoder.count(), decoder)
    finally:
        decoder.close()


@functools.lru_cache(maxsize=1 << 14)
def _count_once(path: Path, n_bytes: int, modified: int, track: int) -> _Length:
    """As ``_count``, but again only for a file that has changed."""
    return _count(path, str(path), track)


@contextmanager
def open_audio(path: str | Path, *, track: int = 0) -> Iterator[AudioReader]:
    """Open a sound file.

    Args:
        path: The file.
        track: Which of the audio tracks, from 0.

    Raises:
        SepnetError: The file is missing, empty, no sound, or has no such track.

    Example:
        >>> with open_audio("mix.wav") as reader:
        ...     first_second = reader.read(0, reader.sample_rate)
    """
    reader = AudioReader(Path(path), track=track)
    try:
        yield reader
    finally:
        reader.close()


def info(path: str | Path, *, track: int = 0) -> AudioInfo:
    """Return rate, channels and exact length of a file; where only decoding tells the length, decode it.

    Args:
        path: The file.
        track: Which of the audio tracks, from 0.

    Raises:
        SepnetError: As ``open_audio`` does.
    """
    with open_audio(path, track=track) as reader:
        return reader.info


def verify(path: str | Path) -> AudioInfo:
    """Decode a whole file, block by block, and keep nothing.

    Args:
        path: The file.

    Raises:
        SepnetError: As ``read`` does.
    """
    with open_audio(path) as reader:
        for _ in reader.blocks():
            pass
        _check_whole(reader, strict=True)
        return reader.info


def read(
    path: str | Path,
    *,
    sample_rate: int | None = None,
    start: int = 0,
    frames: int = -1,
    track: int = 0,
    strict: bool = True,
) -> tuple[Float[np.ndarray, "channel time"], int]:
    """Read a file or a part of it, all channels.

    Args:
        path: The file.
        sample_rate: The rate that the file has to have, in Hz; None: any.
        start: The first sample.
        frames: Samples of one channel; -1: to the end.
        track: Which of the audio tracks, from 0.
        strict: Whether a file that is cut off or damaged is refused; otherwise what can be read of it is
            returned, and a warning logged.

    Returns:
        The samples (channel, time) and the rate in Hz.

    Raises:
        SepnetError: The file is missing, empty, cut off, not audio, without samples or at another rate, holds
            NaN or infinity, or doesn't have these samples.

    Example:
        >>> audio, sample_rate = read("mix.wav")
    """
    with open_audio(path, track=track) as reader:
        if sample_rate is not None and reader.sample_rate != sample_rate:
            raise SepnetError(
                f"{path} is at {reader.sample_rate} Hz, but {sample_rate} Hz is required: "
                "resample it with sepnet.dsp.resample, or set the sample rate to the file's"
            )
        if (start, frames) == (0, -1):
            whole = list(reader.blocks())
            _check_whole(reader, strict)
            return np.concatenate(whole, axis=1), reader.sample_rate
        _check_whole(reader, strict)
        n_samples = reader.frames - start if frames == -1 else frames
        if start < 0 or n_samples < 1 or start + n_samples > reader.frames:
            raise SepnetError(
                f"{path} has {reader.frames} samples, so {n_samples} samples from {start} can't be read: "
                "give a start and a number of samples inside it"
            )
        return reader.read(start, start + n_samples), reader.sample_rate


def _check_whole(reader: AudioReader, strict: bool) -> None:
    """Refuse a file that is cut off or damaged, or warn of it."""
    if (defect := reader.defect) is None:
        return
    if strict:
        raise SepnetError(f"{defect}; copy or download it again")
    log.warning("warning: %s", defect)
