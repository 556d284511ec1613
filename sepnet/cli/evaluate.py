"""``sepnet eval``: score separators on a test set, or join earlier results; write the report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from sepnet import artifact
from sepnet.cli import app
from sepnet.cli.evaluate_settings import EvalSettings
from sepnet.data.dataset import MixtureSet
from sepnet.engines import Engine, open_engine
from sepnet.evaluation import evaluate
from sepnet.evaluation.contender import Contender
from sepnet.evaluation.contenders import contenders
from sepnet.evaluation.join import join
from sepnet.evaluation.listening import listening
from sepnet.evaluation.publish import terminal_table
from sepnet.evaluation.scoring import available_measures
from sepnet.inference.fetching import results_folder
from sepnet.types import SepnetError
from sepnet.urls import path_or_url


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
        with results_folder(path_or_url(settings.out)) as folder:
            join(settings.compare, folder)
            _show(folder)
        return
    trained = settings.trained_run()
    names = settings.names(trained)
    for name in names:
        artifact.resolve(name)  # before anything is scored
    taking_part = contenders(names)
    test = settings.data_set(trained).test()
    with results_folder(settings.results_place(trained, test.fingerprint)) as folder:
        _evaluate(settings, taking_part, test, folder)
        _show(folder)
        if settings.listen is not None:
            page = listening(folder / "rows.csv", taking_part, test, settings.listen)
            print(f"listen to each method: {page}")


def _evaluate(
    settings: EvalSettings, taking_part: Sequence[Contender], test: MixtureSet, folder: Path
) -> None:
    try:
        with open_engine(settings.workers) as engine:
            evaluate(
                taking_part,
                test,
                folder,
                n_processes=_n_processes(settings, engine),
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


def _n_processes(settings: EvalSettings, engine: Engine) -> int:
    """As many as are asked for; else one for each processor, but a single one for the GPU of this machine."""
    workers = settings.workers
    if workers.n_processes is not None:
        return workers.n_processes
    return 1 if workers.engine == "local" and settings.pipeline.device == "cuda" else engine.n_processors()


def _show(folder: Path) -> None:
    print(terminal_table(folder))
    print(f"look and listen: {folder / 'report.html'}")
