"""A result as files: the sources s1.wav, s2.wav and on, and manifest.json, which says what they are.

The names are fixed: nothing that a client sent becomes a part of one.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from sepnet.data.audio_memory import encode
from sepnet.serving.service import Result

MANIFEST, MIXTURE, ARCHIVE = "manifest.json", "mixture.wav", "separation.zip"
PIECE_BYTES = 1 << 20


def files(result: Result) -> dict[str, bytes]:
    """The sources as WAV of 32-bit floats, and the manifest."""
    found = {_name(k): encode(source, result.sample_rate) for k, source in enumerate(result.sources)}
    return {MANIFEST: (json.dumps(manifest(result), indent=2) + "\n").encode(), **found}


def manifest(result: Result) -> dict[str, object]:
    """What the files are, as JSON."""
    return {
        "model": result.model,
        "sample_rate": result.sample_rate,
        "seconds": round(result.seconds, 6),
        "compute_seconds": round(result.compute_seconds, 3),
        "left_over_db": result.left_over_db,
        "sources": [{"file": _name(k), "label": label} for k, label in enumerate(result.labels)],
        "scores": [asdict(score) for score in result.scores],
    }


def zipped(contents: Mapping[str, bytes]) -> Iterator[bytes]:
    """A zip of the files, piece by piece, so that it never lies in memory beside them."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, data in contents.items():
            with archive.open(zipfile.ZipInfo(name), "w") as entry:
                for begin in range(0, len(data), PIECE_BYTES):
                    entry.write(data[begin : begin + PIECE_BYTES])
                    yield sink.take()
    yield sink.take()


def _name(index: int) -> str:
    return f"s{index + 1}.wav"


class _Sink(io.RawIOBase):
    """What was written since it was last asked; it can't be gone back in, so that zipfile doesn't."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self._pieces.append(bytes(data))  # type: ignore[call-overload]
        return len(self._pieces[-1])

    def take(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken
