"""One recording, block by block: read, separated in chunks, and written, in the memory of a chunk."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor
from tqdm import tqdm

import sepnet
from sepnet import artifact, inference
from sepnet.data import audio
from sepnet.data.blocks import open_blocks
from sepnet.inference.checkpoint import Progress, Work
from sepnet.inference.events import Sound, settings
from sepnet.inference.files import Recording
from sepnet.inference.outputs import asked, check_form, clock, refuse_standing, targets_of, write
from sepnet.inference.stitching.chunked import Part, count_sources, separate_in_chunks
from sepnet.inference.stitching.chunks import Chunk, Joiner, plan
from sepnet.types import Mixture, Query, Separator, SepnetError, visible_hints

MOST_COUNTED = 9  # excerpts of a recording that are asked how many sources there are


class Refused(SepnetError):  # noqa: N818 (a result, as CannotSeparate is)
    """One recording can't be separated; others may."""


@dataclass(frozen=True)
class Job:
    """What is done to each recording. query: of methods that take one, (time,) and its rate."""

    config: DictConfig
    model: str | Path
    separator: Separator
    query: Sound | None


def separate_recording(job: Job, recording: Recording) -> None:
    """Write the sources of one recording and the record of how they came about; go on with what stands.

    Raises Refused for what can't be, with the file's name.
    """
    config, header = job.config, audio.info(recording.file)
    meant = meant_by(job, recording)
    if not config.overwrite and _stands(recording, meant, config):
        print(f"{recording.file}: separated already, see {recording.record}")
        return
    try:
        n_channels, mixed = chosen_channels(config.channels, header.channels, recording.file)
        check_form(config, n_channels)
        with Work(recording.folder / f".{recording.stem}.sepnet", meant, n_channels) as work:
            _separate(job, recording, header, work, mixed)
            write(config, recording, header, work)
    except SepnetError as error:
        told = str(error)
        raise Refused(told if str(recording.file) in told else f"{recording.file}: {told}") from error


def _separate(job: Job, recording: Recording, header: audio.AudioInfo, work: Work, mixed: str | int) -> None:
    """Bring the work to its end."""
    config, rate, progress = job.config, header.sample_rate, work.progress
    n_sources = None if config.n_sources == "auto" else config.n_sources
    inference.check_number(job.separator, n_sources)
    chunks = list(
        plan(
            header.frames,
            chunk_samples=round(config.chunk_seconds * rate),
            overlap_samples=round(config.overlap_seconds * rate),
        )
    )
    left = chunks[progress.n_chunks :]
    if not left:
        return
    separator = inference.wrapped(job.separator, consistent=config.consistent)
    queries = None if job.query is None else (Query(torch.from_numpy(job.query[0]), job.query[1]),)
    joiner = None
    if progress.n_chunks:
        joiner = Joiner(progress.n_sources, rate, in_order=progress.labels is not None)
        joiner.restore(work.tensors)
    with open_blocks(recording.file) as reader:
        if config.n_sources == "auto":
            n_sources = progress.n_sources or _counted(job, recording, chunks, mixed, rate)

        def read(chunk: Chunk) -> Mixture:
            sound = mixed_down(reader.read(chunk.start, chunk.stop), mixed)
            mixture = Mixture(torch.from_numpy(sound.copy()), rate, n_sources=n_sources, queries=queries)
            return visible_hints(job.separator, mixture)

        parts = separate_in_chunks(separator, left, read, channels=work.n_channels, joiner=joiner)
        with tqdm(
            total=round(header.seconds, 1),
            initial=round(progress.n_samples / rate, 1),
            unit="s",
            desc=recording.file.name,
            disable=len(chunks) == 1 or None,
        ) as bar:
            _keep(parts, recording, config, work, rate, bar)


def _keep(
    parts: Iterator[Part], recording: Recording, config: DictConfig, work: Work, rate: int, bar: tqdm[Any]
) -> None:
    """Add part after part to the work; the first is told which files it would write."""
    progress = work.progress
    if progress.n_chunks:
        tqdm.write(f"{recording.file}: going on at {clock(progress.n_samples / rate)}", file=sys.stderr)
    begin = time.perf_counter()
    try:
        for part in parts:
            if not progress.n_chunks:
                progress.labels = None if part.labels is None else list(part.labels)
                refuse_standing(targets_of(recording, config, progress.labels, len(part.sources)), config)
            _account(progress, part, rate)
            now = time.perf_counter()
            progress.compute_seconds, begin = progress.compute_seconds + now - begin, now
            work.add(part.sources.cpu().numpy(), dict(part.state))
            bar.update(round(part.sources.shape[-1] / rate, 1))
    except KeyboardInterrupt:
        told = f"{recording.file}: stopped at {clock(progress.n_samples / rate)}, which is kept"
        print(f"\n{told}", file=sys.stderr)
        raise


def _account(progress: Progress, part: Part, rate: int) -> None:
    """What the record will tell of a part."""
    progress.power += _energy(part.mixture)
    progress.left_over += _energy(part.mixture - part.sources.sum(dim=0))
    seconds = round(part.chunk.start / rate, 3)
    if part.stitch is not None and part.chunk.start:
        confidence = round(part.stitch.confidence, 3)
        progress.stitches.append({"seconds": seconds, "confidence": confidence})
    if part.refused:
        progress.stitches.append({"seconds": seconds, "shared_alike": part.refused})


def _energy(signal: Tensor) -> float:
    return float(signal.square().sum(dtype=torch.float64))


def _stands(recording: Recording, meant: dict[str, Any], config: DictConfig) -> bool:
    """Whether just this was separated before."""
    try:
        record = json.loads(recording.record.read_text())
        files = [recording.folder / name for name in record["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    same = record.get("separation") == meant and record.get("asked") == asked(config)
    return same and all(file.is_file() for file in files)


def meant_by(job: Job, recording: Recording) -> dict[str, Any]:
    """What tells this separation from any other."""
    config, there = job.config, recording.file.stat()
    folder = artifact.locate(job.model)
    weights = folder / artifact.WEIGHTS if folder.is_dir() else folder
    return {
        "file": recording.file.name,
        "bytes": there.st_size,
        "changed": there.st_mtime,
        "model": str(job.model),
        "settings": json.loads(json.dumps(artifact.describe(job.model, settings(config)), default=str)),
        "weights": _sha1(weights) if weights.is_file() else None,
        "query": None if config.query is None else _sha1(Path(config.query)),
        "n_sources": config.n_sources,
        "channels": config.channels,
        "consistent": config.consistent,
        "chunk_seconds": config.chunk_seconds,
        "overlap_seconds": config.overlap_seconds,
        "sepnet": sepnet.__version__,
    }


def _counted(job: Job, recording: Recording, chunks: list[Chunk], mixed: str | int, rate: int) -> int:
    """How many sources there are, by excerpts from all over the recording. Raises SepnetError if unknown."""

    def excerpts() -> Iterator[Mixture]:
        for chunk in chunks[:: max(1, -(-len(chunks) // MOST_COUNTED))]:
            sound, _ = audio.read(recording.file, start=chunk.start, frames=chunk.stop - chunk.start)
            mixture = Mixture(torch.from_numpy(mixed_down(sound, mixed).copy()), rate)
            yield inference.at_its_rate(job.separator, mixture)

    found = count_sources(job.separator, excerpts())
    if found is None:
        raise SepnetError(f"{job.model} can't count sources: give their number, n_sources=2")
    print(f"{recording.file}: {found} source{'s' if found > 1 else ''}")
    return found


def chosen_channels(wanted: str | int, there: int, file: Path) -> tuple[int, str | int]:
    """How many channels each source has, and what is made of the file's: all, mean, or one's number."""
    if wanted == "each":
        return there, "all"
    if wanted in ("mean", "all"):
        return 1, wanted
    if isinstance(wanted, int) and 0 <= wanted < there:
        return 1, wanted
    raise SepnetError(
        f"{file} has {there} channels, so channels={wanted} can't be: say each, mean, all, or a number below "
        f"{there}"
    )


def mixed_down(sound: Float[np.ndarray, "channel time"], wanted: str | int) -> Float[np.ndarray, "_ time"]:
    """What is made of the channels of a file: see ``chosen_channels``."""
    if wanted == "all":
        return sound
    one = sound.mean(axis=0) if wanted == "mean" else sound[int(wanted)]
    return np.asarray(one)[None]


def _sha1(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha1").hexdigest()
