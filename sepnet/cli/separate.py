"""``sepnet separate``: recordings of any length, with any method."""

from __future__ import annotations

import glob
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from sepnet import artifact
from sepnet.cli import app, live
from sepnet.data import audio
from sepnet.inference.events import MAX_EVENT_SECONDS, find_in_file
from sepnet.inference.files import Recording, recordings
from sepnet.inference.job import RecordingError, SeparationJob
from sepnet.inference.outputs import OutputSettings
from sepnet.inference.pipeline import Pipeline, PipelineSettings
from sepnet.inference.separate_file import separate_file
from sepnet.query.event import EventFinder
from sepnet.types import Query, Separator, SepnetError


def main() -> None:
    """The command line: plain words are files, folders and patterns, name=value are settings."""
    words = get_args_parser().parse_args().overrides
    files = [word for word in words if "=" not in word or Path(word).exists() or glob.glob(word)]  # noqa: PTH207
    sys.argv[1:] = [word for word in sys.argv[1:] if word not in files]
    app.run(partial(separate, files=files), "separate")


def separate(config: DictConfig, files: Sequence[str | Path] = ()) -> None:
    """Separate every recording that can be, and name those that cannot.

    Raises:
        SepnetError: A setting or a file cannot be used; found before anything is written.
    """
    if config.live:
        live.live(config, files)
        return
    _check_types(config)
    names = [config.files] if isinstance(config.files, str) else config.files
    with recordings((*files, *names), config.out) as found:
        _separate_all(_job(config), found)


def _separate_all(job: SeparationJob, found: Sequence[Recording]) -> None:
    n_done, n_refused = 0, 0
    for recording in found:
        try:
            _task(job, recording)(recording)
            n_done += 1
        except RecordingError as error:
            if len(found) == 1:
                raise
            n_refused += 1
            print(f"error: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            print(f"\n{n_done} of {len(found)} recordings are separated; the same command continues")
            raise
    if n_refused:
        raise SepnetError(f"{n_refused} of {len(found)} recordings could not be separated: see above")


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


def _job(config: DictConfig) -> SeparationJob:
    model_settings = app.mapping(config.set, "set")
    output = OutputSettings.from_mapping(app.mapping(config, "settings"))
    name = config.model or artifact.preferred(Path(config.runs))
    separator = artifact.load(name, model_settings)
    if config.reference is not None and not isinstance(separator, EventFinder):
        raise SepnetError(
            f"reference= scores what ast_dgmo or one of its kind finds, and {name} is none: leave it out"
        )
    if config.model is None:
        print(f"model={name.name}, because none was given")
    query = None
    if config.query is not None:
        sound, rate = audio.read(config.query)
        query = (Query(torch.from_numpy(sound.mean(axis=0)), rate), Path(config.query))
    return SeparationJob(
        model=name,
        pipeline=Pipeline(separator, _pipeline_settings(config, separator)),
        output=output,
        model_settings=model_settings,
        query=query,
        reference=None if config.reference is None else Path(config.reference),
    )


def _pipeline_settings(config: DictConfig, separator: Separator) -> PipelineSettings:
    """Those of the command line; each channel is separated unless one is searched for a sound."""
    default = "mean" if isinstance(separator, EventFinder) else "each"
    channels = default if config.channels is None else config.channels
    return PipelineSettings.from_mapping({**app.mapping(config, "settings"), "channels": channels})


def _check_types(config: DictConfig) -> None:
    for name in ("out", "reference", "query"):
        if not isinstance(config[name], str | None):
            raise SepnetError(f"{name}={config[name]}: give one name, in quotes if it is a number")
    if isinstance(config.files, int | float):
        raise SepnetError(f"files={config.files}: give sound files, in quotes if they are numbers")
