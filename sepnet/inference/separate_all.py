"""Separation of several recordings, which go on where one of them can't be separated."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial

from sepnet.data import audio
from sepnet.inference.events import MAX_EVENT_SECONDS, find_in_file
from sepnet.inference.files import Recording
from sepnet.inference.job import RecordingError, SeparationJob
from sepnet.inference.separate_file import separate_file
from sepnet.query.event import EventFinder
from sepnet.types import SepnetError


def separate_all(job: SeparationJob, recordings: Sequence[Recording]) -> None:
    """Separate each recording, or search it for the sound of a query.

    Args:
        job: What is done to each.
        recordings: The recordings, and where their results go.

    Raises:
        RecordingError: The only recording can't be separated.
        SepnetError: Some of several can't be; the others are.
    """
    n_done, n_refused = 0, 0
    for recording in recordings:
        try:
            _task(job, recording)(recording)
            n_done += 1
        except RecordingError as error:
            if len(recordings) == 1:
                raise
            n_refused += 1
            print(f"error: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            print(f"\n{n_done} of {len(recordings)} recordings are separated; the same command continues")
            raise
    if n_refused:
        raise SepnetError(f"{n_refused} of {len(recordings)} recordings could not be separated: see above")


def _task(job: SeparationJob, recording: Recording) -> Callable[[Recording], None]:
    """What is done to a recording: it is searched as a whole for a query, or separated."""
    finder = job.pipeline.separator
    if isinstance(finder, EventFinder) and audio.info(recording.file).seconds <= MAX_EVENT_SECONDS:
        return partial(find_in_file, job, finder)
    if job.reference is not None:
        raise RecordingError(
            f"{recording.file}: reference= scores a sound that ast_dgmo or one of its kind finds in up to "
            f"{MAX_EVENT_SECONDS:.0f} s: leave it out"
        )
    return partial(separate_file, job)
