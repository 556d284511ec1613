"""Separation of several recordings, which goes on where one of them can't be separated."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sepnet.engines import LOCAL, Engine, LostItem
from sepnet.inference.events import MAX_EVENT_SECONDS, find_in_file
from sepnet.inference.fetching import RecordingError
from sepnet.inference.files import Recording
from sepnet.inference.job import SeparationJob
from sepnet.inference.result_table import RecordingResult, ResultTable
from sepnet.inference.separate_file import separate_file
from sepnet.inference.staging import separate_staged
from sepnet.query.event import EventFinder
from sepnet.types import SepnetError


class SomeRefusedError(SepnetError):
    """Some of several recordings could not be separated; the message lists them with the reasons."""


@dataclass(frozen=True)
class RecordingWorker:
    """Separates one recording after another in a process of an engine.

    Attributes:
        job: What is done to each.
    """

    job: SeparationJob

    def __call__(self, recording: Recording) -> tuple[RecordingResult, str]:
        """Separate a recording. An error becomes the reason of the result, so that the others go on.

        Args:
            recording: The file, and where its results go.

        Returns:
            The result, and what was printed meanwhile.
        """
        with _captured() as text:
            result = attempt(self.job, recording)
        return result, text.getvalue()


def separate_all(
    job: SeparationJob,
    recordings: Sequence[Recording],
    *,
    table: ResultTable | None = None,
    engine: Engine = LOCAL,
    make_worker: Callable[[], RecordingWorker] | None = None,
    n_workers: int = 0,
) -> None:
    """Separate each recording, or search it for the sound of a query.

    Args:
        job: What is done to each.
        recordings: The recordings, and where their results go.
        table: Where the result of each is written; what it holds already is not done again.
        engine: Where the workers are.
        make_worker: Makes a worker with this job in another process; with ``n_workers`` of 0, none is needed.
        n_workers: The number of workers; 0 separates in this process.

    Raises:
        SepnetError: The only recording can't be separated.
        SomeRefusedError: Some of several can't be; the others are.
    """
    remaining = recordings if table is None else table.remaining(job, recordings)
    if n_workers:  # long recordings first, so that no worker is left with one at the end
        remaining = sorted(remaining, key=lambda recording: -recording.n_bytes)
    n_done, refusals = len(recordings) - len(remaining), list[str]()
    if n_done:
        print(f"{n_done} of {len(recordings)} recordings are separated already")
    try:
        if len(recordings) == 1 and table is None and not n_workers:
            separate_one(job, recordings[0])  # whose error is told as it is
            return
        for recording, result in _results(job, remaining, engine, make_worker, n_workers):
            if table is not None:
                table.append(job, recording, result)
            if result.status == "ok":
                n_done += 1
            else:
                named = recording.name in result.reason
                refusals.append(result.reason if named else f"{recording.name}: {result.reason}")
    except KeyboardInterrupt:
        print(f"\n{n_done} of {len(recordings)} recordings are separated; the same command continues")
        raise
    if refusals and len(recordings) == 1:
        raise RecordingError(refusals[0])
    if refusals:
        listed = "\n".join(f"  {refusal}" for refusal in refusals)
        raise SomeRefusedError(
            f"{len(refusals)} of {len(recordings)} recordings could not be separated:\n{listed}"
        )


def _results(
    job: SeparationJob,
    recordings: Sequence[Recording],
    engine: Engine,
    make_worker: Callable[[], RecordingWorker] | None,
    n_workers: int,
) -> Iterator[tuple[Recording, RecordingResult]]:
    """The result of each recording as it comes, with one progress bar over all where workers work on them."""
    if not n_workers:
        for recording in recordings:
            yield recording, attempt(job, recording)
        return
    assert make_worker is not None, "workers have to be made"
    n_workers = min(n_workers, len(recordings))
    with (
        closing(engine.map(make_worker, recordings, n_workers=n_workers)) as outcomes,
        tqdm(total=len(recordings), unit="recording", dynamic_ncols=True, disable=not recordings) as bar,
    ):
        for index, outcome in outcomes:
            if isinstance(outcome, LostItem):
                result = RecordingResult("failed", reason=outcome.reason)
            else:
                result, text = outcome
                if text:
                    bar.write(text.rstrip("\n"))
            bar.update()
            yield recordings[index], result


def attempt(job: SeparationJob, recording: Recording) -> RecordingResult:
    """Separate a recording; what can't be done becomes the reason of the result.

    Args:
        job: What is done.
        recording: The file, and where its results go.
    """
    try:
        content = separate_one(job, recording)
    except (SepnetError, OSError) as error:
        return RecordingResult("failed", reason=" ".join(str(error).split()))
    except Exception as error:  # the fault of a method, say; the other recordings are separated
        return RecordingResult("failed", reason=f"{type(error).__name__}: {' '.join(str(error).split())}")
    return RecordingResult("ok", _seconds(content), _confidence(content))


def separate_one(job: SeparationJob, recording: Recording) -> dict[str, Any]:
    """Separate a recording, or search it as a whole for a query, wherever it is and the results go.

    Args:
        job: What is done.
        recording: The file, and where its results go.

    Returns:
        The record of the results.

    Raises:
        SepnetError: It can't be done.
    """
    if recording.is_local:
        return dict(json.loads(_separate_local(job, recording).read_text()))
    return separate_staged(job, recording, _separate_local)


def _separate_local(job: SeparationJob, recording: Recording) -> Path:
    """Separate a file of this machine into a folder of it; the record of the results."""
    job = job.for_recording(recording)
    finder = job.pipeline.separator
    if isinstance(finder, EventFinder) and job.seconds(recording) <= MAX_EVENT_SECONDS:
        return find_in_file(job, finder, recording)
    if job.reference is not None:
        raise RecordingError(
            f"{recording.file}: reference= scores a sound that ast_dgmo or another such method finds in up "
            f"to {MAX_EVENT_SECONDS:.0f} s: leave it out"
        )
    return separate_file(job, recording)


def _seconds(record: dict[str, Any]) -> float | None:
    """The length of a recording, where its record has it."""
    return record.get("seconds")


def _confidence(record: dict[str, Any]) -> float | None:
    """How sure a result is: of a sound that was found, or of the least sure place where chunks are joined."""
    detection = record.get("detection")
    value = record.get("min_confidence") if detection is None else detection["confidence"]
    return None if value is None else float(value)


@contextlib.contextmanager
def _captured() -> Iterator[io.StringIO]:
    """Collect what is printed, and keep progress bars of single recordings from being drawn."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        yield text
