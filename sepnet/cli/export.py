"""``sepnet export model=pit-2spk-8k out=pit.onnx``: a trained model as a file for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from omegaconf import DictConfig

from sepnet import artifact
from sepnet.cli import app
from sepnet.export import Exported, export
from sepnet.export.formats import SUFFIXES
from sepnet.ranges import NameOrPath, PathSetting
from sepnet.types import SepnetError


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """The settings of conf/export.yaml."""

    model: NameOrPath
    out: PathSetting
    format: Literal["onnx", "torch"] | None
    head: bool
    step: bool
    overwrite: bool

    def __post_init__(self) -> None:
        suffixes = {file_format: suffix for suffix, file_format in SUFFIXES.items()}
        if self.format is not None and self.out.suffix.lower() != suffixes[self.format]:
            raise SepnetError(
                f"out={self.out} has another suffix than format={self.format}: name it "
                f"{self.out.stem}{suffixes[self.format]}"
            )


def main() -> None:
    """Run the command line."""
    app.run(write, "export", ExportSettings)


def write(config: DictConfig) -> None:
    """Write a file, compare it with the model, and print the largest deviation.

    Args:
        config: conf/export.yaml with the overrides of the command line.

    Raises:
        SepnetError: A setting can't be used, the model can't be exported, or the file can't be written or
            deviates from the model.
    """
    settings = app.parse(ExportSettings, config)
    separator = artifact.load(settings.model)
    exported = export(
        separator,
        settings.out,
        name=Path(settings.model).name,
        config=artifact.describe(settings.model),
        head=settings.head,
        step=settings.step,
        overwrite=settings.overwrite,
    )
    _print(exported)
    if separator.info.counts_sources and "n_sources" in separator.info.needs:
        print("the file returns all outputs of the model: use the loudest ones, as many as there are sources")


def _print(exported: Exported) -> None:
    metadata = exported.metadata
    print(
        f"{exported.path}: {exported.n_bytes / 1e6:.1f} MB, {metadata['sample_rate']} Hz, "
        f"{len(metadata['sources'])} sources ({', '.join(metadata['sources'])})"
    )
    if exported.deviation is None:
        print("not compared with the model, as onnxruntime is not installed: pip install 'sepnet[export]'")
        return
    lengths = ", ".join(str(n_samples) for n_samples in exported.deviation)
    print(f"largest deviation from the model: {max(exported.deviation.values()):.1e}, on {lengths} samples")
