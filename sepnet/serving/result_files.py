"""Write a result as files: the sources s1.wav, s2.wav and so on, and manifest.json, which describes them.

The names are fixed, and contain nothing that a client has sent.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from sepnet.data.audio.memory import encode
from sepnet.serving.separation import SeparationResult

MANIFEST, MIXTURE, ARCHIVE = "manifest.json", "mixture.wav", "separation.zip"
PIECE_BYTES = 1 << 20


def files(result: SeparationResult) -> dict[str, bytes]:
    """Encode a result: its manifest, and its sources as WAV files of 32-bit floats.

    Args:
        result: The result.

    Returns:
        {file name: content}.
    """
    sources = {_name(k): encode(source, result.sample_rate) for k, source in enumerate(result.sources)}
    return {MANIFEST: (json.dumps(manifest(result), indent=2) + "\n").encode(), **sources}


def manifest(result: SeparationResult) -> dict[str, object]:
    """Describe the files of a result, in plain containers for JSON.

    Args:
        result: The result.
    """
    return {
        "model": result.model,
        "pipeline": dict(result.pipeline),
        "sample_rate": result.sample_rate,
        "seconds": round(result.seconds, 6),
        "compute_seconds": round(result.compute_seconds, 3),
        "residual_db": result.residual_db,
        "warnings": list(result.warnings),
        "sources": [{"file": _name(k), "label": label} for k, label in enumerate(result.labels)],
        "scores": [asdict(score) for score in result.scores],
    }


def zipped(contents: Mapping[str, bytes]) -> Iterator[bytes]:
    """Yield a zip archive of files piece by piece, so that the whole archive is never in memory.

    Args:
        contents: {file name: content}.
    """
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
    """Collects what is written until it is taken. It isn't seekable, so zipfile never goes back."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self._pieces.append(bytes(data))  # type: ignore[call-overload]
        return len(self._pieces[-1])

    def take(self) -> bytes:
        written, self._pieces = b"".join(self._pieces), []
        return written
