"""The settings of ``sepnet prepare``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sepnet.ranges import (
    Name,
    NameOrPath,
    Node,
    NonNegativeFloat,
    NumberOfSources,
    PathOrUrl,
    PathSetting,
    PositiveInt,
    Seed,
)
from sepnet.types import SepnetError


@dataclass(frozen=True, kw_only=True)
class ListSettings:
    """A fixed set of mixtures that is drawn from one split; see conf/prepare.yaml."""

    split: Name | None
    n_mixtures: PositiveInt
    n_sources: NumberOfSources
    seed: Seed
    min_seconds: NonNegativeFloat
    csv: PathSetting | None

    def __post_init__(self) -> None:
        if (self.split is None) != (self.csv is None):
            raise SepnetError(
                f"list.split is {self.split} and list.csv is {self.csv}: give both to draw a list"
            )


@dataclass(frozen=True, kw_only=True)
class PrepareSettings:
    """The settings of conf/prepare.yaml, and those that all files of conf/corpus have."""

    weights: NameOrPath | None
    root: PathOrUrl
    fetch: Node | None
    corpus: Node
    list: ListSettings
    subset: Any = None  # of conf/corpus/librispeech.yaml
