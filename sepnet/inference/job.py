"""One job: what is done to each recording of a command, and how to tell whether it was done before."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import sepnet
from sepnet import artifact
from sepnet.data import audio
from sepnet.inference.files import Recording
from sepnet.inference.outputs import OutputSettings
from sepnet.inference.pipeline import Pipeline
from sepnet.inference.side_sound import SideSound, read_side_sound
from sepnet.types import SepnetError


@dataclass(frozen=True, kw_only=True)
class SeparationJob:
    """What is done to each recording.

    Attributes:
        model: The name or the folder that the separator was loaded from.
        pipeline: What separates.
        output: How results are written.
        model_settings: Settings of the model other than those in its file.
        query: The example to go by, for methods that take one.
        reference: What the query should find, to score the result by.
        strict: Whether a recording that is cut off or damaged is refused, not separated as far as it goes.
        track: Which audio track of each recording is separated, from 0.
        residual: Whether what the sources leave out of a recording is written, too, as one more source.

    Raises:
        SepnetError: There is no such track, or nothing is left out.
    """

    model: str | Path
    pipeline: Pipeline
    output: OutputSettings
    model_settings: Mapping[str, Any] = field(default_factory=dict)
    query: SideSound | None = None
    reference: SideSound | None = None
    strict: bool = False
    track: int = 0
    residual: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.track, bool) or not isinstance(self.track, int) or self.track < 0:
            raise SepnetError(f"track={self.track}: give a whole number from 0")
        if (
            self.residual
            and self.pipeline.separator.info.covers_mixture
            and self.pipeline.settings.consistent
        ):
            raise SepnetError(
                f"the sources of {self.model} sum to the recording, which leaves no residual: leave out "
                "residual=true, or give consistent=false"
            )

    def for_recording(self, recording: Recording) -> SeparationJob:
        """Return the job with the number of sources and the example that this recording has of its own.

        Raises:
            SepnetError: The separator can't use them, or the example can't be read.
        """
        job = self
        if recording.n_sources is not None:
            settings = replace(self.pipeline.settings, n_sources=recording.n_sources)
            job = replace(job, pipeline=Pipeline(self.pipeline.separator, settings))
        if (
            recording.query or recording.query_source
        ) and "queries" not in self.pipeline.separator.info.needs:
            raise SepnetError(f"{self.model} takes no example: leave the query of {recording.name} out")
        if recording.query is not None:
            job = replace(job, query=read_side_sound(recording.query, strict=self.strict))
        return job

    def open(self, recording: Recording) -> contextlib.AbstractContextManager[audio.AudioReader]:
        """Open the track of a recording that is separated. Raises SepnetError."""
        return audio.open_audio(recording.file, track=self.track)

    def seconds(self, recording: Recording) -> float:
        """Return the length of a recording. Raises SepnetError."""
        with self.open(recording) as reader:
            return reader.frames / reader.sample_rate

    def examine(self, recording: Recording) -> audio.AudioInfo:
        """Return rate, channels and length of a recording; warn if it is cut off or damaged.

        Raises:
            SepnetError: It can't be read, or (if ``strict``) only in part.
        """
        with self.open(recording) as reader:
            info = reader.info
        if info.defect is not None and self.strict:
            raise SepnetError(f"{info.defect}; copy or download it again, or leave out strict=true")
        if info.defect is not None:
            print(f"warning: {info.defect}; that much is separated", file=sys.stderr)
        return info

    def warn_if_short(self, recording: Recording, info: audio.AudioInfo) -> None:
        """Warn of a recording that is too short for a network, where the separator is one."""
        if (reservation := self.pipeline.reservation(info.seconds)) is not None:
            print(f"warning: {recording.file}: {reservation}", file=sys.stderr)

    @cached_property
    def _model_fingerprint(self) -> dict[str, Any]:
        """What tells the model from any other; made once, because the weights are read for it."""
        source = artifact.resolve(self.model)
        model = artifact.describe(source, self.model_settings)
        return {
            "model_settings": json.loads(json.dumps(model, default=str)),
            "weights_sha1": source.weights_sha1(),
        }

    def fingerprint(self, recording: Recording) -> dict[str, Any]:
        """What tells the separation of a recording from any other, in plain containers.

        The form of the results is not part of it: they can be written again in another form.
        """
        source, query = recording.source, recording.query_source
        if query is not None:
            query_sha1: str | None = f"{query.n_bytes} {query.version}"  # known before it is fetched
        else:
            query_sha1 = None if self.query is None else self.query.sha1
        return {
            "file": recording.file.name,
            "bytes": recording.n_bytes,
            "modified": recording.file.stat().st_mtime if source is None else source.version,
            "model": str(self.model),
            **self._model_fingerprint,
            "query_sha1": query_sha1,
            "reference_sha1": None if self.reference is None else self.reference.sha1,
            "track": self.track,
            "residual": self.residual,
            "pipeline": self.pipeline.describe(),
            "sepnet": sepnet.__version__,
        }


def is_finished(record: Path, job: Mapping[str, Any], output: Mapping[str, Any]) -> bool:
    """Whether a record describes this very job, written in this form, and all its files still exist."""
    try:
        content = json.loads(record.read_text())
        files = [record.parent / name for name in content["files"]]
        return content["job"] == job and content["output"] == output and all(file.is_file() for file in files)
    except (OSError, ValueError, KeyError, TypeError):
        return False
