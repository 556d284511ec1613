"""Which recordings ``sepnet separate`` works on, and with which workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from sepnet import artifact
from sepnet.cli.separate_job import make_job
from sepnet.cli.separate_settings import SeparateSettings
from sepnet.engines import open_engine
from sepnet.engines.paths import check_paths
from sepnet.inference.fetching import fetched
from sepnet.inference.files import Recording, Selection, recordings
from sepnet.inference.job import SeparationJob
from sepnet.inference.recording_list import Shard, describe_sources, read_list
from sepnet.inference.result_table import ResultTable, stored_table
from sepnet.inference.separate_all import RecordingWorker, separate_all
from sepnet.types import SepnetError
from sepnet.urls import join_url, parent_url, path_or_url, shown


@contextmanager
def select_recordings(settings: SeparateSettings, files: Sequence[str | Path]) -> Iterator[Selection]:
    """Provide the recordings of the command line or of its list; of these, the share that is asked for.

    Args:
        settings: Those of the command line.
        files: Its sound files, folders and patterns.

    Raises:
        SepnetError: A file is missing, or there is none.
    """
    names = [settings.files] if isinstance(settings.files, str) else settings.files
    words = (*files, *names)
    shard = Shard(1, 1) if settings.shard is None else Shard.parse(settings.shard)
    if settings.list is None:
        with recordings(words, settings.out_place) as selection:
            yield replace(selection, recordings=shard.of(selection.recordings))
    elif words:
        word, name = shown(str(words[0])), shown(settings.list)
        raise SepnetError(f"{word} and list={name} can't both be given: leave one out")
    else:
        out, csv = settings.out_place, path_or_url(settings.list)
        assert out is not None, "the settings need it"
        if isinstance(csv, Path):
            selected = read_list(csv, out)
        else:
            with fetched(csv) as local:
                selected = read_list(local, out, parent_url(csv))
        yield Selection(describe_sources(shard.of(selected)))


def separate_on_engine(settings: SeparateSettings, job: SeparationJob, selected: Sequence[Recording]) -> None:
    """Separate recordings with the workers that the settings ask for.

    Args:
        settings: Those of the command line.
        job: What is done to each recording.
        selected: The recordings.

    Raises:
        SepnetError: Workers can't be used, or the only recording can't be separated.
        SomeRefusedError: Some of several can't be; the others are.
    """
    for recording in selected:
        if recording.n_sources is not None or recording.query is not None:
            job.for_recording(recording)  # refused before work begins
    if not selected:
        print(f"shard={settings.shard} has no recording")
        return
    workers, is_local = settings.workers, settings.workers.engine == "local"
    n_workers = workers.n_processes or 0
    with _open_table(settings) as table:
        if is_local and not n_workers:
            separate_all(job, selected, table=table)
            return
        with open_engine(workers) as engine:
            if not is_local:
                out = settings.out_place
                check_paths(engine, _inputs(job, selected), [out] if isinstance(out, Path) else [])
            separate_all(
                job,
                selected,
                table=table,
                engine=engine,
                make_worker=partial(_make_worker, replace(settings, model=str(job.model))),
                n_workers=n_workers or engine.n_processors(),
            )


def _make_worker(settings: SeparateSettings) -> RecordingWorker:
    """Load the model in another process."""
    return RecordingWorker(make_job(settings))


@contextmanager
def _open_table(settings: SeparateSettings) -> Iterator[ResultTable | None]:
    """The table of results, of lists, of jobs that several processes share, and of results in a store."""
    out = settings.out_place
    is_large = settings.list is not None or settings.shard is not None or settings.workers.engine != "local"
    share = "" if settings.shard is None else f"-{settings.shard.replace('/', '-of-')}"
    name = f"separated{share}.csv"
    if isinstance(out, str):
        with stored_table(join_url(out, name)) as table:
            yield table
    else:
        yield ResultTable(out / name) if out is not None and is_large else None


def _inputs(job: SeparationJob, selected: Sequence[Recording]) -> list[Path]:
    """The files that a job reads."""
    single = (
        artifact.resolve(job.model).shared_path,
        *(beside.file for beside in (job.query, job.reference) if beside is not None),
    )
    each = (
        file
        for recording in selected
        for file in (recording.file if recording.source is None else None, recording.query)
    )
    return list(dict.fromkeys(file for file in (*single, *each) if file is not None))
