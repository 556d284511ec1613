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

DIGITS = 16  # of a digest, in a version
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
    source = artifact.resolve(name_or_folder)
    config = json.dumps(artifact.describe(name_or_folder))
    sha1 = source.weights_sha1()
    if sha1 is None:
        version = f"{SETTINGS}{hashlib.sha1(config.encode()).hexdigest()[:DIGITS]}"
    else:
        version = sha1[:DIGITS]
        config += _training(source.folder)
    return Contender(source.label, partial(artifact.load, name_or_folder), version, config)


def without_time(name: str) -> str:
    """The name of a run folder without the time that it begins with."""
    return START_TIME.sub("", name)


def _training(folder: Path) -> str:
    """On what data, and with which commit, the weights of a run folder were trained; empty if unknown."""
    record = folder / artifact.PROVENANCE
    if not record.is_file():
        return ""
    origin = json.loads(record.read_text())
    return f", trained on data {origin.get('data_fingerprint')} at commit {origin.get('git_commit')}"
