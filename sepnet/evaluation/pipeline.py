"""A complete evaluation: rows, then examples, then the report."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from sepnet.engines import LOCAL, Engine
from sepnet.evaluation import rows
from sepnet.evaluation.contender import Contender
from sepnet.evaluation.cost import COST_MIXTURES
from sepnet.evaluation.examples import examples
from sepnet.evaluation.report import report
from sepnet.evaluation.run import run
from sepnet.evaluation.scoring import DEFAULT_MEASURES
from sepnet.inference.pipeline import PipelineSettings
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
    cost_mixtures: int = COST_MIXTURES,
    retry_failed: bool = False,
    settings: PipelineSettings | None = None,
    engine: Engine = LOCAL,
) -> Path:
    """Write rows, examples, figures and reports into a folder. Called again, continue where it stopped.

    Args:
        contenders: The separators to score, with different names.
        mixtures: The test set.
        folder: The folder of the results.
        n_processes: The number of processes; 0 computes in this one.
        limit: The number of mixtures to score, from the first; None for all.
        example_separators: The names of the contenders that get examples; None for all but the floor.
        measures: Names in ``scoring.MEASURES``.
        progress: Whether a progress bar is shown.
        cost_mixtures: The number of mixtures on which the cost is measured.
        retry_failed: Whether pairs that failed are scored again.
        settings: Settings of the pipeline around each separator; None for the defaults.
        engine: Where the processes are.

    Returns:
        ``folder``.

    Raises:
        SepnetError: As ``run``.
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
        cost_mixtures=cost_mixtures,
        retry_failed=retry_failed,
        settings=settings,
        engine=engine,
    )
    if example_separators is None:
        example_separators = {row.separator for row in rows.read(rows_csv) if row.role != "floor"}
    for contender in contenders:
        if contender.name in example_separators:
            examples(rows_csv, contender, mixtures)
    report(rows_csv)
    return folder
