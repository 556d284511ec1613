"""The settings of ``sepnet separate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sepnet.cli.devices import check_devices
from sepnet.engines import EngineSettings
from sepnet.inference.channels import Channels
from sepnet.inference.outputs import OutputSettings
from sepnet.inference.pipeline import PipelineSettings
from sepnet.inference.recording_list import Shard
from sepnet.ranges import NameOrPath, NonNegativeInt, PathOrUrl, PathSetting, PositiveInt, SampleRate, Text
from sepnet.settings import FLAT
from sepnet.types import SepnetError
from sepnet.urls import path_or_url

Names = list[NameOrPath] | NameOrPath


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

    files: Names
    list: PathOrUrl | None
    shard: Text | None
    model: NameOrPath | None
    runs: PathSetting
    set: dict[str, Any] | None
    query: Names | None
    reference: PathOrUrl | None
    channels: Channels | None
    out: PathOrUrl | None
    strict: bool
    track: NonNegativeInt
    residual: bool
    live: bool | Literal["device"] | None
    pcm: PcmSettings
    workers: EngineSettings = field(metadata=FLAT)
    pipeline: PipelineSettings = field(metadata=FLAT)
    output: OutputSettings = field(metadata=FLAT)

    def __post_init__(self) -> None:
        if self.list is not None and self.out is None:
            raise SepnetError("the results of a list need a folder: give out=separated")
        if self.shard is not None:
            Shard.parse(self.shard)
        if self.live and self.pipeline.device != "cpu":
            raise SepnetError("live audio is separated on the CPU, hop by hop: leave device out")
        check_devices(self.workers, self.pipeline)

    @property
    def out_place(self) -> Path | str | None:
        """The folder of the results, or its URL."""
        return None if self.out is None else path_or_url(self.out)

    @property
    def queries(self) -> Sequence[str]:
        """The files with examples."""
        return [] if self.query is None else [self.query] if isinstance(self.query, str) else self.query
