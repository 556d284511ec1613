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
from sepnet.inference.files import Recording, Selection, recordings
from sepnet.inference.job import SeparationJob
from sepnet.inference.recording_list import Shard, read_list
from sepnet.inference.result_table import ResultTable
from sepnet.inference.separate_all import RecordingWorker, separate_all
from sepnet.types import SepnetError


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
        with recordings(words, settings.out) as selection:
            yield replace(selection, recordings=shard.of(selection.recordings))
    elif words:
        raise SepnetError(f"{words[0]} and list={settings.list} can't both be given: leave one out")
    else:
        assert settings.out is not None, "the settings need it"
        yield Selection(shard.of(read_list(settings.list, settings.out)))


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
    table = _table(settings)
    workers, is_local = settings.workers, settings.workers.engine == "local"
    n_workers = workers.n_processes or 0
    if is_local and not n_workers:
        separate_all(job, selected, table=table)
        return
    with open_engine(workers) as engine:
        if not is_local:
            check_paths(engine, _inputs(job, selected), [] if settings.out is None else [settings.out])
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


def _table(settings: SeparateSettings) -> ResultTable | None:
    """The table of results, of lists and of jobs that several processes share."""
    is_large = settings.list is not None or settings.shard is not None or settings.workers.engine != "local"
    if settings.out is None or not is_large:
        return None
    share = "" if settings.shard is None else f"-{settings.shard.replace('/', '-of-')}"
    return ResultTable(settings.out / f"separated{share}.csv")


def _inputs(job: SeparationJob, selected: Sequence[Recording]) -> list[Path]:
    """The files that a job reads."""
    single = (
        artifact.resolve(job.model).shared_path,
        job.reference,
        None if job.query is None else job.query[1],
    )
    each = (file for recording in selected for file in (recording.file, recording.query))
    return list(dict.fromkeys(file for file in (*single, *each) if file is not None))
