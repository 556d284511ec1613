"""Sound files of any length, read and written block by block: see sepnet.data.audio for what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float

from sepnet.atomic import replacing
from sepnet.data import audio
from sepnet.types import SepnetError

MAX_RIFF_BYTES = 4_000_000_000  # the header of a plain WAV counts bytes in 32 bits
SUBTYPE_OF = {".wav": "FLOAT", ".flac": "PCM_24", ".ogg": "VORBIS", ".aif": "FLOAT", ".aiff": "FLOAT"}


class BlockReader:
    """Reads parts of a file in the order of their starts; they may overlap. Earlier samples are dropped.

    Args:
        file: The open file.
        path: Its path, for messages.
    """

    def __init__(self, file: soundfile.SoundFile, path: Path) -> None:
        self._file, self._path = file, path
        self._buffer: Float[np.ndarray, "channel time"] = np.zeros((file.channels, 0), dtype=np.float32)
        self._start = 0

    def read(self, start: int, stop: int) -> Float[np.ndarray, "channel time"]:
        """Read samples ``start`` to ``stop`` of all channels.

        Args:
            start: The first sample, not before the last call's.
            stop: The sample after the last one.

        Returns:
            (channel, time).

        Raises:
            SepnetError: As ``audio.read`` does.
        """
        end = self._start + self._buffer.shape[1]
        if start > end:
            if end == 0:
                audio.seek(self._file, self._path, start)
            else:
                audio.decode_block(self._file, self._path, end, start - end)
            self._buffer, self._start = self._buffer[:, :0], start
        else:
            self._buffer, self._start = self._buffer[:, start - self._start :], start
        missing = stop - self._start - self._buffer.shape[1]
        if missing > 0:
            block = audio.decode_block(self._file, self._path, stop - missing, missing)
            self._buffer = np.concatenate([self._buffer, block], axis=1)
        return self._buffer[:, : stop - start]


@contextmanager
def open_blocks(path: str | Path) -> Iterator[BlockReader]:
    """Open a file for reading block by block. Raises SepnetError as ``audio.info`` does."""
    with audio.opened(Path(path)) as file:
        yield BlockReader(file, Path(path))


def largest_gain(peak: float, subtype: str) -> float:
    """Return the largest gain with which a signal does not clip.

    Args:
        peak: Largest absolute sample.
        subtype: libsndfile's; floats never clip.
    """
    bits = audio.INTEGER_BITS.get(subtype)
    if bits is None or peak == 0.0:
        return float("inf") if subtype != "VORBIS" or peak == 0.0 else 1.0 / peak
    return float(np.floor((1 - 2.0 ** (1 - bits)) / peak * 1e6) / 1e6)


def write_blocks(
    path: str | Path,
    blocks: Iterator[Float[np.ndarray, "channel time"]],
    sample_rate: int,
    *,
    n_channels: int,
    n_samples: int,
    subtype: str,
) -> None:
    """Write a file block by block under a temporary name, then move it to ``path``.

    A WAV of 4 GB or more becomes an RF64, which has no such limit.

    Args:
        path: The file.
        blocks: (channel, time) each.
        sample_rate: In Hz.
        n_channels: Number of channels.
        n_samples: Samples of one channel in all blocks.
        subtype: libsndfile's.

    Raises:
        SepnetError: As ``audio.write`` does.
    """
    path = Path(path)
    file_format = audio.file_format(path, subtype)
    n_bytes = n_samples * n_channels * {"DOUBLE": 8}.get(subtype, audio.INTEGER_BITS.get(subtype, 32) // 8)
    if n_bytes > MAX_RIFF_BYTES and file_format == "WAV":
        file_format = "RF64"
    if n_bytes > MAX_RIFF_BYTES and file_format == "AIFF":
        raise SepnetError(f"{path} would hold {n_bytes / 1e9:.1f} GB, more than an AIFF can: set format=wav")
    with replacing(path) as temporary:
        try:
            with soundfile.SoundFile(
                temporary, "w", sample_rate, n_channels, subtype=subtype, format=file_format
            ) as file:
                for block in blocks:
                    file.write(audio.to_subtype(block, subtype, path).T)
        except (soundfile.LibsndfileError, AssertionError) as error:  # AssertionError: a short write
            raise OSError("not all samples could be written") from error
