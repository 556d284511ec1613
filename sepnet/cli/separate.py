"""``sepnet separate``: recordings of any length, with any method."""

from __future__ import annotations

import glob
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from sepnet import artifact
from sepnet.atomic import exit_on_sigterm
from sepnet.cli import app
from sepnet.cli.live import live
from sepnet.cli.separate_settings import SeparateSettings
from sepnet.data import audio
from sepnet.inference.files import recordings
from sepnet.inference.job import SeparationJob
from sepnet.inference.pipeline import Pipeline
from sepnet.inference.separate_all import SomeRefusedError, separate_all
from sepnet.query.event import EventFinder
from sepnet.types import Query, SepnetError

SOME_REFUSED = 1  # status of a command that separated the other recordings


def main() -> None:
    """Run the command line: plain words are files, folders and patterns, name=value are settings."""
    words = get_args_parser().parse_args().overrides
    files = [word for word in words if "=" not in word or Path(word).exists() or glob.glob(word)]  # noqa: PTH207
    sys.argv[1:] = [word for word in sys.argv[1:] if word not in files]
    app.run(partial(separate, files=files), "separate", SeparateSettings)


def separate(config: DictConfig, files: Sequence[str | Path] = ()) -> None:
    """Separate every recording that can be, and name those that cannot.

    Args:
        config: conf/separate.yaml with the overrides of the command line.
        files: Sound files, folders and patterns.

    Raises:
        SepnetError: A setting or a file cannot be used; found before anything is written.
    """
    settings = app.parse(SeparateSettings, config)
    if settings.live:
        live(settings, files)
        return
    names = [settings.files] if isinstance(settings.files, str) else settings.files
    with exit_on_sigterm(), recordings((*files, *names), settings.out) as selection:
        job = make_job(settings)
        for left_out in selection.left_out:
            print(f"left out: {left_out.path} {left_out.reason}", file=sys.stderr)
        try:
            separate_all(job, selection.recordings)
        except SomeRefusedError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(SOME_REFUSED)


def make_job(settings: SeparateSettings) -> SeparationJob:
    """Load the separator, and the sounds that it is told.

    Args:
        settings: Of the command line.

    Raises:
        SepnetError: The settings do not go with the separator.
    """
    name = settings.model or artifact.preferred(settings.runs)
    separator = artifact.load(name, settings.set)
    finds_events = isinstance(separator, EventFinder)
    if settings.reference is not None and not finds_events:
        raise SepnetError(
            f"reference= scores what ast_dgmo or one of its kind finds, and {name} is none: leave it out"
        )
    if len(settings.queries) > 1:
        n_files, first = len(settings.queries), settings.queries[0]
        raise SepnetError(f"query names {n_files} files: give one, as query={first}")
    if isinstance(name, Path):
        print(f"model={name.name}, because none was given")
    query = None
    for file in settings.queries:
        sound, rate = audio.read(file, strict=settings.strict)
        query = (Query(torch.from_numpy(sound.mean(axis=0)), rate), Path(file))
    if query is not None and "queries" not in separator.info.needs:
        raise SepnetError(f"{name} goes by no example: leave query= out, or take another model")
    # Each channel is separated unless one is searched for a sound.
    channels = settings.channels if settings.channels is not None else "mean" if finds_events else "each"
    return SeparationJob(
        model=name,
        pipeline=Pipeline(separator, replace(settings.pipeline, channels=channels)),
        output=settings.output,
        model_settings=settings.set or {},
        query=query,
        reference=settings.reference,
        strict=settings.strict,
        track=settings.track,
    )
