"""python scripts/eval.py: scores separators on a test set, or joins earlier results; writes the report."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from sepnet import artifact
from sepnet.cli import app
from sepnet.data.dataset import MixtureData
from sepnet.evaluation import Contender, evaluate
from sepnet.evaluation.join import join
from sepnet.evaluation.listening import listening
from sepnet.evaluation.provenance import SETTINGS
from sepnet.evaluation.scoring import DEFAULT_MEASURES
from sepnet.types import SepnetError

STARTED = re.compile(r"^\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-(?=.)")
RUN = "run"  # stands for the run of ckpt in the list of separators


def main() -> None:
    """The command line."""
    app.run(run, "eval")


def run(config: DictConfig) -> None:
    """Evaluate what the configuration describes. Raises SepnetError for what can't be."""
    app.require_all(config)
    if config.compare:
        if config.out is None:
            raise SepnetError("say where the joined results should go: out=compared")
        join([Path(path) for path in config.compare], Path(config.out))
        _show(Path(config.out))
        return
    needs_run = RUN in config.separators or config.get("data") is None
    trained = _trained(config) if needs_run else None
    test = _data(config, trained).test()
    if config.out is not None:
        folder = Path(config.out)
    elif trained is not None:
        folder = artifact.run_folder(trained) / f"evaluation-{test.fingerprint[:8]}"
    else:
        raise SepnetError("no run takes part, so say where the results should go: out=results")
    names = [trained if name == RUN and trained is not None else name for name in config.separators]
    contenders = _without_times([_contender(name) for name in names])
    try:
        evaluate(
            contenders,
            test,
            folder,
            n_processes=(os.cpu_count() or 1) if config.n_processes is None else config.n_processes,
            limit=config.limit,
            measures=_measures(config),
            costed=config.costed,
            retry_failed=config.retry_failed,
        )
    except KeyboardInterrupt:
        print(
            f"\nstopped; the rows so far are in {folder}, and the same command goes on from there",
            file=sys.stderr,
        )
        sys.exit(app.INTERRUPTED)
    _show(folder)
    if config.listen:
        print(f"hear each method: {listening(folder / 'rows.csv', contenders, test, config.listen)}")


def _show(folder: Path) -> None:
    """The first table of the report, and where the rest of it is."""
    lines = (folder / "report.md").read_text().splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith("|")), 0)
    table = "\n".join(takewhile(lambda line: line.startswith("|"), lines[start:]))
    print(table.replace("\\_", "_"))  # Markdown's escape says nothing on a terminal
    print(f"look and listen: {folder / 'report.html'}")


def _measures(config: DictConfig) -> tuple[str, ...]:
    """What is asked for; else what can be measured here."""
    if config.measures is not None:
        return tuple(config.measures)
    if find_spec("pesq") is not None:
        return DEFAULT_MEASURES
    print("PESQ is left out: it is not installed (pip install 'sepnet[pesq]')")
    return tuple(measure for measure in DEFAULT_MEASURES if measure != "pesq")


def _trained(config: DictConfig) -> Path:
    return artifact.locate(config.ckpt) if config.ckpt is not None else artifact.newest_run(Path(config.runs))


def _data(config: DictConfig, trained: Path | None) -> MixtureData:
    node = config.get("data")
    if node is None:
        assert trained is not None
        node = artifact.read_config(artifact.run_folder(trained)).data
    data: MixtureData = artifact.build(node)
    return data


def _contender(name_or_folder: str | Path) -> Contender:
    """A separator under a name that a table and a file can bear, with a digest of its weights.

    Without weights, of its settings: rows of one name are always made by one and the same method.
    """
    path = artifact.locate(name_or_folder)
    weights = path if path.is_file() else path / artifact.WEIGHTS
    config = _model_config(path)
    version = f"{SETTINGS}{_digest(config.encode())}" if config else ""
    if weights.is_file():
        version = _digest(weights.read_bytes())
        config += _training(path)
    name = f"{path.parent.parent.name}-{path.stem}" if path.is_file() else path.name
    if path != Path(name_or_folder) and path.parent != artifact.SHIPPED:  # of the hub, kept under its commit
        name = str(name_or_folder).replace("/", "-")
    load = partial(artifact.load, name_or_folder)
    return Contender(name=name or str(name_or_folder), load=load, version=version, config=config)


def _without_times(contenders: list[Contender]) -> list[Contender]:
    """Runs under the names behind the times that their folders begin with, where these tell them apart."""
    names = [strip_time(contender.name) for contender in contenders]
    if len(set(names)) < len(names):
        return contenders
    return [replace(contender, name=name) for contender, name in zip(contenders, names, strict=True)]


def strip_time(name: str) -> str:
    """The name of a run folder behind the time that it begins with."""
    return STARTED.sub("", name)


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()[:16]


def _model_config(path: Path) -> str:
    """The constructor call of a run folder, a checkpoint in one, or a name in conf/model; else nothing."""
    named = artifact.config_folder() / "model" / f"{path}.yaml"
    if named.is_file() and not (path / artifact.CONFIG).is_file():
        node = OmegaConf.load(named)
    elif path.exists():
        node = artifact.read_config(artifact.run_folder(path)).model
    else:
        return ""  # loading it will say what is wrong
    return json.dumps(OmegaConf.to_container(node))


def _training(path: Path) -> str:
    """On what, and with which sepnet, the weights of a run folder were trained; or nothing."""
    record = artifact.run_folder(path) / artifact.PROVENANCE
    if not record.is_file():
        return ""
    told = json.loads(record.read_text())
    return f", trained on data {told.get('data_fingerprint')} at commit {told.get('git_commit')}"
