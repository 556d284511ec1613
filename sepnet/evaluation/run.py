"""Score every separator on every mixture, and write rows.csv: in several processes, and resumable.

Separators are scored one after the other. Each has fresh processes, so memory is its own; each process
computes on one thread, so times are comparable between machines with any number of cores. Other costs (see
``cost``) are measured before, on the first few mixtures, by a single process. Rows are in the order of the
contenders and, for each, of the mixtures, for any number of processes.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from tqdm import tqdm

from sepnet.data.table import join_names
from sepnet.engines import LOCAL, Engine, LostItem, WorkersLostError
from sepnet.evaluation import provenance, rows
from sepnet.evaluation.attempt import one_line
from sepnet.evaluation.contender import Contender, LoadError
from sepnet.evaluation.cost import COST_MIXTURES, THREADS, Cost
from sepnet.evaluation.rows import Row
from sepnet.evaluation.scoring import DEFAULT_MEASURES, check_measures
from sepnet.evaluation.worker import Scores, Worker, mixture_scores
from sepnet.inference.pipeline import PipelineSettings
from sepnet.types import Mixtures, SepnetError


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
    engine: Engine = LOCAL,
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
        engine: Where the processes are.

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
        engine.check(partial(_unusable, contenders, mixtures))
    problems = []  # of contenders that could not be scored; the others are
    with tqdm(total=total, unit="mixture", disable=not (progress and total), dynamic_ncols=True) as bar:
        for contender, indices in todo.items():
            if not indices:
                continue
            bar.set_description(contender.name)
            make_worker = partial(Worker, contender, mixtures, measures, settings)
            lost = []
            try:
                first = [index for index in indices if index < cost_mixtures]
                costs = _costs(engine, make_worker, first, n_processes)
                items = [(index, known.get(ids[index]), costs.get(index, Cost())) for index in indices]
                n_workers = min(n_processes, len(indices))
                with closing(
                    engine.map(partial(_scorer, make_worker), items, n_workers=n_workers)
                ) as results:
                    for position, new in results:
                        index = indices[position]
                        if isinstance(new, LostItem):
                            lost.append(f"{ids[index]} ({new.reason})")
                        else:
                            rows.append(rows_csv, new, measures)
                            known.setdefault(ids[index], [row.mixture_scores for row in new])
                        bar.update()
            except LoadError as error:
                problems.append(str(error))
            except WorkersLostError as error:
                problems.append(f"{contender.name}: {error}")
            if lost:
                problems.append(
                    f"{contender.name}: {len(lost)} mixtures could not be scored, and the same command tries "
                    f"them again: {join_names(lost)}"
                )
    _sort(rows_csv, ids, measures)
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


def _sort(rows_csv: Path, ids: Sequence[str], measures: Sequence[str]) -> None:
    """Bring rows that came in another order into that of the contenders and the mixtures."""
    if not rows_csv.exists():
        return
    written = rows.read(rows_csv)
    of_contender = {name: rank for rank, name in enumerate(dict.fromkeys(row.separator for row in written))}
    of_mixture = {name: rank for rank, name in enumerate(ids)}
    ordered = sorted(
        written,
        key=lambda row: (of_contender[row.separator], of_mixture.get(row.mixture_id, len(ids)), row.source),
    )
    if ordered != written:
        rows.replace(rows_csv, ordered, measures)


def _unusable(contenders: Sequence[Contender], mixtures: Mixtures) -> list[str]:
    """What of an evaluation can't be read on this machine."""
    complaints = []
    try:
        mixtures[0]
    except Exception as error:
        complaints.append(f"mixture {mixtures.id(0)} cannot be read: {one_line(error)}")
    for contender in contenders:
        if contender.folder is not None and not contender.folder.exists():
            complaints.append(f"there is no {contender.folder}, from which {contender.name} is loaded")
    return complaints


def _costs(
    engine: Engine, make_worker: Callable[[], Worker], indices: Sequence[int], n_processes: int
) -> Mapping[int, Cost]:
    """Measure the cost of some mixtures, one after the other in one process with two threads."""
    n_workers = min(n_processes, 1)
    make_meter = partial(_meter, make_worker)
    with closing(engine.map(make_meter, indices, n_workers=n_workers, n_threads=THREADS)) as results:
        return {indices[i]: cost for i, cost in results if not isinstance(cost, LostItem)}


def _meter(make_worker: Callable[[], Worker]) -> Callable[[int], Cost]:
    return make_worker().cost


def _scorer(make_worker: Callable[[], Worker]) -> Callable[[tuple[int, Scores | None, Cost]], list[Row]]:
    worker = make_worker()
    return lambda item: worker.score(*item)
