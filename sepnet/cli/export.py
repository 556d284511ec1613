"""``sepnet export model=pit-2spk-8k out=pit.onnx``: a trained model as a file for other programs."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from sepnet import artifact
from sepnet.cli import app
from sepnet.export import Exported, export
from sepnet.export.formats import SUFFIXES
from sepnet.types import SepnetError


def main() -> None:
    """The command line."""
    app.run(write, "export")


def write(config: DictConfig) -> None:
    """Write a file, compare it with the model, and print the largest deviation.

    Args:
        config: conf/export.yaml with the overrides of the command line.

    Raises:
        SepnetError: A setting can't be used, the model can't be exported, or the file can't be written or
            deviates from the model.
    """
    app.require_all(config)
    out = Path(config.out)
    if config.format is not None:
        suffixes = {file_format: suffix for suffix, file_format in SUFFIXES.items()}
        if config.format not in suffixes:
            raise SepnetError(f"there is no format {config.format!r}: there are {' and '.join(suffixes)}")
        if out.suffix.lower() != suffixes[config.format]:
            raise SepnetError(
                f"out={out} has another suffix than format={config.format}: name it "
                f"{out.stem}{suffixes[config.format]}"
            )
    separator = artifact.load(config.model)
    exported = export(
        separator,
        out,
        name=Path(config.model).name,
        config=artifact.describe(config.model),
        head=config.head,
        step=config.step,
        overwrite=config.overwrite,
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
