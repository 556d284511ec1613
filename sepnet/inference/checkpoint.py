"""The half-done separation of a long recording: on disk after each chunk, so that it can go on from there.

.<stem>.sepnet/<number>.f32      the sources so far, float32, channel by channel within each sample
               state.json        what it is a separation of, and how far it came
               <chunk>.safetensors  what the next chunk has to know of those before
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sepnet.data.audio import replacing
from sepnet.types import SepnetError

try:
    import fcntl
except ImportError:  # on Windows two processes have to keep out of each other's way by themselves
    fcntl = None  # type: ignore[assignment]

STATE, LOCK = "state.json", "lock"
BLOCK = 1 << 20  # samples of all channels that are read at once


@dataclass
class Progress:
    """meant: what tells this separation from any other. n_chunks: that are done; n_samples: of each source.

    labels: None where the order is arbitrary. stitches: as they are told in the record. peak: of any sample.
    left_over, power: sums of squares of the mixture without the estimates, and of the mixture. written: names
    of the files that were begun to be written in the end.
    """

    meant: dict[str, Any]
    n_chunks: int = 0
    n_samples: int = 0
    n_sources: int = 0
    labels: list[str] | None = None
    stitches: list[dict[str, Any]] = field(default_factory=list)
    peak: float = 0.0
    left_over: float = 0.0
    power: float = 0.0
    compute_seconds: float = 0.0
    written: list[str] = field(default_factory=list)


class Work:
    """The folder of one recording, in which the sources of ``n_channels`` channels grow.

    It is one process's alone: a context manager, which lets go of it at the end, and leaves no folder where
    nothing was done. Raises SepnetError where another process has it, or it can't be made.
    """

    def __init__(self, folder: Path, meant: dict[str, Any], n_channels: int) -> None:
        self.folder, self.n_channels = folder, n_channels
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / LOCK).open("wb")
        except OSError as error:
            raise self._closed(error) from error
        try:
            if fcntl is not None:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise SepnetError(
                f"another process works in {folder}: wait for it, or separate into another folder (out=)"
            ) from error
        self.progress, self.tensors = self._found(meant)

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.progress.n_chunks:
            self.remove()
        self._lock.close()

    def _found(self, meant: dict[str, Any]) -> tuple[Progress, dict[str, Tensor]]:
        """What stands of the same separation; else nothing, and what stands of another is removed."""
        try:
            progress = Progress(**json.loads((self.folder / STATE).read_text()))
            tensors = load_file(self._tensors(progress.n_chunks))
            n_bytes = progress.n_samples * self.n_channels * 4
            whole = all(path.stat().st_size >= n_bytes for path in self._paths(progress.n_sources))
            if progress.meant == meant and whole:
                for path in self._paths(progress.n_sources):
                    with path.open("r+b") as stream:
                        stream.truncate(n_bytes)
                return progress, tensors
        except (OSError, ValueError, TypeError, SafetensorError):
            pass
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != LOCK:
                path.unlink(missing_ok=True)
        return Progress(meant), {}

    def add(self, sources: Float[np.ndarray, "source channel time"], tensors: dict[str, Tensor]) -> None:
        """What a chunk adds. ``progress`` is brought up to date by the caller, but for the counts.

        Raises SepnetError where it can't be written.
        """
        try:
            self._add(sources, tensors)
        except OSError as error:
            raise self._closed(error) from error

    def _add(self, sources: Float[np.ndarray, "source channel time"], tensors: dict[str, Tensor]) -> None:
        progress = self.progress
        for path, source in zip(self._paths(len(sources)), sources, strict=True):
            with path.open("ab") as stream:
                stream.write(np.ascontiguousarray(source.T, dtype="<f4").data)
        progress.n_sources = len(sources)
        progress.n_samples += sources.shape[-1]
        progress.n_chunks += 1
        progress.peak = max(progress.peak, float(sources.max(initial=0.0)), -float(sources.min(initial=0.0)))
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, self._tensors(progress.n_chunks)
        )
        self.keep()
        self._tensors(progress.n_chunks - 1).unlink(missing_ok=True)

    def keep(self) -> None:
        """Write down how far it came."""
        with replacing(self.folder / STATE) as temporary:
            temporary.write_text(json.dumps(asdict(self.progress)))

    def blocks(self, source: int, gain: float = 1.0) -> Iterator[Float[np.ndarray, "channel time"]]:
        """A source from its beginning, piece by piece."""
        left = self.progress.n_samples
        with self._paths(self.progress.n_sources)[source].open("rb") as stream:
            while piece := stream.read(min(BLOCK, left) * self.n_channels * 4):
                left -= len(piece) // (self.n_channels * 4)
                samples = np.frombuffer(piece, dtype="<f4").reshape(-1, self.n_channels).T
                yield samples if gain == 1.0 else (gain * samples).astype(np.float32)

    def stretch(self, source: int, start: int, count: int) -> Float[np.ndarray, " time"]:
        """The mean of the channels of some samples of a source."""
        with self._paths(self.progress.n_sources)[source].open("rb") as stream:
            stream.seek(start * self.n_channels * 4)
            piece = np.frombuffer(stream.read(count * self.n_channels * 4), dtype="<f4")
        return np.asarray(piece.reshape(-1, self.n_channels).mean(axis=1))

    def remove(self) -> None:
        """All of it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _closed(self, error: OSError) -> SepnetError:
        return SepnetError(
            f"can't write to {self.folder}: {error.strerror or error}; make room, or choose a folder that "
            "you may write to (out=)"
        )

    def _paths(self, n_sources: int) -> list[Path]:
        return [self.folder / f"{number}.f32" for number in range(n_sources)]

    def _tensors(self, n_chunks: int) -> Path:
        return self.folder / f"{n_chunks}.safetensors"
