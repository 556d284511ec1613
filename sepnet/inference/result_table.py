"""separated.csv: one row for each recording that was separated or refused, written as the results come.

``path``        the recording
``output``      its results: the folder, and the stem with which their names begin
``status``      ok | failed
``seconds``     of the recording, where it was separated
``confidence``  the least with which the sources of a chunk were joined to those before, or of a detection
``reason``      of what failed
``job``         a digest of everything on which the results depend: the file, the model and all settings

A second run keeps the rows that are ok and have the same digest, and does the rest.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sepnet import remote
from sepnet.atomic import write_text
from sepnet.claim import temporary_folder
from sepnet.inference.files import Recording
from sepnet.inference.job import SeparationJob
from sepnet.types import SepnetError
from sepnet.urls import shown

COLUMNS = ("path", "output", "status", "seconds", "confidence", "reason", "job")
DIGITS = 16  # of a digest
PUT_SECONDS = 30.0  # between two copies of a growing table to a store


@dataclass(frozen=True)
class RecordingResult:
    """The outcome for one recording.

    Attributes:
        status: Whether it was separated.
        seconds: Its length.
        confidence: Of the least sure place; None where nothing was joined or detected.
        reason: Why it failed.
    """

    status: Literal["ok", "failed"]
    seconds: float | None = None
    confidence: float | None = None
    reason: str = ""


class ResultTable:
    """The table of results, for one process at a time.

    Args:
        path: The file; it is made with the first result.
        name: By which messages call it; None: its path.

    Raises:
        SepnetError: It is a file of another program.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path = path
        self._rows: dict[str, dict[str, str]] = {}  # by output
        if not path.exists():
            return
        text = path.read_bytes()
        complete = text[: text.rfind(b"\n") + 1].decode()  # a killed process may leave a part of a row
        reader = csv.DictReader(io.StringIO(complete))
        if complete and tuple(reader.fieldnames or ()) != COLUMNS:
            raise SepnetError(
                f"{name or path} does not have the columns {', '.join(COLUMNS)}: it is not a table of this "
                "version of sepnet, so give another folder (out=)"
            )
        self._rows = {row["output"]: row for row in reader if row["status"] == "ok"}

    def remaining(self, job: SeparationJob, recordings: Sequence[Recording]) -> list[Recording]:
        """Return the recordings that have to be separated, and remove all rows but those of the others.

        Args:
            job: What is done to each.
            recordings: All of the command.

        Raises:
            SepnetError: A recording is not there any more, or the table can't be written.
        """
        rows, remaining = dict[str, dict[str, str]](), list[Recording]()
        for recording in recordings:
            row = self._rows.get(recording.output)
            if row is not None and not job.output.overwrite and row["job"] == _digest(job, recording):
                rows[row["output"]] = row
            else:
                remaining.append(recording)
        self._rows = rows
        write_text(self.path, _text([COLUMNS, *(list(row.values()) for row in rows.values())]))
        return remaining

    def append(self, job: SeparationJob, recording: Recording, result: RecordingResult) -> None:
        """Add the row of a recording, in a single write.

        Args:
            job: What was done to it.
            recording: The file, and where its results are.
            result: The outcome.
        """
        digest = _digest(job, recording) if result.status == "ok" else ""
        numbers = ["" if value is None else f"{value:g}" for value in (result.seconds, result.confidence)]
        row = [recording.name, recording.output, result.status, *numbers, result.reason, digest]
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, _text([row]).encode())
        finally:
            os.close(descriptor)


class _StoredTable(ResultTable):
    """A table in a store: a local copy grows, and is put there every now and then."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self._is_put, self._last_put = url, True, 0.0
        path = folder / "separated.csv"
        if (content := remote.read_bytes(url)) is not None:
            path.write_bytes(content)
        super().__init__(path, shown(url))

    def remaining(self, job: SeparationJob, recordings: Sequence[Recording]) -> list[Recording]:
        remaining = super().remaining(job, recordings)
        self.put()  # refused before work begins, where that is not allowed
        return remaining

    def append(self, job: SeparationJob, recording: Recording, result: RecordingResult) -> None:
        super().append(job, recording, result)
        self._is_put = False
        if time.monotonic() - self._last_put >= PUT_SECONDS:
            with contextlib.suppress(SepnetError):  # tried again later
                self.put()

    def put(self) -> None:
        """Put the table into the store."""
        self._last_put = time.monotonic()
        remote.put(self.path, self.url)
        self._is_put = True

    def finish(self) -> None:
        """Put what was added since the last time."""
        if not self._is_put:
            self.put()


@contextlib.contextmanager
def stored_table(url: str) -> Iterator[ResultTable]:
    """Provide a table that is kept in a store.

    Args:
        url: Where it is; it is put there every half minute, and at the end.

    Raises:
        SepnetError: It can't be read or written, or is a file of another program.
    """
    with temporary_folder("sepnet-table-") as folder:
        table = _StoredTable(url, folder)
        try:
            yield table
        except BaseException:
            try:
                table.finish()
            except SepnetError as error:
                print(f"warning: {error}", file=sys.stderr)
            raise
        table.finish()


def _digest(job: SeparationJob, recording: Recording) -> str:
    job = job.for_recording(recording)
    content = json.dumps([job.fingerprint(recording), job.output.describe()], sort_keys=True)
    return hashlib.sha1(content.encode()).hexdigest()[:DIGITS]


def _text(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
