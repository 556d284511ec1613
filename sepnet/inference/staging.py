"""Recordings and results in stores: fetched before a separation, and put there after it.

The separation itself works on local files alone, in the system's folder for temporary files, where nothing
stays. While the results of a recording are put, a file ``.<stem>.sepnet`` beside them names the job, so that
the same command may write over them if it was stopped; the record is put last.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sepnet import remote
from sepnet.atomic import write_text
from sepnet.claim import temporary_folder
from sepnet.inference.fetching import PREFIX, RecordingError, problem_of, replaced, showing
from sepnet.inference.files import Recording
from sepnet.inference.job import SeparationJob
from sepnet.remote import RemoteFile
from sepnet.types import SepnetError
from sepnet.urls import join_url, parent_url, shown

INPUT, QUERY, OUTPUT = "in", "query", "out"  # the folders in one of them


def separate_staged(
    job: SeparationJob, recording: Recording, separate: Callable[[SeparationJob, Recording], Path]
) -> dict[str, Any]:
    """Separate a recording that is in a store, or whose results go to one.

    Args:
        job: What is done.
        recording: The file, and where its results go.
        separate: Separates a local file into a local folder, and returns the record.

    Returns:
        The record of the results.

    Raises:
        SepnetError: It can't be fetched, separated, or put.
    """
    sources = {INPUT: recording.source, QUERY: recording.query_source}
    for source in sources.values():
        if source is not None and (problem := problem_of(source)):
            raise RecordingError(problem)
    fingerprint = json.loads(json.dumps(job.for_recording(recording).fingerprint(recording)))
    finished = None if job.output.overwrite else _finished(job, recording, fingerprint)
    if finished is not None:
        print(f"{recording.name}: separated already, see {recording.output}_*")
        return finished
    with temporary_folder(PREFIX) as folder:
        urls = {name: parent_url(source.url) for name, source in sources.items() if source is not None}
        if recording.destination is not None:
            urls[OUTPUT] = recording.destination.rstrip("/")
            recording = replace(recording, folder=folder / OUTPUT / recording.folder)
        names = {str(folder / name): shown(url) for name, url in urls.items()}
        with showing(names):
            recording = _fetch(recording, sources, folder)
            record = separate(job, recording)
            text = record.read_text()
            if (renamed := replaced(text, names)) != text:
                write_text(record, renamed)
            if recording.destination is not None:
                _put_results(job, recording, folder / OUTPUT, record)
            return dict(json.loads(record.read_text()))


def _fetch(recording: Recording, sources: Mapping[str, RemoteFile | None], folder: Path) -> Recording:
    """Fetch what is in stores; the recording with the paths of the copies."""
    copies = {}
    for name, source in sources.items():
        if source is not None:
            copies[name] = folder / name / source.name
            copies[name].parent.mkdir()
            remote.fetch(source, copies[name])
    return replace(
        recording,
        file=copies.get(INPUT, recording.file),
        query=copies.get(QUERY, recording.query),
    )


def _finished(
    job: SeparationJob, recording: Recording, fingerprint: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The record of this very job at the destination, if all its files are there."""
    if recording.destination is None:
        return None
    record = _read_json(join_url(recording.destination, recording.record))
    if record.get("job") != fingerprint or record.get("output") != job.output.describe():
        return None
    files = [join_url(recording.destination, recording.folder / name) for name in record["files"]]
    return record if all(map(remote.exists, files)) else None


def _put_results(job: SeparationJob, recording: Recording, folder: Path, record: Path) -> None:
    """Put all results into the store, the record last."""
    assert recording.destination is not None, "there is a store"
    below = recording.folder.relative_to(folder)
    mark, mark_url = folder / "mark", join_url(recording.destination, below / f".{recording.stem}.sepnet")
    urls = {
        file: join_url(recording.destination, file.relative_to(folder))
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    }
    record_url = urls.pop(record)
    identity = _identity(json.loads(record.read_text()))
    earlier = [_identity(_read_json(url)) for url in (record_url, mark_url)]
    may_replace = job.output.overwrite or identity in earlier
    existing = [] if may_replace else [shown(url) for url in urls.values() if remote.exists(url)]
    if existing:
        raise SepnetError(
            f"{', '.join(existing)} exist already: give overwrite=true, or another folder with out="
        )
    mark.write_text(json.dumps(identity))
    remote.put(mark, mark_url)
    for file, url in {**urls, record: record_url}.items():
        remote.put(file, url)
    with contextlib.suppress(SepnetError):  # where nothing may be removed, it stays
        remote.remove(mark_url)


def _identity(record: Mapping[str, Any]) -> dict[str, Any]:
    """What tells the results of a record from any other."""
    return {name: record.get(name) for name in ("job", "output")}


def _read_json(url: str) -> dict[str, Any]:
    """The content of a record at a URL; empty if there is none, or it is another program's file."""
    try:
        content = json.loads(remote.read_bytes(url) or b"{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
