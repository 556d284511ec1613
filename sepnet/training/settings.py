"""Checks of the settings of a training, made before there is a run folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sepnet.types import SepnetError

MAX_SEED = 2**32 - 1  # the largest that numpy takes
MAX_NAME_BYTES = 200  # file systems allow 255 for a folder; its name begins with the time
DECAYS = ("cosine", "linear", "none")


@dataclass(frozen=True)
class NumberRange:
    """The values that a setting may have.

    Attributes:
        low: The smallest value allowed.
        high: The largest value allowed.
        whole: Whether only whole numbers are allowed.
    """

    low: float
    high: float = math.inf
    whole: bool = False

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        return math.isfinite(value) and self.low <= value <= self.high

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        if math.isinf(self.high):
            return f"{kind} of at least {self.low}"
        return f"{kind} from {self.low} to {self.high}"


RANGES = {
    "seed": NumberRange(0, MAX_SEED, whole=True),
    "ema_decay": NumberRange(0, 1),
    "optimizer.lr": NumberRange(0),
    "optimizer.weight_decay": NumberRange(0),
    "schedule.warmup_steps": NumberRange(0, whole=True),
    "schedule.decay_from": NumberRange(0, 1),
    "schedule.final": NumberRange(0, 1),
    "checkpoints.every_n_steps": NumberRange(1, whole=True),
    "loader.n_workers": NumberRange(0, whole=True),
}
"""The ranges of settings, by dotted name. A setting that is null, or that is not there, is not checked."""


def check_settings(settings: Mapping[str, Any]) -> None:
    """Check the values of a training's settings.

    Args:
        settings: The settings as nested mappings, with the names of conf/train.yaml.

    Raises:
        SepnetError: A value is outside its range, or ``name`` can't be part of a folder's name.
    """
    _check_name(settings.get("name"))
    for key, allowed in RANGES.items():
        value = _select(settings, key)
        if value is not None and value not in allowed:
            raise SepnetError(f"{key} is {value!r}: give {allowed}")
    decay = _select(settings, "schedule.decay")
    if decay is not None and decay not in DECAYS:
        raise SepnetError(f"schedule.decay is {decay!r}: give one of {', '.join(DECAYS)}")


def _check_name(name: object) -> None:
    """Raise SepnetError for a name that would lead out of the folder of runs, or is too long."""
    text = "" if name is None else str(name)
    if any(character in text for character in "/\\\0"):
        raise SepnetError(f"name is {text!r}: give a name without slashes, and the folder as runs=...")
    if (size := len(text.encode())) > MAX_NAME_BYTES:
        raise SepnetError(f"name has {size} bytes: give a name of at most {MAX_NAME_BYTES}")


def _select(settings: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted name, or None where it is not there."""
    group, _, name = key.rpartition(".")
    parent = settings.get(group) if group else settings
    return parent.get(name) if isinstance(parent, Mapping) else None
