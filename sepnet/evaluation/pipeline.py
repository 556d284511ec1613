"""The whole evaluation: rows, then examples, then the report."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from sepnet.evaluation import rows
from sepnet.evaluation.contender import Contender
from sepnet.evaluation.cost import COSTED
from sepnet.evaluation.examples import examples
from sepnet.evaluation.report import report
from sepnet.evaluation.run import run
from sepnet.evaluation.scoring import DEFAULT_MEASURES
from sepnet.types import Mixtures


def evaluate(
    contenders: Sequence[Contender],
    mixtures: Mixtures,
    folder: Path,
    *,
    n_processes: int,
    limit: int | None = None,
    example_separators: Collection[str] | None = None,
    measures: Sequence[str] = DEFAULT_MEASURES,
    progress: bool = True,
    costed: int = COSTED,
    retry_failed: bool = False,
) -> Path:
    """Fill ``folder`` with rows.csv, provenance.json, examples/, report.html and report.md; return it.

    example_separators: names of the contenders to give examples of (None: all but the floor). Else, and
    for what is raised, as ``run``, ``examples`` and ``report``. Called again, it goes on where it stopped.
    """
    folder = Path(folder)
    rows_csv = run(
        contenders,
        mixtures,
        folder / "rows.csv",
        n_processes=n_processes,
        measures=measures,
        limit=limit,
        progress=progress,
        costed=costed,
        retry_failed=retry_failed,
    )
    if example_separators is None:
        example_separators = {row.separator for row in rows.read(rows_csv) if row.role != "floor"}
    for contender in contenders:
        if contender.name in example_separators:
            examples(rows_csv, contender, mixtures)
    report(rows_csv)
    return folder
