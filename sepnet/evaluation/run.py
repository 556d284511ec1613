"""Score every separator on every mixture, and write rows.csv: in several processes, and resumable.

Separators are scored one after the other. Each has fresh processes, so memory is its own; each process
computes on one thread, so times are comparable between machines with any number of cores. Other costs (see
``cost``) are measured before, on the first few mixtures, by a single process. Rows are in the order of the
contenders and, for each, of the mixtures, for any number of processes.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import torch
from tqdm import tqdm

from sepnet.evaluation import provenance, rows
from sepnet.evaluation.contender import Contender, LoadError
from sepnet.evaluation.cost import COST_MIXTURES, THREADS, Cost
from sepnet.evaluation.rows import Row
from sepnet.evaluation.scoring import DEFAULT_MEASURES, check_measures
from sepnet.evaluation.worker import Worker, mixture_scores
from sepnet.inference.pipeline import PipelineSettings
from sepnet.types import Mixtures, SepnetError

# The numerical libraries read these when a process starts.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Submit(Protocol):
    """Gives a process a method of ``Worker`` and its arguments; returns a function that awaits the result."""

    def __call__(
        self,
        method: Callable[Concatenate[Worker, Arguments], Result],
        *arguments: Arguments.args,
        **keywords: Arguments.kwargs,
    ) -> Callable[[], Result]: ...


def run(
    contenders: Sequence[Contender],
    mixtures: Mixtures,
    rows_csv: Path,
    *,
    n_processes: int,
    measures: Sequence[str] = DEFAULT_MEASURES,
    limit: int | None = None,
    progress: bool = True,
    cost_mixtures: int = COST_MIXTURES,
    retry_failed: bool = False,
    settings: PipelineSettings | None = None,
) -> Path:
    """Score contenders on a test set.

    Pairs of contender and mixture that the file already holds are not scored again, whatever their status.

    Args:
        contenders: The separators to score, with different names.
        mixtures: The test set.
        rows_csv: The file to which rows are appended.
        n_processes: The number of processes. 0 computes in this one, to debug; the peak memory is then less
            meaningful.
        measures: Names in ``scoring.MEASURES``.
        limit: The number of mixtures to score, from the first; None for all.
        progress: Whether a progress bar is shown.
        cost_mixtures: The number of mixtures on which the cost is measured.
        retry_failed: Whether pairs that failed are scored again.
        settings: Settings of the pipeline around each separator; None for the defaults.

    Returns:
        ``rows_csv``.

    Raises:
        SepnetError: The file was made from other data, with other measures, other settings or other versions
            of a contender; a mixture cannot be read; or, after all other rows are written, a separator could
            not be loaded, or its process was killed.
        KeyboardInterrupt: The processes have ended, and the rows so far are kept.
    """
    rows_csv, measures, settings = Path(rows_csv), tuple(measures), settings or PipelineSettings()
    ids = _checked(contenders, mixtures, measures, limit, n_processes)
    provenance.check(rows_csv, contenders, mixtures, measures, settings)
    rows_csv.parent.mkdir(parents=True, exist_ok=True)
    before = _rows_to_keep(rows_csv, retry_failed) if rows_csv.exists() else []
    known, done = mixture_scores(before), {(row.separator, row.mixture_id) for row in before}
    todo = {
        contender: [index for index, name in enumerate(ids) if (contender.name, name) not in done]
        for contender in contenders
    }
    total = sum(map(len, todo.values()))
    if total:
        provenance.record(rows_csv, contenders, mixtures, measures, settings, n_processes)
    problems = []  # of contenders that could not be scored; the others are
    with tqdm(total=total, unit="mixture", disable=not (progress and total), dynamic_ncols=True) as bar:
        for contender, indices in todo.items():
            bar.set_description(contender.name)
            make_worker = partial(Worker, contender, mixtures, measures, settings)
            try:
                costs = _costs(
                    make_worker, [index for index in indices if index < cost_mixtures], n_processes
                )
                with _workers(make_worker, min(n_processes, len(indices))) as submit:
                    results = [
                        submit(Worker.score, index, known.get(ids[index]), costs.get(index, Cost()))
                        for index in indices
                    ]
                    for index, result in zip(indices, results, strict=True):
                        new = result()
                        rows.append(rows_csv, new, measures)
                        known.setdefault(ids[index], [row.mixture_scores for row in new])
                        bar.update()
            except LoadError as error:
                problems.append(str(error))
            except BrokenProcessPool:
                problems.append(
                    f"{contender.name}: a process was killed, most often because the memory was full (with "
                    f"{n_processes} processes): run again with fewer (n_processes=) to continue"
                )
    if problems:
        raise SepnetError("; ".join(problems))
    return rows_csv


def _checked(
    contenders: Sequence[Contender],
    mixtures: Mixtures,
    measures: Sequence[str],
    limit: int | None,
    n_processes: int,
) -> list[str]:
    """Check the arguments, and return the ids of the mixtures to score."""
    check_measures(measures)
    names = [contender.name for contender in contenders]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise SepnetError(f"contenders need different names, but several are called {sorted(repeated)}")
    for contender in contenders:
        try:
            pickle.dumps(contender.load)
        except Exception as error:
            raise SepnetError(
                f"{contender.name} cannot be sent to another process: give functools.partial of a "
                f"module-level function as load ({error})"
            ) from error
    if n_processes < 0:
        raise SepnetError(f"n_processes is {n_processes}: give 1 or more, or 0 to compute in this process")
    if len(mixtures) == 0 or (limit is not None and limit < 1):
        raise SepnetError(f"there is nothing to score: {len(mixtures)} mixtures, limit {limit}")
    ids = [mixtures.id(index) for index in range(min(limit or len(mixtures), len(mixtures)))]
    if len(set(ids)) < len(ids) or any(name != " ".join(name.split()) for name in ids):
        raise SepnetError(
            "the ids of mixtures have to differ, and must not contain line breaks or double spaces"
        )
    return ids


def _rows_to_keep(rows_csv: Path, retry_failed: bool) -> list[Row]:
    """The rows of the file; those that are to be scored again are removed from it."""
    before = rows.repair(rows_csv)
    failed = {(row.separator, row.mixture_id) for row in before if row.status == "failed"}
    if not (retry_failed and failed):
        return before
    kept = [row for row in before if (row.separator, row.mixture_id) not in failed]
    rows.replace(rows_csv, kept, rows.measures_of(rows_csv))
    return kept


def _costs(make_worker: Callable[[], Worker], indices: Sequence[int], n_processes: int) -> Mapping[int, Cost]:
    """Measure the cost of some mixtures, one after the other in one process with two threads."""
    if not indices:
        return {}
    with _workers(make_worker, min(n_processes, 1), THREADS) as submit:
        return {index: submit(Worker.cost, index)() for index in indices}


@contextmanager
def _workers(make_worker: Callable[[], Worker], n_processes: int, n_threads: int = 1) -> Iterator[Submit]:
    """Start processes, provide a function that hands them work, and end them with the context in any case."""
    if n_processes == 0:
        threads = torch.get_num_threads()
        torch.set_num_threads(n_threads)
        worker = make_worker()

        def call_here(
            method: Callable[Concatenate[Worker, Arguments], Result],
            *arguments: Arguments.args,
            **keywords: Arguments.kwargs,
        ) -> Callable[[], Result]:
            return partial(method, worker, *arguments, **keywords)

        try:
            yield call_here
        finally:
            torch.set_num_threads(threads)
        return
    others = set(multiprocessing.active_children())
    with environment(dict.fromkeys(THREAD_VARIABLES, str(n_threads))):
        pool = ProcessPoolExecutor(
            n_processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(make_worker, n_threads),
        )

        def submit_to_pool(
            method: Callable[Concatenate[Worker, Arguments], Result],
            *arguments: Arguments.args,
            **keywords: Arguments.kwargs,
        ) -> Callable[[], Result]:
            call: Callable[[], Result] = partial(_work, method, *arguments, **keywords)
            return pool.submit(call).result

        try:
            yield submit_to_pool
        except BaseException:
            for child in set(multiprocessing.active_children()) - others:
                child.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)  # waits until the processes have ended


_worker: Worker | None = None  # of this process, if it is one of a pool


def _start_worker(make_worker: Callable[[], Worker], n_threads: int) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes: the parent ends them
    torch.set_num_threads(n_threads)
    _worker = make_worker()


def _work(
    method: Callable[Concatenate[Worker, Arguments], Result],
    *arguments: Arguments.args,
    **keywords: Arguments.kwargs,
) -> Result:
    """Call a method of this process's worker."""
    assert _worker is not None, "the pool's initializer ran first"
    return method(_worker, *arguments, **keywords)


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for processes that are started within the context.

    Args:
        values: {name: value}; the previous values are restored afterwards.
    """
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
