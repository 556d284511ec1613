"""python scripts/publish.py: puts tables of results into a page, and weights into the package."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from sepnet import paths
from sepnet.cli import app
from sepnet.cli.parts import fold_score
from sepnet.evaluation.curves import curves_figure, curves_table
from sepnet.evaluation.insert import insert
from sepnet.evaluation.publish import results_table, weights_table
from sepnet.evaluation.shipping import Bounds, Description, ship_part, ship_separator
from sepnet.evaluation.variants import read_variant, variants_table

DESCRIBED = ("recipe", "data", "limits", "licence", "separates", "tested_on")


def main() -> None:
    """Run the command line."""
    app.run(publish, "publish")


def publish(config: DictConfig) -> None:
    """Write what conf/publish.yaml asks for.

    Raises:
        SepnetError: A file, a row or a mark of the page is missing, or weights are too large.
    """
    page = Path(config.page)
    tables = {
        mark: results_table(Path(folder), width=config.columns, methods=config.methods)
        for mark, folder in (config.evaluations or {}).items()
    }
    if config.curves:
        folders = [Path(folder) for folder in config.curves]
        tables["curves"] = curves_table(folders)
        curves_figure(folders, Path(config.figure))
    if config.variants:
        tables["variants"] = variants_table([read_variant(Path(folder)) for folder in config.variants])
    if config.shipped:
        tables["weights"] = weights_table()
    for mark, table in tables.items():
        insert(page, mark, table)
    if tables:
        print(f"{page} is up to date")
    if config.get("weights"):
        app.require_all(config)
        folder = paths.SHIPPED / config.weights.name
        ship(folder, config.weights, Bounds(model_mb=config.max_model_mb, total_mb=config.max_total_mb))
        print(f"{folder} is up to date")


def ship(folder: Path, weights: DictConfig, bounds: Bounds) -> None:
    """Copy a run into the package.

    Args:
        folder: Where its weights go.
        weights: A file of conf/weights. Its ``evaluation`` is a folder, or several, with a row for the run; a
            file with ``folds`` instead describes a part of a separator.
        bounds: How large the weights may be.

    Raises:
        SepnetError: The run has no weights or no score, or the weights are too large.
    """
    run = Path(weights.run)
    description = Description(**{key: weights[key] for key in DESCRIBED if key in weights})
    if "folds" in weights:
        folds = {fold: fold_score(Path(scored), fold) for fold, scored in weights.folds.items()}
        ship_part(run, folder, folds, description, bounds)
        return
    folders = [weights.evaluation] if isinstance(weights.evaluation, str) else weights.evaluation
    ship_separator(run, folder, [Path(each) for each in folders], description, bounds)
