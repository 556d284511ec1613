"""python scripts/publish.py: puts tables of results into a page, and weights into the package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig

from sepnet import paths
from sepnet.cli import app
from sepnet.cli.parts import fold_score
from sepnet.evaluation.curves import curves_figure, curves_table
from sepnet.evaluation.insert import insert
from sepnet.evaluation.publish import results_table, weights_table
from sepnet.evaluation.shipping import Bounds, Description, ship_part, ship_separator
from sepnet.evaluation.variants import read_variant, variants_table
from sepnet.ranges import NameOrPath, PathSetting, PositiveFloat


@dataclass(frozen=True, kw_only=True)
class PublishSettings:
    """The settings of conf/publish.yaml."""

    page: PathSetting
    evaluations: dict[str, PathSetting] | None
    columns: Literal["full", "summary", "short"]
    methods: list[NameOrPath] | None
    shipped: bool
    curves: list[PathSetting]
    figure: PathSetting
    variants: list[PathSetting]
    max_model_mb: PositiveFloat
    max_total_mb: PositiveFloat
    weights: dict[str, Any] | None = None


DESCRIBED = ("recipe", "data", "limits", "licence", "separates", "tested_on")


def main() -> None:
    """Run the command line."""
    app.run(publish, "publish", PublishSettings)


def publish(config: DictConfig) -> None:
    """Write what conf/publish.yaml asks for.

    Raises:
        SepnetError: A file, a row or a mark of the page is missing, or weights are too large.
    """
    settings = app.parse(PublishSettings, config)
    page = settings.page
    tables = {
        mark: results_table(folder, width=settings.columns, methods=settings.methods)
        for mark, folder in (settings.evaluations or {}).items()
    }
    if settings.curves:
        tables["curves"] = curves_table(settings.curves)
        curves_figure(settings.curves, settings.figure)
    if settings.variants:
        tables["variants"] = variants_table([read_variant(folder) for folder in settings.variants])
    if settings.shipped:
        tables["weights"] = weights_table()
    for mark, table in tables.items():
        insert(page, mark, table)
    if tables:
        print(f"{page} is up to date")
    if settings.weights:
        folder = paths.SHIPPED / str(settings.weights["name"])
        bounds = Bounds(model_mb=settings.max_model_mb, total_mb=settings.max_total_mb)
        ship(folder, settings.weights, bounds)
        print(f"{folder} is up to date")


def ship(folder: Path, weights: Mapping[str, Any], bounds: Bounds) -> None:
    """Copy a run into the package.

    Args:
        folder: Where its weights go.
        weights: A file of conf/weights. Its ``evaluation`` is a folder, or several, with a row for the run; a
            file with ``folds`` instead describes a part of a separator.
        bounds: How large the weights may be.

    Raises:
        SepnetError: The run has no weights or no score, or the weights are too large.
    """
    run = Path(weights["run"])
    description = Description(**{key: weights[key] for key in DESCRIBED if key in weights})
    if "folds" in weights:
        folds = {fold: fold_score(Path(scored), fold) for fold, scored in weights["folds"].items()}
        ship_part(run, folder, folds, description, bounds)
        return
    evaluation = weights["evaluation"]
    folders = [evaluation] if isinstance(evaluation, str) else evaluation
    ship_separator(run, folder, [Path(each) for each in folders], description, bounds)
