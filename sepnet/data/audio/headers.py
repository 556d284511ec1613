"""What the headers of sound files say of their length: compared with what is decoded, and never believed."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

from sepnet.types import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, SepnetError

MIN_UNKNOWN_BYTES = 0x7FFFF000  # from this size on, a program that wrote to a pipe means: not known
LAST_PAGES_BYTES = 1 << 17  # a page of Ogg has 65,307 bytes at the most
LAST_PAGE_FLAG = 4
FIRST_FRAME_BYTES = 4096
MAX_CHANNELS = 1024


@dataclass(frozen=True)
class Promise:
    """How many bytes of samples a header promises, and how many there are."""

    promised: int
    available: int


def magic(stream: io.BufferedIOBase) -> bytes:
    """Return the four bytes by which a file tells its format, after its tags (ID3), if it begins with such.

    Args:
        stream: The file.
    """
    stream.seek(0)
    start = stream.read(10)
    if not start.startswith(b"ID3") or len(start) < 10:
        return start[:4]
    stream.seek(
        10 + sum((byte & 0x7F) << shift for byte, shift in zip(start[6:], (21, 14, 7, 0), strict=True))
    )
    return stream.read(4)


def check_plausible(sample_rate: int, channels: int, name: Path | str) -> None:
    """Raise SepnetError for a rate or a number of channels that no recording has."""
    if not (MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE and 0 < channels <= MAX_CHANNELS):
        raise SepnetError(
            f"the header of {name} says {channels} channels at {sample_rate} Hz, which no recording has "
            f"(at most {MAX_CHANNELS}, at {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz): convert it again"
        )


def promised_bytes(stream: io.BufferedIOBase, n_bytes: int) -> Promise | None:
    """Return what the header of a WAV, RF64 or AIFF promises: libsndfile reads a cut one as a shorter one.

    Args:
        stream: The file.
        n_bytes: Its size.

    Returns:
        None for other files, and where the length was not known when the header was written.
    """
    stream.seek(0)
    form = stream.read(12)[:4]
    data_chunk = {b"RIFF": b"data", b"RF64": b"data", b"FORM": b"SSND"}.get(form)
    size_in_ds64 = None
    while data_chunk and len(header := stream.read(8)) == 8:
        name, size = header[:4], int.from_bytes(header[4:], "big" if form == b"FORM" else "little")
        if name == data_chunk:
            size = size_in_ds64 if form == b"RF64" and size_in_ds64 is not None else size
            available = n_bytes - stream.tell()
            is_unknown = size == 0 or (size >= MIN_UNKNOWN_BYTES and form != b"RF64")
            return None if is_unknown and size != available else Promise(size, available)
        content = stream.read(size) if name == b"ds64" and size < 1 << 16 else b""
        if len(content) >= 16:
            size_in_ds64 = int.from_bytes(content[8:16], "little")
        stream.seek(size + size % 2 - len(content), os.SEEK_CUR)  # chunks are padded to even sizes
    return None


def lacks_last_page(stream: io.BufferedIOBase) -> bool:
    """Whether an Ogg stream does not end with a complete page that is marked as the last one.

    Args:
        stream: The file.
    """
    stream.seek(0)
    if stream.read(4) != b"OggS":
        return False
    stream.seek(max(0, stream.seek(0, os.SEEK_END) - LAST_PAGES_BYTES))
    end = stream.read(LAST_PAGES_BYTES)
    start = len(end)
    while (start := end.rfind(b"OggS", 0, start)) >= 0:
        header = end[start : start + 27]
        if len(header) == 27 and header[4] == 0:  # of version 0; otherwise the letters are part of the sound
            segments = end[start + 27 : start + 27 + header[26]]
            is_whole = len(segments) == header[26] and start + 27 + len(segments) + sum(segments) <= len(end)
            return not (is_whole and header[5] & LAST_PAGE_FLAG)
    return True


def has_mpeg_length(stream: io.BufferedIOBase) -> bool:
    """Whether an MPEG audio file says its number of frames (Xing, Info or VBRI), at its beginning.

    Without that, a length is an estimate from the bit rate.
    """
    magic(stream)  # after which the first frame goes on
    first_frame = stream.read(FIRST_FRAME_BYTES)
    return any(tag in first_frame for tag in (b"Xing", b"Info", b"VBRI"))
