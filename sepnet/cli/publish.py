"""python scripts/publish.py: puts tables of results into a page, and weights into the package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from omegaconf import DictConfig

from sepnet import artifact, paths
from sepnet.cli import app
from sepnet.cli.parts import fold_score
from sepnet.evaluation.conditions import Condition, compared_table, read_conditions
from sepnet.evaluation.curves import curves_figure, curves_table
from sepnet.evaluation.insert import insert, inserted
from sepnet.evaluation.parts import TrainingPart, parts_figure, parts_table
from sepnet.evaluation.publish import results_table, weights_table
from sepnet.evaluation.published import published_table
from sepnet.evaluation.shipped import read_conditions_of, read_parts
from sepnet.evaluation.shipping import Bounds, Description, ship_part, ship_separator
from sepnet.evaluation.variants import read_variant, variants_table
from sepnet.ranges import Name, NameOrPath, PathSetting, PositiveFloat, Text
from sepnet.types import SepnetError


@dataclass(frozen=True, kw_only=True)
class WeightsSettings:
    """The settings of a file of conf/weights."""

    name: Name
    run: PathSetting
    recipe: Text
    data: Text
    limits: Text
    licence: Text
    separates: Text | None = None
    tested_on: Text | None = None
    evaluation: list[PathSetting] | PathSetting | None = None
    folds: dict[str, PathSetting] | None = None
    conditions: PathSetting | None = None
    parts: list[TrainingPart] = field(default_factory=list)

    def __post_init__(self) -> None:
        if Path(self.name).name != self.name:
            raise SepnetError(f"weights.name is {self.name!r}: give a name without slashes")
        if self.folds is not None and (self.conditions is not None or self.parts):
            raise SepnetError(
                "weights.folds are of a part of a separator, whose card has no conditions and no parts of a "
                "training: leave weights.conditions and weights.parts out"
            )


@dataclass(frozen=True, kw_only=True)
class PublishSettings:
    """The settings of conf/publish.yaml."""

    page: PathSetting
    evaluations: dict[str, PathSetting] | None
    columns: Literal["full", "summary", "short"]
    methods: list[NameOrPath] | None
    shipped: bool
    published: list[PathSetting] | None
    curves: list[PathSetting]
    figure: PathSetting
    variants: list[PathSetting]
    conditions: list[Name]
    parts: Name | None
    parts_figure: PathSetting
    max_model_mb: PositiveFloat
    max_total_mb: PositiveFloat
    weights: WeightsSettings | None = None


def main() -> None:
    """Run the command line."""
    app.run(publish, "publish", PublishSettings)


def publish(config: DictConfig) -> None:
    """Write what conf/publish.yaml asks for.

    Raises:
        SepnetError: A file, a row or a mark of the page is missing, or weights are too large.
    """
    settings = app.parse(PublishSettings, config)
    asked = (
        settings.evaluations,
        settings.curves,
        settings.variants,
        settings.shipped,
        settings.weights,
        settings.parts,
        settings.conditions,
    )
    if not any(asked) and settings.published is None:
        raise SepnetError(
            "nothing is to be published: give evaluations=, curves=, variants=, shipped=true, published=, "
            "conditions=, parts= or weights="
        )
    page = settings.page
    tables = {
        mark: results_table(folder, width=settings.columns, methods=settings.methods)
        for mark, folder in (settings.evaluations or {}).items()
    }
    if settings.curves:
        tables["curves"] = curves_table(settings.curves)
    if settings.variants:
        tables["variants"] = variants_table([read_variant(folder) for folder in settings.variants])
    if settings.published is not None:
        tables["published"] = published_table(settings.published)
    of_weights = _tables_of_weights(settings)
    if settings.weights is not None:
        if marks := [*tables, *of_weights]:
            inserted(page, dict.fromkeys(marks, ""))  # refused before the weights are replaced
        folder = paths.SHIPPED / settings.weights.name
        bounds = Bounds(model_mb=settings.max_model_mb, total_mb=settings.max_total_mb)
        ship(folder, settings.weights, bounds)
        print(f"{folder} is up to date")
    tables |= {mark: make() for mark, make in of_weights.items()}
    if tables:
        insert(page, tables)
        print(f"{page} is up to date")
    if settings.curves:
        curves_figure(settings.curves, settings.figure)
    if settings.parts is not None:
        parts_figure(read_parts(settings.parts), settings.parts_figure)


def _tables_of_weights(settings: PublishSettings) -> dict[str, Callable[[], str]]:
    """What makes the tables of weights that ship, by their marks: they are of those that ship by then."""
    tables: dict[str, Callable[[], str]] = {}
    if settings.shipped:
        tables["weights"] = weights_table
    if settings.conditions:
        tables["conditions"] = lambda: compared_table(
            {name: read_conditions_of(name) for name in settings.conditions}
        )
    if (name := settings.parts) is not None:
        tables["parts"] = lambda: parts_table(read_parts(name))
    return tables


def ship(folder: Path, weights: WeightsSettings, bounds: Bounds) -> None:
    """Copy a run into the package.

    Args:
        folder: Where its weights go.
        weights: Its ``evaluation`` is a folder, or several, with a row for the run; with ``folds`` instead it
            describes a part of a separator.
        bounds: How large the weights may be.

    Raises:
        SepnetError: The run has no weights or no score, or the weights are too large.
    """
    conditions: list[Condition] = []
    if weights.conditions is not None:
        conditions = read_conditions(weights.conditions, artifact.resolve(weights.run).weights_sha1())
    description = Description(
        recipe=weights.recipe,
        data=weights.data,
        limits=weights.limits,
        licence=weights.licence,
        separates=weights.separates or "",
        tested_on=weights.tested_on or "",
        parts=weights.parts,
        conditions=conditions,
    )
    if weights.folds is not None:
        folds = {fold: fold_score(scored, fold) for fold, scored in weights.folds.items()}
        ship_part(weights.run, folder, folds, description, bounds)
    elif weights.evaluation is not None:
        evaluations = weights.evaluation if isinstance(weights.evaluation, list) else [weights.evaluation]
        ship_separator(weights.run, folder, evaluations, description, bounds)
    else:
        raise SepnetError("weights.evaluation has no value: give the folder of an evaluation of the run")
