"""From the names on a command line to the contenders of an evaluation."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from sepnet import artifact
from sepnet.evaluation.contender import Contender
from sepnet.evaluation.provenance import SETTINGS

START_TIME = re.compile(r"^\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-(?=.)")


def contenders(names: Sequence[str | Path]) -> list[Contender]:
    """Find what takes part in an evaluation.

    Args:
        names: Files of conf/model, shipped weights, run folders, checkpoints in them, or models on the hub.

    Returns:
        A contender for each name. Run folders lose the time that their names begin with, unless two
        contenders would then have the same name.

    Raises:
        SepnetError: There is nothing of one of the names.
    """
    found = [contender(name) for name in names]
    short = [without_time(each.name) for each in found]
    if len(set(short)) < len(short):
        return found
    return [replace(each, name=name) for each, name in zip(found, short, strict=True)]


def contender(name_or_folder: str | Path) -> Contender:
    """Find one contender, under a name that a table and a file can bear.

    Its version is a digest of its weights, or of its settings where it has none, so that all rows of one name
    are made by one and the same method.

    Raises:
        SepnetError: There is nothing of this name.
    """
    path = artifact.locate(name_or_folder)
    _check_exists(name_or_folder, path)
    config = json.dumps(artifact.describe(name_or_folder))
    weights = path if path.is_file() else path / artifact.WEIGHTS
    if weights.is_file():
        version = _digest(weights.read_bytes())
        config += _training(path)
    else:
        version = f"{SETTINGS}{_digest(config.encode())}"
    name = f"{path.parent.parent.name}-{path.stem}" if path.is_file() else path.name
    if (
        path != Path(name_or_folder) and path.parent != artifact.SHIPPED
    ):  # from the hub, kept under its commit
        name = str(name_or_folder).replace("/", "-")
    return Contender(name, partial(artifact.load, name_or_folder), version, config)


def without_time(name: str) -> str:
    """The name of a run folder without the time that it begins with."""
    return START_TIME.sub("", name)


def _check_exists(name_or_folder: str | Path, path: Path) -> None:
    model = artifact.config_folder() / "model" / f"{name_or_folder}.yaml"
    if not (path.suffix == ".ckpt" or (path / artifact.CONFIG).is_file() or model.is_file()):
        artifact.load(name_or_folder)  # refuses the name, and offers the nearest


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()[:16]


def _training(path: Path) -> str:
    """On what data, and with which commit, the weights of a run folder were trained; empty if unknown."""
    record = artifact.run_folder(path) / artifact.PROVENANCE
    if not record.is_file():
        return ""
    origin = json.loads(record.read_text())
    return f", trained on data {origin.get('data_fingerprint')} at commit {origin.get('git_commit')}"
