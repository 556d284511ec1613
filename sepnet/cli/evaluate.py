"""``sepnet eval``: score separators on a test set, or join earlier results; write the report."""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig

from sepnet import artifact
from sepnet.cli import app
from sepnet.cli.evaluate_settings import EvalSettings
from sepnet.engines import open_engine
from sepnet.evaluation import evaluate
from sepnet.evaluation.contenders import contenders
from sepnet.evaluation.join import join
from sepnet.evaluation.listening import listening
from sepnet.evaluation.publish import terminal_table
from sepnet.evaluation.scoring import available_measures
from sepnet.types import SepnetError


def main() -> None:
    """Run the command line."""
    app.run(run, "eval", EvalSettings)


def run(config: DictConfig) -> None:
    """Evaluate what the configuration describes.

    Args:
        config: conf/eval.yaml with the overrides of the command line.

    Raises:
        SepnetError: A setting, a name or a file cannot be used.
    """
    settings = app.parse(EvalSettings, config)
    if settings.compare is not None:
        if settings.out is None:
            raise SepnetError("the joined results need a folder: give out=compared")
        join(settings.compare, settings.out)
        _show(settings.out)
        return
    trained = settings.trained_run()
    names = settings.names(trained)
    for name in names:
        artifact.resolve(name)  # before anything is scored
    taking_part = contenders(names)
    test = settings.data_set(trained).test()
    folder = settings.results_folder(trained, test.fingerprint)
    try:
        with open_engine(settings.workers) as engine:
            n_processes = settings.workers.n_processes
            evaluate(
                taking_part,
                test,
                folder,
                n_processes=engine.n_processors() if n_processes is None else n_processes,
                limit=settings.limit,
                measures=available_measures() if settings.measures is None else tuple(settings.measures),
                cost_mixtures=settings.cost_mixtures,
                retry_failed=settings.retry_failed,
                settings=settings.pipeline,
                engine=engine,
            )
    except KeyboardInterrupt:
        print(
            f"\nstopped; the rows so far are in {folder}, and the same command goes on from there",
            file=sys.stderr,
        )
        sys.exit(app.INTERRUPTED)
    _show(folder)
    if settings.listen is not None:
        page = listening(folder / "rows.csv", taking_part, test, settings.listen)
        print(f"listen to each method: {page}")


def _show(folder: Path) -> None:
    print(terminal_table(folder))
    print(f"look and listen: {folder / 'report.html'}")
