"""The unfinished separation of one recording, on disk after each chunk, so that it can be continued.

.<stem>.sepnet/<number>.f32         the sources so far, float32, channels interleaved
               state.json           which job it is, and how far it is
               <chunk>.safetensors  what the next chunk has to know of those before
               lock                 held by the process that works on it
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from sepnet.atomic import write_bytes, write_text
from sepnet.types import SepnetError

try:
    import fcntl
except ImportError:  # on Windows nothing keeps two processes off one recording
    fcntl = None  # type: ignore[assignment]

STATE, LOCK = "state.json", "lock"
BLOCK_SAMPLES = 1 << 20  # of all channels, read at once


@dataclass
class Progress:
    """How far a separation is.

    Attributes:
        job: What tells this separation from any other; see ``SeparationJob.fingerprint``.
        n_chunks: Chunks that are done.
        n_samples: Samples of each source that are done.
        n_sources: 0 before the first chunk.
        labels: Of the sources; None where their order is arbitrary.
        stitches: As they are listed in the record.
        peak: The largest absolute sample of any source.
        residual_energy: Sum of squares of the mixture minus the sum of the sources.
        mixture_energy: Sum of squares of the mixture.
        compute_seconds: Spent so far.
        written: Names of the result files that were begun.
    """

    job: dict[str, Any]
    n_chunks: int = 0
    n_samples: int = 0
    n_sources: int = 0
    labels: list[str] | None = None
    stitches: list[dict[str, Any]] = field(default_factory=list)
    peak: float = 0.0
    residual_energy: float = 0.0
    mixture_energy: float = 0.0
    compute_seconds: float = 0.0
    written: list[str] = field(default_factory=list)


class CheckpointWriteError(SepnetError):
    """The folder cannot be written to, for want of room, say; what is in it stays."""


class SeparationCheckpoint:
    """A folder in which the sources of one recording grow, for one process at a time.

    A context manager: it releases the folder at the end, and removes it where nothing was done, with the
    folders above it that it made.

    Args:
        folder: Made where it is missing; of another job, its content is removed.
        job: What tells this separation from any other.
        n_channels: Of each source.

    Raises:
        SepnetError: Another process works on it, or the folder cannot be made.
    """

    def __init__(self, folder: Path, job: dict[str, Any], n_channels: int) -> None:
        self.folder, self.n_channels = folder, n_channels
        try:
            self._made = [parent for parent in folder.parents if not parent.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / LOCK).open("wb")
        except OSError as error:
            raise self._write_error(error) from error
        try:
            if fcntl is not None:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise SepnetError(
                f"another process works in {folder}: wait for it, or separate into another folder (out=)"
            ) from error
        self.progress, self.state = self._load(job)
        self._has_chunks = self.progress.n_chunks > 0

    def __enter__(self) -> SeparationCheckpoint:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._has_chunks:
            self.remove()
            for parent in self._made:
                with contextlib.suppress(OSError):  # something else has been written into it
                    parent.rmdir()
        self._lock.close()

    def _load(self, job: dict[str, Any]) -> tuple[Progress, dict[str, Tensor]]:
        """Progress and joiner state of the same job; else a fresh start in an empty folder."""
        try:
            progress = Progress(**json.loads((self.folder / STATE).read_text()))
            state = load_file(self._state_file(progress.n_chunks))
            n_bytes = progress.n_samples * self.n_channels * 4
            complete = all(path.stat().st_size >= n_bytes for path in self._source_files(progress.n_sources))
            if progress.job == job and complete:
                for path in self._source_files(progress.n_sources):
                    with path.open("r+b") as stream:
                        stream.truncate(n_bytes)
                return progress, state
        except (OSError, ValueError, TypeError, SafetensorError):
            pass
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != LOCK:
                path.unlink(missing_ok=True)
        return Progress(job), {}

    def add(self, sources: Float[np.ndarray, "source channel time"], state: Mapping[str, Tensor]) -> None:
        """Append what a chunk adds, and save the progress, whose other fields the caller has updated.

        Args:
            sources: New samples of each source.
            state: What the next chunk has to know.

        Raises:
            SepnetError: It cannot be written.
        """
        try:
            self._add(sources, state)
        except OSError as error:
            raise self._write_error(error) from error
        except SepnetError as error:
            raise CheckpointWriteError(str(error)) from error

    def _add(self, sources: Float[np.ndarray, "source channel time"], state: Mapping[str, Tensor]) -> None:
        progress = self.progress
        for path, source in zip(self._source_files(len(sources)), sources, strict=True):
            with path.open("ab") as stream:
                stream.write(np.ascontiguousarray(source.T, dtype="<f4").data)
        progress.n_sources = len(sources)
        progress.n_samples += sources.shape[-1]
        progress.n_chunks += 1
        progress.peak = max(progress.peak, float(sources.max(initial=0.0)), -float(sources.min(initial=0.0)))
        tensors = {name: tensor.contiguous() for name, tensor in state.items()}
        write_bytes(self._state_file(progress.n_chunks), save(tensors))
        self.save_progress()
        self._has_chunks = True
        self._state_file(progress.n_chunks - 1).unlink(missing_ok=True)

    def save_progress(self) -> None:
        """Write down how far it is."""
        write_text(self.folder / STATE, json.dumps(asdict(self.progress)))

    def blocks(self, source: int, gain: float = 1.0) -> Iterator[Float[np.ndarray, "channel time"]]:
        """A source from its beginning, block by block, multiplied by ``gain``."""
        remaining = self.progress.n_samples
        with self._source_files(self.progress.n_sources)[source].open("rb") as stream:
            while data := stream.read(min(BLOCK_SAMPLES, remaining) * self.n_channels * 4):
                remaining -= len(data) // (self.n_channels * 4)
                samples = np.frombuffer(data, dtype="<f4").reshape(-1, self.n_channels).T
                yield samples if gain == 1.0 else (np.float64(gain) * samples).astype(np.float32)

    def excerpt(self, source: int, start: int, n_samples: int) -> Float[np.ndarray, " time"]:
        """Some samples of a source, the mean of its channels."""
        with self._source_files(self.progress.n_sources)[source].open("rb") as stream:
            stream.seek(start * self.n_channels * 4)
            samples = np.frombuffer(stream.read(n_samples * self.n_channels * 4), dtype="<f4")
        return np.asarray(samples.reshape(-1, self.n_channels).mean(axis=1))

    def discard(self) -> None:
        """Keep nothing of a separation that would be refused again at the same place."""
        self._has_chunks = False

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write_error(self, error: OSError) -> CheckpointWriteError:
        return CheckpointWriteError(
            f"can't write to {self.folder}: {error.strerror or error}; make room, or choose a folder that "
            "you may write to (out=)"
        )

    def _source_files(self, n_sources: int) -> list[Path]:
        return [self.folder / f"{number}.f32" for number in range(n_sources)]

    def _state_file(self, n_chunks: int) -> Path:
        return self.folder / f"{n_chunks}.safetensors"
