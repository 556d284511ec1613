"""provenance.json, beside rows.csv: on which data, with which software, on which machine it was made.

``data_fingerprint, mixtures, measures``: what every row of the file has in common.
``versions, configs``: the version and the configuration of each contender that gave one. ``joined``: the
files that were put together, if they were. ``runs``: software and hardware, once for each
time that the evaluation was started or went on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sepnet.evaluation.contender import Contender
from sepnet.types import Mixtures, SepnetError

SETTINGS = "settings-"  # how the version of a contender begins that has no weights


def beside(rows_csv: Path) -> Path:
    """Where the provenance of ``rows_csv`` lies."""
    return rows_csv.with_name("provenance.json")


def read(rows_csv: Path) -> dict[str, Any]:
    """The provenance of ``rows_csv``; empty if it has none."""
    path = beside(rows_csv)
    return json.loads(path.read_text()) if path.exists() else {}


def check(
    rows_csv: Path, contenders: Sequence[Contender], mixtures: Mixtures, measures: Sequence[str]
) -> None:
    """Raises SepnetError unless rows of this run can stand in one file with those that are there."""
    if not rows_csv.exists() or rows_csv.stat().st_size == 0:
        return
    before = read(rows_csv)
    otherwise = "give another folder, or delete this one to begin anew"
    if not before:
        raise SepnetError(
            f"{rows_csv} has no provenance.json beside it, so its data are unknown: {otherwise}"
        )
    if before["data_fingerprint"] != mixtures.fingerprint:
        raise SepnetError(
            f"{rows_csv} was measured on other data (fingerprint {before['data_fingerprint']}, "
            f"but now {mixtures.fingerprint}): {otherwise}"
        )
    if before["measures"] != list(measures):
        raise SepnetError(
            f"{rows_csv} holds the measures {', '.join(before['measures'])}, but now it is "
            f"{', '.join(measures)}: {otherwise}"
        )
    for contender in contenders:
        version = before["versions"].get(contender.name, "")
        if version and contender.version and version != contender.version:
            raise SepnetError(
                f"{rows_csv} holds rows of {contender.name} in version {version!r}, but now it is "
                f"{contender.version!r}: give it another name, or {otherwise}"
            )


def record(
    rows_csv: Path,
    contenders: Sequence[Contender],
    mixtures: Mixtures,
    measures: Sequence[str],
    n_processes: int,
) -> None:
    """Write down this run, after those that the file holds already."""
    resumed = rows_csv.exists() and rows_csv.stat().st_size > 0
    before = read(rows_csv) if resumed else {}
    versions = {contender.name: contender.version for contender in contenders}
    configs = {contender.name: contender.config for contender in contenders if contender.config}
    content = {
        "data_fingerprint": mixtures.fingerprint,
        "mixtures": len(mixtures),
        "measures": list(measures),
        "versions": {**before.get("versions", {}), **versions},
        "configs": {**before.get("configs", {}), **configs},
        "runs": [*before.get("runs", ()), surroundings(n_processes)],
    }
    write(rows_csv, content)


def write(rows_csv: Path, content: Mapping[str, Any]) -> None:
    """Write the provenance of ``rows_csv``, whole or not at all."""
    path = beside(rows_csv)
    draft = path.with_suffix(".json.draft")
    draft.write_text(json.dumps(content, indent=2) + "\n")
    draft.replace(path)


def surroundings(n_processes: int) -> dict[str, Any]:
    """The software and the hardware of this moment, and how the run uses them."""
    # Not at the top: the processes of a run import this module, and have no use for hydra.
    from sepnet import artifact

    found = artifact.surroundings()
    del found["threads"]  # of this process, which computes nothing
    return {**found, "processes": n_processes, "threads_per_process": 1}
