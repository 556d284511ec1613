"""Find the contenders of an evaluation by the names on a command line."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sepnet import artifact
from sepnet.evaluation.contender import Contender
from sepnet.evaluation.provenance import SETTINGS

VERSION_DIGITS = 16  # of a digest
START_TIME = re.compile(r"^\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-(?=.)")


def contenders(names: Sequence[str | Path]) -> list[Contender]:
    """Find the separators that take part in an evaluation.

    Args:
        names: Files of conf/model, shipped weights, run folders, checkpoints in them, or models on the hub.

    Returns:
        A contender for each name. The time at which the names of run folders begin is left out, unless two
        contenders would then have the same name.

    Raises:
        SepnetError: Nothing has one of the names.
    """
    resolved = [contender(name) for name in names]
    short_names = [without_time(entry.name) for entry in resolved]
    if len(set(short_names)) < len(short_names):
        return resolved
    return [replace(entry, name=name) for entry, name in zip(resolved, short_names, strict=True)]


def contender(name_or_folder: str | Path) -> Contender:
    """Find one contender.

    Args:
        name_or_folder: As for ``contenders``.

    Returns:
        The contender. Its name is fit for tables and file names. Its version is a digest of its weights, or
        without weights of its settings, so that rows of two versions are never mixed.

    Raises:
        SepnetError: Nothing has this name.
    """
    source = artifact.resolve(name_or_folder)
    config = json.dumps(artifact.describe(source))
    sha1 = source.weights_sha1()
    if sha1 is None:
        version = f"{SETTINGS}{hashlib.sha1(config.encode()).hexdigest()[:VERSION_DIGITS]}"
    else:
        version = sha1[:VERSION_DIGITS]
        config += _training(source.provenance())
    # What is part of sepnet, or on the hub, lies elsewhere on another machine: it is found by its name there.
    shared = source.shared_path
    load = partial(artifact.load, source if source.path == shared else source.name)
    return Contender(source.label, load, version, config, shared)


def without_time(name: str) -> str:
    """Return the name of a run folder without the time at its beginning."""
    return START_TIME.sub("", name)


def _training(provenance: Mapping[str, Any]) -> str:
    """On which data, and with which commit, weights were trained, or who published them; empty if unknown."""
    if not provenance:
        return ""
    if published := provenance.get("published"):
        return f", weights of {published['name']} ({published['toolkit']}), licence: {published['licence']}"
    return f", trained on data {provenance.get('data_fingerprint')} at commit {provenance.get('git_commit')}"
