"""Separators times mixtures, to rows.csv: resumable, over processes, one separator after the other.

Every separator gets fresh processes, so its memory is its own; each process computes on one thread, so
times compare between machines with any number of cores. What it costs beyond that (see ``cost``) is measured
before, on the first few mixtures, by a process that has the machine to itself. Rows come in the order of the
contenders and, within one, of the mixtures, however many processes work.
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
from typing import Any

import torch
from tqdm import tqdm

from sepnet.evaluation import provenance, rows
from sepnet.evaluation.contender import Contender, LoadError
from sepnet.evaluation.cost import COSTED, THREADS, Cost
from sepnet.evaluation.rows import Row
from sepnet.evaluation.scoring import DEFAULT_MEASURES, check_measures
from sepnet.evaluation.worker import Worker, mixture_scores
from sepnet.types import Mixtures, SepnetError

# Read by the numerical libraries when a process begins.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
Submit = Callable[..., Callable[[], Any]]
"""(name of a method of Worker, its arguments) -> a function that waits for what it returns."""


def run(
    contenders: Sequence[Contender],
    mixtures: Mixtures,
    rows_csv: Path,
    *,
    n_processes: int,
    measures: Sequence[str] = DEFAULT_MEASURES,
    limit: int | None = None,
    progress: bool = True,
    costed: int = COSTED,
    retry_failed: bool = False,
) -> Path:
    """Score every contender on the first ``limit`` mixtures (None: all) and return ``rows_csv``.

    Pairs of separator and mixture that the file already holds are not computed again, whatever their
    status; with retry_failed, those that failed are. n_processes: 0 works in this process (to debug; the
    peak memory then means less). costed: on how many mixtures to measure the cost; 0: on none.

    Raises SepnetError if the file was made from other data, with other measures or other versions of a
    contender; if a mixture can't be read; and at the end, with all other rows written, if a separator
    could not be loaded or its process was killed. KeyboardInterrupt ends the processes; rows are kept.
    """
    rows_csv, measures = Path(rows_csv), tuple(measures)
    ids = _checked(contenders, mixtures, measures, limit, n_processes)
    provenance.check(rows_csv, contenders, mixtures, measures)
    rows_csv.parent.mkdir(parents=True, exist_ok=True)
    before = _before(rows_csv, retry_failed) if rows_csv.exists() else []
    known, done = mixture_scores(before), {(row.separator, row.mixture_id) for row in before}
    todo = {
        contender: [index for index, name in enumerate(ids) if (contender.name, name) not in done]
        for contender in contenders
    }
    total = sum(map(len, todo.values()))
    if total:
        provenance.record(rows_csv, contenders, mixtures, measures, n_processes)
    problems = []
    with tqdm(total=total, unit="mixture", disable=not (progress and total), dynamic_ncols=True) as bar:
        for contender, indices in todo.items():
            bar.set_description(contender.name)
            try:
                few = [index for index in indices if index < costed]
                costs = _costs(contender, mixtures, measures, few, n_processes)
                with _workers(contender, mixtures, measures, min(n_processes, len(indices))) as submit:
                    results = [
                        submit("score", index, known.get(ids[index]), costs.get(index, Cost()))
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
                    f"{contender.name}: a process was killed while it worked, most often for want of memory "
                    f"(with {n_processes} at once): run again with fewer, and it goes on from there"
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
    """The ids of the mixtures to score, once the arguments make sense."""
    check_measures(measures)
    names = [contender.name for contender in contenders]
    if twice := {name for name in names if names.count(name) > 1}:
        raise SepnetError(f"contenders need names of their own, but {sorted(twice)} come more than once")
    for contender in contenders:
        try:
            pickle.dumps(contender.load)
        except Exception as error:
            raise SepnetError(
                f"{contender.name} can't be sent to another process: give functools.partial of a "
                f"module-level function as load ({error})"
            ) from error
    if n_processes < 0:
        raise SepnetError(f"n_processes is {n_processes}: give 1 or more, or 0 to work in this process")
    if len(mixtures) == 0 or (limit is not None and limit < 1):
        raise SepnetError(f"there is nothing to score: {len(mixtures)} mixtures, limit {limit}")
    ids = [mixtures.id(index) for index in range(min(limit or len(mixtures), len(mixtures)))]
    if len(set(ids)) < len(ids) or any(name != " ".join(name.split()) for name in ids):
        raise SepnetError("the ids of mixtures have to differ, and hold no line breaks or double spaces")
    return ids


def _before(rows_csv: Path, retry_failed: bool) -> list[Row]:
    """The rows that the file holds and is to keep."""
    found = rows.mend(rows_csv)
    failed = {(row.separator, row.mixture_id) for row in found if row.status == "failed"}
    if not (retry_failed and failed):
        return found
    kept = [row for row in found if (row.separator, row.mixture_id) not in failed]
    rows.replace(rows_csv, kept, rows.measures_of(rows_csv))
    return kept


def _costs(
    contender: Contender,
    mixtures: Mixtures,
    measures: Sequence[str],
    indices: Sequence[int],
    n_processes: int,
) -> Mapping[int, Cost]:
    """The cost of these mixtures, one after the other in one process with two threads."""
    if not indices:
        return {}
    with _workers(contender, mixtures, measures, min(n_processes, 1), THREADS) as submit:
        return {index: submit("cost", index)() for index in indices}


@contextmanager
def _workers(
    contender: Contender, mixtures: Mixtures, measures: Sequence[str], n_processes: int, n_threads: int = 1
) -> Iterator[Submit]:
    """A function that hands work to fresh processes, which end with the context, whatever happens."""
    if n_processes == 0:
        threads = torch.get_num_threads()
        torch.set_num_threads(n_threads)
        worker = Worker(contender, mixtures, measures)
        try:
            yield lambda name, *arguments: partial(getattr(worker, name), *arguments)
        finally:
            torch.set_num_threads(threads)
        return
    others = set(multiprocessing.active_children())
    with environment(dict.fromkeys(THREAD_VARIABLES, str(n_threads))):
        pool = ProcessPoolExecutor(
            n_processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(contender, mixtures, measures, n_threads),
        )
        try:
            yield lambda name, *arguments: pool.submit(_work, name, *arguments).result
        except BaseException:
            for child in set(multiprocessing.active_children()) - others:
                child.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)  # waits until the processes have ended


_worker: Worker | None = None  # of this process, once it is one of a pool


def _begin(contender: Contender, mixtures: Mixtures, measures: Sequence[str], n_threads: int) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes: the parent ends them
    torch.set_num_threads(n_threads)
    _worker = Worker(contender, mixtures, measures)


def _work(name: str, *arguments: Any) -> Any:
    assert _worker is not None, "the pool's initializer ran first"
    return getattr(_worker, name)(*arguments)


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """These variables, for the processes that begin meanwhile."""
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
