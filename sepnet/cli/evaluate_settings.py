"""The settings of ``sepnet eval``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le, Len

from sepnet.inference.pipeline import PipelineSettings
from sepnet.ranges import NameOrPath, Node, NonNegativeInt, PathSetting, PositiveInt
from sepnet.settings import FLAT

Measure = Literal["si_sdr", "sdr", "snr", "sd_sdr", "pesq", "stoi", "estoi"]


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """The settings of conf/eval.yaml."""

    data: Node | None = None
    separators: Annotated[list[NameOrPath], Len(1)]
    ckpt: NameOrPath | None
    runs: PathSetting
    limit: PositiveInt | None
    measures: Annotated[list[Measure], Len(1)] | None
    cost_mixtures: NonNegativeInt
    retry_failed: bool
    listen: PositiveInt | None
    compare: Annotated[list[PathSetting], Len(1)] | None
    n_processes: Annotated[int, Ge(0), Le(1024)] | None
    out: PathSetting | None
    pipeline: PipelineSettings = field(metadata=FLAT)
