"""One recording, block by block: read, separated in chunks, and written, in the memory of a chunk."""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from omegaconf import DictConfig
from tqdm import tqdm

import sepnet
from sepnet import artifact, inference
from sepnet.cli.inputs import Recording
from sepnet.cli.query import UNSAFE, Sound, settings
from sepnet.cli.work import Progress, Work
from sepnet.data import audio
from sepnet.data.blocks import SUBTYPE_OF, largest_gain, open_blocks, write_blocks
from sepnet.evaluation.spectrograms import Stretch, recording_figure, spectrogram
from sepnet.separators.recording.chunked import Part, count_sources, separate_in_chunks
from sepnet.separators.recording.chunks import Chunk, Joiner, plan
from sepnet.types import Mixture, Query, Separator, SepnetError, shown

DOUBTFUL = 0.7  # a confidence: below, a stitch is told
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
    meant = _meant(job, recording)
    if not config.overwrite and _stands(recording, meant, config):
        print(f"{recording.file}: separated already, see {recording.record}")
        return
    try:
        n_channels, mixed = chosen_channels(config.channels, header.channels, recording.file)
        work = Work(recording.folder / f".{recording.stem}.sepnet", meant, n_channels)
        _separate(job, recording, header, work, mixed)
        _write(job, recording, header, work)
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
            return shown(job.separator, mixture)

        parts = separate_in_chunks(
            separator, chunks[progress.n_chunks :], read, channels=work.n_channels, joiner=joiner
        )
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
        tqdm.write(f"{recording.file}: going on at {_clock(progress.n_samples / rate)}", file=sys.stderr)
    begin = time.perf_counter()
    try:
        for part in parts:
            if not progress.n_chunks:
                progress.labels = None if part.labels is None else list(part.labels)
                _refuse_standing(_targets(recording, config, progress.labels, len(part.sources)), config)
            _account(progress, part, rate)
            now = time.perf_counter()
            progress.compute_seconds, begin = progress.compute_seconds + now - begin, now
            work.add(part.sources.cpu().numpy(), dict(part.state))
            bar.update(round(part.sources.shape[-1] / rate, 1))
    except KeyboardInterrupt:
        told = f"{recording.file}: stopped at {_clock(progress.n_samples / rate)}, which is kept"
        print(f"\n{told}", file=sys.stderr)
        raise


def _account(progress: Progress, part: Part, rate: int) -> None:
    """What the record will tell of a part."""
    mixture = part.mixture.double()
    progress.power += float(mixture.square().sum())
    progress.left_over += float((mixture - part.sources.double().sum(dim=0)).square().sum())
    seconds = round(part.chunk.start / rate, 3)
    if part.stitch is not None and part.chunk.start:
        confidence = round(part.stitch.confidence, 3)
        progress.stitches.append({"seconds": seconds, "confidence": confidence})
    if part.refused:
        progress.stitches.append({"seconds": seconds, "shared_alike": part.refused})


def _write(job: Job, recording: Recording, header: audio.AudioInfo, work: Work) -> None:
    """The files of the sources, all or none of them, and the record; then the work is removed."""
    config, progress, rate = job.config, work.progress, header.sample_rate
    targets = _targets(recording, config, progress.labels, progress.n_sources)
    _refuse_standing(targets, config)
    subtype = config.subtype or SUBTYPE_OF[targets[0].suffix]
    gain = _gain(config.gain, progress.peak, subtype)
    for number, target in enumerate(targets):
        write_blocks(
            target,
            work.blocks(number, gain),
            rate,
            n_channels=work.n_channels,
            n_samples=progress.n_samples,
            subtype=subtype,
        )
    if config.report:
        _draw(recording, work, targets, rate)
    record = _record(recording, header, progress, targets, gain)
    with audio.replacing(recording.record) as temporary:
        temporary.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    work.remove()
    _tell(recording, header, progress, targets, gain)


def _record(
    recording: Recording,
    header: audio.AudioInfo,
    progress: Progress,
    targets: list[Path],
    gain: float,
) -> dict[str, Any]:
    confidences = [stitch["confidence"] for stitch in progress.stitches if "confidence" in stitch]
    return {
        "files": [target.name for target in targets],
        "seconds": round(header.seconds, 3),
        "sample_rate": header.sample_rate,
        "channels": header.channels,
        "gain": gain,
        "peak": gain * progress.peak,
        "left_over_db": _left_over_db(progress),
        "stitches": progress.stitches,
        "least_confidence": min(confidences, default=None),
        "doubtful": [stitch for stitch in progress.stitches if stitch.get("confidence", 1.0) < DOUBTFUL],
        "compute_seconds": round(progress.compute_seconds, 3),
        "separation": progress.meant,
    }


def _tell(
    recording: Recording, header: audio.AudioInfo, progress: Progress, targets: list[Path], gain: float
) -> None:
    left_over = _left_over_db(progress)
    if not progress.power:
        told = "silent"
    elif left_over is None:
        told = "their sum is the mixture"
    else:
        told = f"their sum is within {left_over:.0f} dB of the mixture"
    if gain != 1.0:
        told += f", all multiplied by {gain:g}"
    print(
        f"{recording.file}: {header.seconds:.2f} s at {header.sample_rate} Hz, {told} -> "
        f"{', '.join(str(target) for target in targets)}"
    )
    doubtful = [stitch for stitch in progress.stitches if stitch.get("confidence", 1.0) < DOUBTFUL]
    if doubtful:
        times = ", ".join(_clock(stitch["seconds"]) for stitch in doubtful[:5])
        print(
            f"{recording.file}: the sources may have changed places at {times}"
            f"{' and later' if len(doubtful) > 5 else ''}; see {recording.record}"
        )


def _left_over_db(progress: Progress) -> float | None:
    """How far the sum of the sources is from the mixture; None where nothing but rounding is left."""
    if progress.left_over <= 1e-12 * progress.power:
        return None
    return round(10 * math.log10(progress.left_over / progress.power), 1)


def _gain(wanted: str | float | None, peak: float, subtype: str) -> float:
    """What all sources are multiplied by. Raises SepnetError where they would clip."""
    fitting = largest_gain(peak, subtype)
    gain = 1.0 if wanted is None else min(1.0, fitting) if wanted == "auto" else float(wanted)
    if gain > fitting:
        raise SepnetError(
            f"the sources reach {gain * peak:.4g} of full scale, which {subtype} would clip: give "
            f"gain={fitting:g} or less, gain=auto, or subtype=FLOAT; what was separated is kept for that"
        )
    return gain


def _targets(
    recording: Recording, config: DictConfig, labels: list[str] | None, n_sources: int
) -> list[Path]:
    names = labels or [f"s{number + 1}" for number in range(n_sources)]
    return [recording.folder / f"{recording.stem}_{UNSAFE.sub('_', name)}.{config.format}" for name in names]


def _refuse_standing(targets: list[Path], config: DictConfig) -> None:
    standing = [str(path) for path in targets if path.exists()]
    if standing and not config.overwrite:
        raise SepnetError(
            f"{', '.join(standing)} exist already: give overwrite=true, or another folder with out="
        )


def _stands(recording: Recording, meant: dict[str, Any], config: DictConfig) -> bool:
    """Whether just this was separated before."""
    try:
        record = json.loads(recording.record.read_text())
        files = [recording.folder / name for name in record["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    same_form = all(file.suffix == f".{config.format}" for file in files)
    return record.get("separation") == meant and same_form and all(file.is_file() for file in files)


def _meant(job: Job, recording: Recording) -> dict[str, Any]:
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
    print(f"{recording.file}: {found} sources")
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


def _draw(recording: Recording, work: Work, targets: list[Path], rate: int) -> None:
    """The sum of the sources, and each of them."""
    n_samples, n_sources = work.progress.n_samples, work.progress.n_sources

    def together(start: int, count: int) -> Float[np.ndarray, " time"]:
        return np.asarray(sum(work.stretch(number, start, count) for number in range(n_sources)))

    signals: list[Stretch] = [together, *(partial(work.stretch, number) for number in range(n_sources))]
    names = ["their sum", *(target.stem.removeprefix(f"{recording.stem}_") for target in targets)]
    recording_figure(
        recording.folder / f"{recording.stem}_report.png",
        [spectrogram(signal, n_samples, rate) for signal in signals],
        names,
        rate,
        n_samples / rate,
    )


def _sha1(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha1").hexdigest()


def _clock(seconds: float) -> str:
    """1:02:03"""
    return str(timedelta(seconds=round(seconds)))
