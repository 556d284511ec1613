"""python scripts/eval.py: scores separators on a test set, or joins earlier results; writes the report."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from omegaconf import DictConfig

from sepnet import artifact
from sepnet.cli import app
from sepnet.data.dataset import MixtureData
from sepnet.evaluation import evaluate
from sepnet.evaluation.contenders import contenders
from sepnet.evaluation.join import join
from sepnet.evaluation.listening import listening
from sepnet.evaluation.publish import terminal_table
from sepnet.evaluation.scoring import available_measures
from sepnet.inference.pipeline import PipelineSettings
from sepnet.types import SepnetError

PIPELINE = ("chunk_seconds", "overlap_seconds", "full_band", "consistent")  # settings shared with separate.py
RUN = "run"  # in the list of separators: the run of ckpt


def main() -> None:
    """Run the command line."""
    app.run(run, "eval")


def run(config: DictConfig) -> None:
    """Evaluate what the configuration describes.

    Raises:
        SepnetError: A setting, a name or a file cannot be used.
    """
    app.require_all(config)
    if config.compare:
        if config.out is None:
            raise SepnetError("the joined results need a folder: give out=compared")
        join([Path(path) for path in config.compare], Path(config.out))
        _show(Path(config.out))
        return
    settings = PipelineSettings.from_mapping({name: config[name] for name in PIPELINE})
    needs_run = RUN in config.separators or config.get("data") is None
    trained = _trained(config) if needs_run else None
    names = [trained if name == RUN and trained is not None else name for name in config.separators]
    taking_part = contenders(names)
    test = _data(config, trained).test()
    folder = _folder(config, trained, test.fingerprint)
    try:
        evaluate(
            taking_part,
            test,
            folder,
            n_processes=(os.cpu_count() or 1) if config.n_processes is None else config.n_processes,
            limit=config.limit,
            measures=available_measures() if config.measures is None else tuple(config.measures),
            cost_mixtures=config.cost_mixtures,
            retry_failed=config.retry_failed,
            settings=settings,
        )
    except KeyboardInterrupt:
        print(
            f"\nstopped; the rows so far are in {folder}, and the same command goes on from there",
            file=sys.stderr,
        )
        sys.exit(app.INTERRUPTED)
    _show(folder)
    if config.listen:
        print(f"listen to each method: {listening(folder / 'rows.csv', taking_part, test, config.listen)}")


def _folder(config: DictConfig, trained: Path | None, fingerprint: str) -> Path:
    if config.out is not None:
        return Path(config.out)
    if trained is None:
        raise SepnetError("no run takes part, so the results need a folder: give out=results")
    return artifact.run_folder(trained) / f"evaluation-{fingerprint[:8]}"


def _show(folder: Path) -> None:
    print(terminal_table(folder))
    print(f"look and listen: {folder / 'report.html'}")


def _trained(config: DictConfig) -> Path:
    return (
        artifact.resolve(config.ckpt).path
        if config.ckpt is not None
        else artifact.newest_run(Path(config.runs))
    )


def _data(config: DictConfig, trained: Path | None) -> MixtureData:
    node = config.get("data")
    if node is None:
        assert trained is not None
        node = artifact.read_config(artifact.run_folder(trained)).get("data")
        if node is None:
            raise SepnetError(f"{trained} does not say what it was trained on: give data=")
    data: MixtureData = artifact.build(node)
    return data
