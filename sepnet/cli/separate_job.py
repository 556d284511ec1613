"""What ``sepnet separate`` does to each recording, from its settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sepnet import artifact
from sepnet.cli.separate_settings import SeparateSettings
from sepnet.inference.job import SeparationJob
from sepnet.inference.pipeline import Pipeline
from sepnet.inference.side_sound import SideSound, read_side_sound
from sepnet.query.event import EventFinder
from sepnet.types import SepnetError
from sepnet.urls import shown


def make_job(settings: SeparateSettings) -> SeparationJob:
    """Load the separator and the example of a sound, and check that they go together.

    Args:
        settings: Those of the command line.

    Raises:
        SepnetError: A file cannot be read, or the separator cannot use a setting.
    """
    name = settings.model or artifact.preferred(settings.runs)
    separator = artifact.load(name, settings.set)
    finds_events = isinstance(separator, EventFinder)
    if settings.reference is not None and not finds_events:
        raise SepnetError(
            f"reference= is for ast_dgmo and other methods that find a sound, and {name} is none: "
            "leave it out"
        )
    if settings.residual and finds_events:
        raise SepnetError(f"{name} writes the residual without being asked: leave out residual=true")
    query = _read_query(settings)
    if query is not None and "queries" not in separator.info.needs:
        raise SepnetError(f"{name} takes no example: leave query= out, or choose another model")
    if isinstance(name, Path):
        print(f"model={name.name}, because none was given")
    reference = None
    if settings.reference is not None:
        reference = read_side_sound(settings.reference, strict=settings.strict)
    # Each channel is separated unless one is searched for a sound.
    channels = settings.channels if settings.channels is not None else "mean" if finds_events else "each"
    return SeparationJob(
        model=name,
        pipeline=Pipeline(separator, replace(settings.pipeline, channels=channels)),
        output=settings.output,
        model_settings=settings.set or {},
        query=query,
        reference=reference,
        strict=settings.strict,
        residual=settings.residual,
        track=settings.track,
    )


def _read_query(settings: SeparateSettings) -> SideSound | None:
    if not settings.queries:
        return None
    if len(settings.queries) > 1:
        n_files, first = len(settings.queries), shown(settings.queries[0])
        raise SepnetError(f"query names {n_files} files: give one, as query={first}")
    return read_side_sound(settings.queries[0], strict=settings.strict)
