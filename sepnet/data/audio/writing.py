"""Write sound files, whole or block by block, under a temporary name that becomes theirs at the end."""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import ROUND_DOWN, Decimal
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float

from sepnet.atomic import replacing
from sepnet.types import SepnetError

FORMATS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".aif": "AIFF", ".aiff": "AIFF"}
INTEGER_BITS = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
FLOATS = frozenset({"FLOAT", "DOUBLE"})
SUBTYPES = frozenset({*INTEGER_BITS, *FLOATS, "VORBIS"})
SUBTYPE_OF = {".wav": "FLOAT", ".flac": "PCM_24", ".ogg": "VORBIS", ".aif": "FLOAT", ".aiff": "FLOAT"}
MAX_CHANNELS = {"FLAC": 8, "OGG": 255}
MAX_SAMPLE_RATE = {"FLAC": 655_350, "OGG": 200_000}  # in Hz; beyond, libsndfile's encoder of Vorbis crashes
MAX_ODD_FLAC_RATE = 65_535  # in Hz; the header of a FLAC file holds higher rates in steps of 10 Hz
MAX_FLOAT = float(np.finfo(np.float32).max)
MAX_RIFF_BYTES = 4_000_000_000  # the header of a plain WAV counts bytes in 32 bits


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
    check_layout(path, len(samples), sample_rate)
    samples = to_subtype(samples, subtype, path)
    with replacing(path) as temporary:
        try:
            soundfile.write(temporary, samples.T, sample_rate, subtype=subtype, format=form)
        except (soundfile.LibsndfileError, AssertionError) as error:  # AssertionError: a short write
            raise OSError("not all samples could be written") from error


def largest_gain(peak: float, subtype: str) -> float:
    """Return the largest gain with which a signal does not clip, rounded down to six digits.

    Args:
        peak: Largest absolute sample.
        subtype: libsndfile's; floats clip where float32 ends only.
    """
    if peak == 0.0:
        return float("inf")
    bits = INTEGER_BITS.get(subtype)
    largest_float = 1.0 if subtype == "VORBIS" else MAX_FLOAT
    full_scale = largest_float if bits is None else 1 - 2.0 ** (1 - bits)
    return round_down(full_scale / peak)


def round_down(value: float) -> float:
    """The number of six significant digits that is next below a positive one, or it."""
    unit = Decimal(1).scaleb(Decimal(value).adjusted() - 5)
    return float(Decimal(value).quantize(unit, ROUND_DOWN)) if math.isfinite(value) else value


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
        SepnetError: As ``write`` does.
    """
    path = Path(path)
    container = file_format(path, subtype)
    check_layout(path, n_channels, sample_rate)
    n_bytes = n_samples * n_channels * {"DOUBLE": 8}.get(subtype, INTEGER_BITS.get(subtype, 32) // 8)
    if n_bytes > MAX_RIFF_BYTES and container == "WAV":
        container = "RF64"
    if n_bytes > MAX_RIFF_BYTES and container == "AIFF":
        raise SepnetError(f"{path} would hold {n_bytes / 1e9:.1f} GB, more than an AIFF can: set format=wav")
    with replacing(path) as temporary:
        try:
            with soundfile.SoundFile(
                temporary, "w", sample_rate, n_channels, subtype=subtype, format=container
            ) as file:
                for block in blocks:
                    file.write(to_subtype(block, subtype, path).T)
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


def check_layout(path: Path, n_channels: int, sample_rate: int) -> None:
    """Raise SepnetError if the format of a file cannot hold so many channels, or this rate in Hz."""
    name = FORMATS[path.suffix.lower()]
    article = "an" if name[0] in "AO" else "a"
    max_channels, max_rate = MAX_CHANNELS.get(name, n_channels), MAX_SAMPLE_RATE.get(name, sample_rate)
    if n_channels > max_channels:
        raise SepnetError(
            f"{article} {name} file holds {max_channels} channels, but each source has {n_channels}: give "
            "format=wav, or channels=mean"
        )
    if sample_rate > max_rate:
        raise SepnetError(
            f"{article} {name} file holds at most {max_rate} Hz, not {sample_rate} Hz: give format=wav"
        )
    if name == "FLAC" and sample_rate > MAX_ODD_FLAC_RATE and sample_rate % 10:
        raise SepnetError(
            f"a FLAC file holds rates above {MAX_ODD_FLAC_RATE} Hz in steps of 10 Hz, not {sample_rate} Hz: "
            "give format=wav"
        )


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
        raise SepnetError(
            f"{path} would clip: the peak is {peak:.6g} of full scale in {bits} bit integers; multiply the "
            f"audio by {round_down((1 - 1 / steps) / peak):g} or less, or write subtype FLOAT"
        )
    if bits <= 16:
        return rounded.astype(np.int16) << (16 - bits)
    return rounded.astype(np.int32) << (32 - bits)
