"""Separation of several recordings, which go on where one of them can't be separated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from sepnet.inference.events import MAX_EVENT_SECONDS, find_in_file
from sepnet.inference.files import Recording
from sepnet.inference.job import RecordingError, SeparationJob
from sepnet.inference.separate_file import separate_file
from sepnet.query.event import EventFinder
from sepnet.types import SepnetError


class SomeRefusedError(SepnetError):
    """Some of several recordings could not be separated; the message lists them with the reasons."""


def separate_all(job: SeparationJob, recordings: Sequence[Recording]) -> None:
    """Separate each recording, or search it for the sound of a query.

    Args:
        job: What is done to each.
        recordings: The recordings, and where their results go.

    Raises:
        SepnetError: The only recording can't be separated.
        SomeRefusedError: Some of several can't be; the others are.
    """
    n_done = 0
    refusals: list[str] = []
    for recording in recordings:
        try:
            _task(job, recording)(recording)
            n_done += 1
        except (SepnetError, OSError) as error:
            if len(recordings) == 1:
                raise
            message = " ".join(str(error).split())
            refusals.append(message if str(recording.file) in message else f"{recording.file}: {message}")
        except KeyboardInterrupt:
            print(f"\n{n_done} of {len(recordings)} recordings are separated; the same command continues")
            raise
    if refusals:
        listed = "\n".join(f"  {refusal}" for refusal in refusals)
        raise SomeRefusedError(
            f"{len(refusals)} of {len(recordings)} recordings could not be separated:\n{listed}"
        )


def _task(job: SeparationJob, recording: Recording) -> Callable[[Recording], None]:
    """What is done to a recording: it is searched as a whole for a query, or separated."""
    finder = job.pipeline.separator
    if isinstance(finder, EventFinder) and job.seconds(recording) <= MAX_EVENT_SECONDS:
        return partial(find_in_file, job, finder)
    if job.reference is not None:
        raise RecordingError(
            f"{recording.file}: reference= scores a sound that ast_dgmo or another such method finds in up "
            f"to {MAX_EVENT_SECONDS:.0f} s: leave it out"
        )
    return partial(separate_file, job)
