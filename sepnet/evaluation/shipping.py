"""Copy the weights of a run into the package, in half precision and with a model card.

The scores on the card and in metrics.json are computed from the rows.csv of evaluations.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_file
from torch import Tensor, nn

from sepnet import artifact, paths
from sepnet.atomic import replacing_folder, write_text
from sepnet.commands import command
from sepnet.evaluation import rows
from sepnet.evaluation.columns import columns, markdown_table
from sepnet.evaluation.conditions import Condition, conditions_table
from sepnet.evaluation.contenders import without_time
from sepnet.evaluation.parts import TrainingPart, parts_table
from sepnet.evaluation.statistics import Summary
from sepnet.evaluation.table import Line, lines
from sepnet.evaluation.text import templates
from sepnet.stored import read_json
from sepnet.types import Scored, Separator, SepnetError

MEGABYTE = 1e6
REFERENCE_METHODS = ("identity", "ibm", "irm")  # the floor and ceilings that a card shows beside the model
HINT_OPTIONS = {"n_sources": "n_sources=2", "queries": "query=example.wav"}  # of `sepnet separate`


@dataclass(frozen=True, kw_only=True)
class Description:
    """The texts of a model card.

    Attributes:
        recipe: The command that trains the model.
        data: The training data.
        limits: The recordings on which it fails.
        licence: The terms under which the weights may be used.
        separates: The sources, in a few words; empty for a part of a separator.
        tested_on: The test set, in a few words; empty for a part of a separator.
        conditions: What it gains by the kind of recording; empty where that was not measured.
        parts: Of the training, where there are several.
    """

    recipe: str
    data: str
    limits: str
    licence: str
    separates: str = ""
    tested_on: str = ""
    conditions: Sequence[Condition] = ()
    parts: Sequence[TrainingPart] = ()


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The largest sizes of shipped weights in half precision.

    Attributes:
        model_mb: Of one model, in megabytes.
        total_mb: Of all models together, in megabytes.
    """

    model_mb: float = 16.0
    total_mb: float = 64.0


@dataclass(frozen=True)
class FoldScore:
    """The score of a run on a fold of the data that it was not trained on.

    Attributes:
        run: The run folder.
        score: The mean over the clips of the fold.
        n_clips: Their number.
    """

    run: Path
    score: float
    n_clips: int


def ship_separator(
    run: Path, folder: Path, evaluations: Sequence[Path], description: Description, bounds: Bounds
) -> None:
    """Copy the weights of a separator into the package, with its card and its metrics.

    Args:
        run: The folder of a finished run.
        folder: The folder of the shipped weights; it is replaced.
        evaluations: Folders of evaluations with a row for the run, the most important one first.
        description: The texts of the card.
        bounds: The largest sizes allowed.

    Raises:
        SepnetError: The run has no weights, an evaluation has no row for it, or the weights are too large.
    """
    weights = half_precision(run, folder, bounds)
    separator = artifact.load(run)
    assert isinstance(separator, nn.Module)  # it has weights
    assert isinstance(separator, Separator)
    tables = [_card_table(run, evaluation) for evaluation in evaluations]
    test = next(line for line in tables[0][0] if line.name == without_time(run.name))
    metrics = read_json(run / artifact.METRICS) | {
        "separates": description.separates,
        "tested_on": description.tested_on,
        "test": record(test),
        "parts": [asdict(part) for part in description.parts],
        "conditions": [asdict(condition) for condition in description.conditions],
    }
    options = "".join(f" {HINT_OPTIONS[hint]}" for hint in sorted(separator.info.needs))
    content = {
        "tables": [text for _, text in tables],
        "options": options,
        "conditions": conditions_table(description.conditions) if description.conditions else None,
        "parts": parts_table(description.parts) if description.parts else None,
    }
    _write(run, folder, "card.md", weights, separator, metrics, asdict(description) | content)


def ship_part(
    run: Path, folder: Path, folds: Mapping[str, FoldScore], description: Description, bounds: Bounds
) -> None:
    """Copy the weights of a part of a separator, such as a tagger, into the package, with its score by fold.

    Args:
        run: The folder of a finished run.
        folder: The folder of the shipped weights; it is replaced.
        folds: {fold: score of a run that was not trained on it}.
        description: The texts of the card.
        bounds: The largest sizes allowed.

    Raises:
        SepnetError: The run has no weights, it is a separator, or the weights are too large.
    """
    weights = half_precision(run, folder, bounds)
    part = artifact.load_trained(run)
    if not isinstance(part, Scored) or not isinstance(part, nn.Module):
        raise SepnetError(f"{run} is a separator: ship it with an evaluation, not with folds")
    metrics = read_json(run / artifact.METRICS)
    metrics["folds"] = {fold: scored.score for fold, scored in folds.items()}
    content = {
        "kind": type(part).__name__,
        "score_name": part.score_name,
        "folds": {fold: asdict(scored) | {"run": scored.run.name} for fold, scored in folds.items()},
        "run": run.name,
    }
    _write(run, folder, "part_card.md", weights, part, metrics, asdict(description) | content)


def half_precision(run: Path, folder: Path, bounds: Bounds) -> dict[str, Tensor]:
    """Read the weights of a run in half precision.

    Args:
        run: The folder of a finished run.
        folder: The folder of the shipped weights; weights in it count as replaced.
        bounds: The largest sizes allowed.

    Returns:
        The tensors by name.

    Raises:
        SepnetError: The run has no weights, or they are too large.
    """
    source = run / artifact.WEIGHTS
    if not source.is_file():
        raise SepnetError(f"there is no {source}: name the folder of a finished run")
    weights = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in load_file(source).items()
    }
    size_mb = sum(tensor.nbytes for tensor in weights.values()) / MEGABYTE
    if size_mb > bounds.model_mb:
        raise SepnetError(
            f"{source} is {size_mb:.1f} MB in half precision, but at most {bounds.model_mb:g} MB ship: "
            "train a smaller model"
        )
    others = [path for path in paths.SHIPPED.glob(f"*/{artifact.WEIGHTS}") if path.parent != folder]
    total_mb = size_mb + sum(path.stat().st_size for path in others) / MEGABYTE
    if total_mb > bounds.total_mb:
        raise SepnetError(
            f"with {source} all weights are {total_mb:.1f} MB, but at most {bounds.total_mb:g} MB ship: "
            "train a smaller model, or remove others"
        )
    return weights


def record(line: Line) -> dict[str, Any]:
    """Collect the numbers in a line of a table for metrics.json.

    Args:
        line: The line of the separator.

    Returns:
        Plain containers; undefined numbers are None.
    """
    return {
        "method": line.name,
        "n_mixtures": len(line.improvements),
        **{key: _summary(summary) for key, summary in line.scores.items() if summary.n},
        "parameters": line.parameters,
        "macs_per_second": _finite(line.macs_per_second),
        "real_time_factor": _finite(line.real_time_factor),
        "peak_memory_mb": _finite(line.peak_memory_mb),
    }


def _summary(summary: Summary) -> dict[str, float | None]:
    return {"mean": _finite(summary.mean), "low": _finite(summary.low), "high": _finite(summary.high)}


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def _card_table(run: Path, evaluation: Path) -> tuple[list[Line], str]:
    """The lines of floor, run and ceilings of an evaluation, and the table of these."""
    rows_csv, name = evaluation / "rows.csv", without_time(run.name)
    if not rows_csv.is_file():
        raise SepnetError(f"there is no {rows_csv}: evaluate first ({command('eval')})")
    table = [line for line in lines(rows.read(rows_csv)) if line.name in (name, *REFERENCE_METHODS)]
    if all(line.name != name for line in table):
        raise SepnetError(f"the table of {evaluation} has no row {name}: evaluate the run first")
    return table, markdown_table(table, columns("summary", rows.measures_of(rows_csv)))


def _write(
    run: Path,
    folder: Path,
    template: str,
    weights: dict[str, Tensor],
    module: nn.Module,
    metrics: Mapping[str, Any],
    content: Mapping[str, Any],
) -> None:
    """Write the folder of shipped weights: weights, settings, provenance, metrics and card."""
    config = artifact.read_settings(run)
    card = (
        templates(html=False)
        .get_template(template)
        .render(
            name=folder.name,
            parameters=sum(parameter.numel() for parameter in module.parameters()) / 1e6,
            metrics=metrics,
            origin=read_json(run / artifact.PROVENANCE),
            model=_to_yaml(config["model"]),
            **content,
        )
    )
    with replacing_folder(folder) as temporary:
        artifact.write_weights(temporary / artifact.WEIGHTS, weights)
        write_text(temporary / artifact.CONFIG, _to_yaml(without_paths(config)))
        shutil.copyfile(run / artifact.PROVENANCE, temporary / artifact.PROVENANCE)
        metrics_json = json.dumps(dict(metrics), indent=2, ensure_ascii=False)
        write_text(temporary / artifact.METRICS, metrics_json + "\n")
        write_text(temporary / artifact.CARD, card + "\n")


def _to_yaml(node: Any) -> str:
    return yaml.safe_dump(node, sort_keys=False, allow_unicode=True, default_flow_style=False)


def without_paths(node: Any) -> Any:
    """Replace absolute paths in settings, which other machines lack, by ``???``: a user has to give them.

    Args:
        node: Nested dicts and lists.

    Returns:
        A copy.
    """
    if isinstance(node, dict):
        return {key: without_paths(value) for key, value in node.items()}
    if isinstance(node, list):
        return [without_paths(value) for value in node]
    return "???" if isinstance(node, str) and Path(node).is_absolute() else node
