"""The settings of ``sepnet separate``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from sepnet.inference.channels import Channels
from sepnet.inference.outputs import OutputSettings
from sepnet.inference.pipeline import PipelineSettings
from sepnet.ranges import NameOrPath, NonNegativeInt, PathSetting, PositiveInt, SampleRate, Text
from sepnet.settings import FLAT


@dataclass(frozen=True, kw_only=True)
class PcmSettings:
    """The format of live audio; see conf/separate.yaml."""

    format: Literal["s16le", "f32le"]
    rate: SampleRate | None
    channels: PositiveInt
    source: Text | None


@dataclass(frozen=True, kw_only=True)
class SeparateSettings:
    """The settings of conf/separate.yaml."""

    files: list[NameOrPath] | NameOrPath
    model: NameOrPath | None
    runs: PathSetting
    set: dict[str, Any] | None
    query: list[NameOrPath] | NameOrPath | None
    reference: PathSetting | None
    channels: Channels | None
    out: PathSetting | None
    strict: bool
    track: NonNegativeInt
    live: bool | Literal["device"] | None
    pcm: PcmSettings
    pipeline: PipelineSettings = field(metadata=FLAT)
    output: OutputSettings = field(metadata=FLAT)

    @property
    def queries(self) -> list[str]:
        """The files with examples."""
        return [] if self.query is None else [self.query] if isinstance(self.query, str) else self.query
