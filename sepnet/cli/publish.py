"""python scripts/publish.py: puts the tables of finished runs and evaluations into the README."""

from __future__ import annotations

from itertools import dropwhile, takewhile
from pathlib import Path

from omegaconf import DictConfig

from sepnet.cli import app
from sepnet.evaluation.curves import curves_figure, curves_table
from sepnet.evaluation.insert import insert
from sepnet.types import SepnetError


def main() -> None:
    """The command line."""
    app.run(publish, "publish")


def publish(config: DictConfig) -> None:
    """Write what conf/publish.yaml asks for. Raises SepnetError for files or marks that are missing."""
    page = Path(config.page)
    evaluations = dict(config.evaluations or {})
    if config.evaluation is not None:
        evaluations["results"] = config.evaluation
    for mark, folder in evaluations.items():
        insert(page, mark, _table(Path(folder), full=config.full))
    if config.curves:
        folders = [Path(folder) for folder in config.curves]
        insert(page, "curves", curves_table(folders))
        curves_figure(folders, Path(config.figure))
    print(f"{page} is up to date")


def _table(folder: Path, *, full: bool) -> str:
    """The table of an evaluation, and where it comes from; full: with every column that the report has."""
    report = folder / ("report.md" if full else "summary.md")
    if not report.is_file():
        raise SepnetError(f"there is no {report}: run scripts/eval.py first")
    if not full:
        return report.read_text()
    lines = dropwhile(lambda line: not line.startswith("|"), report.read_text().splitlines())
    return "\n".join(takewhile(lambda line: not line.startswith("-"), lines))
