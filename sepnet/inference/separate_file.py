"""One recording from file to files, in the memory of a chunk; stopped, it continues where it was."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from sepnet.claim import remove_abandoned
from sepnet.data import audio
from sepnet.inference.channels import check_channels, n_output_channels
from sepnet.inference.checkpoint import LOCK, CheckpointWriteError, Progress, SeparationCheckpoint
from sepnet.inference.fetching import RecordingError
from sepnet.inference.files import Recording, check_name
from sepnet.inference.job import SeparationJob, is_finished
from sepnet.inference.outputs import clock, write_sources
from sepnet.inference.pipeline import ChunkOutput
from sepnet.inference.stitching.chunks import ChunkJoiner
from sepnet.types import Mixture, SepnetError

LINE_SECONDS = 10.0  # between two lines of progress, where standard error is not a terminal


def separate_file(job: SeparationJob, recording: Recording) -> Path:
    """Write the sources of one recording, and the record of how they came about.

    Args:
        job: What is done.
        recording: The file, and where its results go.

    Returns:
        The record.

    Raises:
        RecordingError: It cannot be separated; the sentence names the file.
    """
    channels = job.pipeline.settings.channels
    try:
        check_name(recording)
        fingerprint = job.fingerprint(recording)
        folder = recording.folder / f".{recording.stem}.sepnet"
        if not job.output.overwrite and is_finished(recording.record, fingerprint, job.output.describe()):
            remove_abandoned(folder, LOCK)  # by a process that was killed when all was written
            print(f"{recording.file}: separated already, see {recording.record}")
            return recording.record
        header = job.examine(recording)
        check_channels(channels, header.channels)
        n_channels = n_output_channels(channels, header.channels)
        job.output.check_layout(n_channels, header.sample_rate)
        with SeparationCheckpoint(folder, fingerprint, n_channels) as checkpoint:
            if checkpoint.progress.n_samples < header.frames:
                try:
                    _separate(job, recording, header, checkpoint)
                except SepnetError as error:
                    if not isinstance(error, CheckpointWriteError):
                        checkpoint.discard()
                    raise
            job.warn_if_short(recording, header)
            write_sources(recording, header, checkpoint, job.output, residual=job.residual)
        return recording.record
    except SepnetError as error:
        message = str(error)
        named = message if str(recording.file) in message else f"{recording.file}: {message}"
        raise RecordingError(named) from error


def _separate(
    job: SeparationJob, recording: Recording, header: audio.AudioInfo, checkpoint: SeparationCheckpoint
) -> None:
    """Separate what the checkpoint lacks."""
    rate, progress, pipeline = header.sample_rate, checkpoint.progress, job.pipeline
    joiner = None
    if progress.n_chunks:
        joiner = ChunkJoiner(progress.n_sources - job.residual, rate, in_order=progress.labels is not None)
        joiner.restore(checkpoint.state)
    queries = None if job.query is None else (job.query.sound,)
    counted = pipeline.settings.n_sources == "auto"
    n_sources = progress.n_sources - job.residual if counted and progress.n_chunks else None
    if counted and n_sources is None:
        with job.open(recording) as reader:
            n_sources = pipeline.n_sources(
                lambda start, stop: Mixture(torch.from_numpy(reader.read(start, stop).copy()), rate),
                n_samples=header.frames,
                sample_rate=rate,
            )
        print(f"{recording.file}: {n_sources} source{'' if n_sources == 1 else 's'}")
    with (
        job.open(recording) as reader,
        tqdm(
            total=round(header.seconds, 1),
            initial=round(progress.n_samples / rate, 1),
            unit="s",
            desc=recording.file.name,
            disable=header.seconds <= pipeline.settings.chunk_seconds or None,
        ) as bar,
    ):
        outputs = pipeline.separate_chunks(
            lambda start, stop: Mixture(
                torch.from_numpy(reader.read(start, stop).copy()), rate, queries=queries
            ),
            n_samples=header.frames,
            sample_rate=rate,
            n_sources=n_sources,
            first_chunk=progress.n_chunks,
            joiner=joiner,
        )
        _save(outputs, job, recording, checkpoint, rate, bar)


def _save(
    outputs: Iterator[ChunkOutput],
    job: SeparationJob,
    recording: Recording,
    checkpoint: SeparationCheckpoint,
    rate: int,
    bar: tqdm[Any],
) -> None:
    """Add each chunk to the checkpoint; with the first, refuse to write over files."""
    progress = checkpoint.progress
    if progress.n_chunks:
        tqdm.write(f"{recording.file}: going on at {clock(progress.n_samples / rate)}", file=sys.stderr)
    begin = last_line = time.perf_counter()
    try:
        for output in outputs:
            if not progress.n_chunks:
                progress.labels = None if output.labels is None else list(output.labels)
                paths = job.output.paths(
                    recording, progress.labels, len(output.sources), residual=job.residual
                )
                job.output.check_overwrite(paths)
            left_out = output.mixture - output.sources.sum(dim=0)  # (channel, time)
            _account(progress, output, left_out, rate)
            added = torch.cat([output.sources, left_out[None]]) if job.residual else output.sources
            now = time.perf_counter()
            progress.compute_seconds, begin = progress.compute_seconds + now - begin, now
            checkpoint.add(added.cpu().numpy(), output.state)
            bar.update(round(output.sources.shape[-1] / rate, 1))
            if bar.disable and now - last_line >= LINE_SECONDS:  # in a log, which takes no bar
                last_line = now
                done = f"{clock(progress.n_samples / rate)} of {clock(bar.total or 0.0)}"
                print(f"{recording.file}: {done} separated", file=sys.stderr)
    except KeyboardInterrupt:
        stopped = clock(progress.n_samples / rate)
        kept = "what is done so far is kept" if recording.destination is None else "it will begin anew"
        print(f"\n{recording.file}: stopped at {stopped}; {kept}", file=sys.stderr)
        raise


def _account(progress: Progress, output: ChunkOutput, left_out: Tensor, rate: int) -> None:
    """Add to the progress what the record will tell of a chunk."""
    progress.mixture_energy += _energy(output.mixture)
    progress.residual_energy += _energy(left_out)
    seconds = round(output.chunk.start / rate, 3)
    if output.stitch is not None and output.chunk.start:
        confidence = round(output.stitch.confidence, 3)
        progress.stitches.append({"seconds": seconds, "confidence": confidence})
    if output.refusal:
        progress.stitches.append({"seconds": seconds, "shared_equally": output.refusal})


def _energy(signal: Tensor) -> float:
    return float(signal.double().square().sum())
