"""``sepnet export``: a trained model as one file for other programs."""

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
    """Write one file, compare it with the model, and tell how far it is from it.

    Raises SepnetError for what can't be exported or written, and for a file that says something else.
    """
    app.require_all(config)
    out = Path(config.out)
    if config.format is not None:
        known = {kind: suffix for suffix, kind in SUFFIXES.items()}
        if config.format not in known:
            raise SepnetError(f"there is no format {config.format!r}: say {' or '.join(known)}")
        if out.suffix.lower() != known[config.format]:
            raise SepnetError(
                f"out={out} does not end as format={config.format} does: name it "
                f"{out.stem}{known[config.format]}"
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
    _tell(exported)
    if separator.info.counts_sources and "n_sources" in separator.info.needs:
        print("every output of the model is in the file: take the loudest, as many as there are sources")


def _tell(exported: Exported) -> None:
    told = exported.metadata
    print(
        f"{exported.path}: {exported.n_bytes / 1e6:.1f} MB, {told['sample_rate']} Hz, "
        f"{len(told['sources'])} sources ({', '.join(told['sources'])})"
    )
    if exported.deviation is None:
        print("not compared with the model, for onnxruntime is not installed: pip install 'sepnet[export]'")
        return
    lengths = ", ".join(str(n_samples) for n_samples in exported.deviation)
    print(f"at most {max(exported.deviation.values()):.1e} from the model, on {lengths} samples")
