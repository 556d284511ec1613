"""Read what is known of the weights that ship: their scores, conditions and the parts of their training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sepnet import artifact, paths
from sepnet.evaluation.conditions import Condition
from sepnet.evaluation.parts import TrainingPart
from sepnet.stored import read_json
from sepnet.types import SepnetError


@dataclass(frozen=True)
class ShippedWeights:
    """A summary of the weights of one shipped separator.

    Attributes:
        name: Of the weights.
        separates: The sources, in a few words.
        tested_on: The test set, in a few words.
        test: The scores on the test set, as ``shipping.record`` writes them.
        n_bytes: The size of the file of the weights.
    """

    name: str
    separates: str
    tested_on: str
    test: Mapping[str, Any]
    n_bytes: int


def read_shipped() -> list[ShippedWeights]:
    """Read the summaries of all shipped separators.

    Returns:
        One for each, sorted by name.

    Raises:
        SepnetError: The metrics of one have no score on a test set.
    """
    shipped = []
    for name in artifact.shipped():
        folder = paths.SHIPPED / name
        metrics = read_json(folder / artifact.METRICS)
        if "test" not in metrics:
            raise SepnetError(
                f"{name} has no score on a test set in its metrics: ship it again (weights={name})"
            )
        size = (folder / artifact.WEIGHTS).stat().st_size
        shipped.append(
            ShippedWeights(name, metrics["separates"], metrics["tested_on"], metrics["test"], size)
        )
    return shipped


def read_conditions_of(name: str) -> list[Condition]:
    """Read what shipped weights gain by the kind of recording.

    Args:
        name: Of the weights.

    Raises:
        SepnetError: There are no such weights, or it was not measured.
    """
    if not (rows := _shipped_metrics(name).get("conditions")):
        raise SepnetError(
            f"the metrics of {name} list no conditions: give weights.conditions and ship it again"
        )
    return [Condition(**row) for row in rows]


def read_parts(name: str) -> list[TrainingPart]:
    """Read the parts of the training of shipped weights.

    Args:
        name: Of the weights.

    Raises:
        SepnetError: There are no such weights, or their training had no parts.
    """
    metrics = _shipped_metrics(name)
    if not metrics.get("parts"):
        raise SepnetError(
            f"the metrics of {name} list no parts of training: give weights.parts and ship it again"
        )
    return [TrainingPart(**part) for part in metrics["parts"]]


def _shipped_metrics(name: str) -> Mapping[str, Any]:
    if name not in artifact.shipped():
        raise SepnetError(f"no weights {name} ship: give one of {', '.join(artifact.shipped())}")
    metrics: Mapping[str, Any] = read_json(paths.SHIPPED / name / artifact.METRICS)
    return metrics
