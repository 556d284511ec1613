"""The settings of ``sepnet eval``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Len

from sepnet import artifact
from sepnet.cli.devices import check_devices
from sepnet.data.dataset import MixtureData
from sepnet.engines import EngineSettings
from sepnet.inference.pipeline import PipelineSettings
from sepnet.ranges import NameOrPath, Node, NonNegativeInt, PathOrUrl, PathSetting, PositiveInt
from sepnet.settings import FLAT
from sepnet.types import SepnetError
from sepnet.urls import path_or_url

RUN = "run"  # in the list of separators: the run of ckpt
Measure = Literal[
    "si_sdr", "sdr", "snr", "sd_sdr", "pesq", "stoi", "estoi", "dnsmos", "dnsmos_speech", "dnsmos_background"
]


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
    out: PathOrUrl | None
    workers: EngineSettings = field(metadata=FLAT)
    pipeline: PipelineSettings = field(metadata=FLAT)

    def __post_init__(self) -> None:
        check_devices(self.workers, self.pipeline)

    def trained_run(self) -> Path | None:
        """Find the run that takes part or whose data is used; None if neither is the case.

        Raises:
            SepnetError: ``ckpt`` names a run where neither is the case, or there is no such run.
        """
        if RUN not in self.separators and self.data is not None:
            if self.ckpt is not None:
                raise SepnetError(
                    f"ckpt={self.ckpt} is not used, as data is given and the separators are "
                    f"{', '.join(map(str, self.separators))}: name run in separators, or leave ckpt out"
                )
            return None
        return artifact.newest_run(self.runs) if self.ckpt is None else artifact.resolve(self.ckpt).path

    def names(self, trained: Path | None) -> list[str | Path]:
        """List the separators, with the trained run in the place of ``run``."""
        return [trained if name == RUN and trained is not None else name for name in self.separators]

    def data_set(self, trained: Path | None) -> MixtureData:
        """Build the data set of ``data``, or else the one that the run was trained on.

        Raises:
            SepnetError: The run does not say what it was trained on, or the settings cannot be used.
        """
        node = self.data
        if node is None:
            assert trained is not None
            node = artifact.read_settings(artifact.run_folder(trained)).get("data")
            if node is None:
                raise SepnetError(f"{trained} does not say what it was trained on: give data=")
        data: MixtureData = artifact.build(node, key="data")
        return data

    def results_place(self, trained: Path | None, fingerprint: str) -> Path | str:
        """Choose where the results go: ``out``, a path or a URL, or a folder of the run for this data.

        Raises:
            SepnetError: ``out`` is not given, and no run takes part.
        """
        if self.out is not None:
            return path_or_url(self.out)
        if trained is None:
            raise SepnetError("no run takes part, so the results need a folder: give out=results")
        return artifact.run_folder(trained) / f"evaluation-{fingerprint[:8]}"
