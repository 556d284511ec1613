"""python scripts/separate.py: separates recordings of any length with any method."""

from __future__ import annotations

import glob
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from sepnet import artifact
from sepnet.cli import app, live
from sepnet.data import audio
from sepnet.inference.events import settings, write_event
from sepnet.inference.files import Recording, recordings
from sepnet.inference.separate_file import (
    Job,
    Refused,
    chosen_channels,
    meant_by,
    mixed_down,
    separate_recording,
)
from sepnet.query.event import EventFinder
from sepnet.types import SepnetError

LONGEST_EVENT_SECONDS = 300.0  # of a recording in which a query is found as one event, with its pictures


def main() -> None:
    """The command line: bare words are files, folders and patterns, name=value are settings."""
    words = get_args_parser().parse_args().overrides
    files = [word for word in words if "=" not in word or Path(word).exists() or glob.glob(word)]  # noqa: PTH207
    sys.argv[1:] = [word for word in sys.argv[1:] if word not in files]
    app.run(partial(separate, files=files), "separate")


def separate(config: DictConfig, files: Sequence[str | Path] = ()) -> None:
    """Write one file for each source of each recording. Raises SepnetError for what can't be.

    What does not look like a sound file is found before anything is written. Of several recordings those that
    can be are separated, whatever becomes of the others. Interrupted, it says how far it came; the same
    command goes on from there.
    """
    _check(config)
    if config.live:
        live.live(config, files)
        return
    named = [config.files] if isinstance(config.files, str) else config.files
    with recordings((*files, *named), config.out) as found:
        job = _job(config)
        done: list[Recording] = []
        refused: list[str] = []
        try:
            for recording in found:
                try:
                    _one(job, recording)
                    done.append(recording)
                except Refused as error:
                    if len(found) == 1:
                        raise
                    refused.append(str(error))
                    print(f"error: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            print(
                f"\n{len(done)} of {len(found)} recordings are separated; the same command goes on from here"
            )
            raise
    if refused:
        raise SepnetError(
            f"{len(refused)} of {len(found)} recordings could not be separated: the reasons are above"
        )


def _check(config: DictConfig) -> None:
    """Raises SepnetError for values of another kind than meant."""
    for name in ("chunk_seconds", "overlap_seconds"):
        value = config[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise SepnetError(f"{name}={value} is no length: give a positive number of seconds")
    if not (config.n_sources in (None, "auto") or type(config.n_sources) is int):
        raise SepnetError(f"n_sources={config.n_sources} is no number: give a whole one, or auto")
    for name in ("out", "format", "reference"):
        if not isinstance(config[name], str | None):
            raise SepnetError(f"{name}={config[name]} is no name: give one, in quotes if it is a number")
    if isinstance(config.files, int | float) or isinstance(config.query, int | float):
        raise SepnetError(f"files={config.files} and query={config.query}: name sound files")


def _job(config: DictConfig) -> Job:
    """What is the same for all recordings."""
    name = config.model or artifact.preferred(Path(config.runs))
    separator = artifact.load(name, settings(config))
    if config.model is None:
        print(f"model={name.name}, for none was named")
    query = None
    if config.query is not None:
        sound, rate = audio.read(config.query)
        query = (sound.mean(axis=0), rate)
    return Job(config, name, separator, query)


def _one(job: Job, recording: Recording) -> None:
    config = job.config
    finder = job.separator if isinstance(job.separator, EventFinder) else None
    if config.reference is not None and finder is None:
        raise SepnetError(f"reference= is for methods that find a query, as ast_dgmo: {config.model} is none")
    if finder is not None and audio.info(recording.file).seconds <= LONGEST_EVENT_SECONDS:
        sound, rate = audio.read(recording.file)
        one = "mean" if config.channels == "each" else config.channels
        mixture = mixed_down(sound, chosen_channels(one, len(sound), recording.file)[1])
        try:
            meant = meant_by(job, recording) | {"reference": config.reference, "subtype": config.subtype}
            write_event(config, finder, recording, mixture, rate, job.query, meant)
        except SepnetError as error:
            raise Refused(str(error)) from error
    else:
        separate_recording(job, recording)
