"""provenance.json, beside rows.csv: the data, the settings, the software and the machines of its rows.

``data_fingerprint, mixtures, measures``: of the test set and of all rows
``pipeline``: settings of the pipeline around each separator, the same for all rows
``versions, configs``: of each contender that has them
``joined``: the files whose rows were joined, if any
``runs``: software and hardware, for each time that the evaluation was started or continued
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NotRequired

from pydantic import ConfigDict
from typing_extensions import TypedDict

from sepnet import artifact
from sepnet.atomic import write_text
from sepnet.evaluation.contender import Contender
from sepnet.inference.pipeline import PipelineSettings
from sepnet.settings import parse
from sepnet.stored import read_json
from sepnet.types import Mixtures, NamedMixtures, SepnetError

SETTINGS = "settings-"  # the beginning of the version of a contender without weights


DEVICES = {"cpu": "the CPU", "cuda": "a GPU"}


class Run(TypedDict):
    """What is read of the software and the hardware of a run; it has more."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    git_commit: str | None
    packages: dict[str, str]
    cpu: str
    cpus: int


class Provenance(TypedDict):
    """The content of provenance.json."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    data_fingerprint: str
    mixtures: int
    measures: list[str]
    pipeline: NotRequired[dict[str, Any]]
    versions: dict[str, str]
    configs: NotRequired[dict[str, Any]]
    joined: NotRequired[list[str]]
    runs: list[Run]


def beside(rows_csv: Path) -> Path:
    """Return the path of the provenance of ``rows_csv``."""
    return rows_csv.with_name("provenance.json")


def read(rows_csv: Path) -> dict[str, Any]:
    """Read the provenance of ``rows_csv``; empty if it has none.

    Raises:
        SepnetError: It is damaged.
    """
    path = beside(rows_csv)
    return dict(read_json(path, Provenance)) if path.exists() else {}


def check(
    rows_csv: Path,
    contenders: Sequence[Contender],
    mixtures: Mixtures,
    measures: Sequence[str],
    settings: PipelineSettings,
) -> None:
    """Refuse a run whose rows must not be mixed with those in the file.

    Args:
        rows_csv: The rows of the evaluation; the file need not exist.
        contenders: The contenders of the run.
        mixtures: The test set of the run.
        measures: The measures of the run.
        settings: The pipeline settings of the run.

    Raises:
        SepnetError: The file was made from other data, with other measures or settings, or with another
            version of a contender.
    """
    if not rows_csv.exists() or rows_csv.stat().st_size == 0:
        return
    before = read(rows_csv)
    remedy = "give another folder, or delete this one to start again"
    if not before:
        raise SepnetError(f"{rows_csv} has no provenance.json beside it, so its data are unknown: {remedy}")
    if before["data_fingerprint"] != mixtures.fingerprint:
        raise SepnetError(
            f"{rows_csv} was made from other data (fingerprint {before['data_fingerprint']}, "
            f"but now {mixtures.fingerprint}): {remedy}"
        )
    if before["measures"] != list(measures):
        raise SepnetError(
            f"{rows_csv} holds the measures {', '.join(before['measures'])}, but now it is "
            f"{', '.join(measures)}: {remedy}"
        )
    if differing := differing_settings(before, asdict(settings)):
        raise SepnetError(f"{rows_csv} was made with {differing}: {remedy}")
    for contender in contenders:
        version = before["versions"].get(contender.name, "")
        if version and contender.version and version != contender.version:
            raise SepnetError(
                f"{rows_csv} holds rows of {contender.name} in version {version!r}, but now it is "
                f"{contender.version!r}: give it another name, or {remedy}"
            )


def pipeline_settings(rows_csv: Path) -> PipelineSettings:
    """Read the settings of the pipeline with which the rows were made."""
    return parse(PipelineSettings, read(rows_csv)["pipeline"])


def differing_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """List the settings of the pipeline that differ from those in a provenance.

    Args:
        before: The provenance.
        now: The settings to compare.

    Returns:
        The differences in words; empty if there are none.
    """
    previous = before.get("pipeline", {})
    return " and ".join(
        f"{name}={previous.get(name)}, but now it is {name}={value}"
        for name, value in now.items()
        if previous.get(name) != value
    )


def record(
    rows_csv: Path,
    contenders: Sequence[Contender],
    mixtures: Mixtures,
    measures: Sequence[str],
    settings: PipelineSettings,
    n_processes: int,
) -> None:
    """Add a run to the provenance of ``rows_csv``.

    Args:
        rows_csv: The rows of the evaluation.
        contenders: The contenders of the run.
        mixtures: The test set of the run.
        measures: The measures of the run.
        settings: The pipeline settings of the run.
        n_processes: The number of its processes.
    """
    resumed = rows_csv.exists() and rows_csv.stat().st_size > 0
    before = read(rows_csv) if resumed else {}
    versions = {contender.name: contender.version for contender in contenders}
    configs = {contender.name: contender.config for contender in contenders if contender.config}
    content = {
        "data_fingerprint": mixtures.fingerprint,
        "test_set": mixtures.name if isinstance(mixtures, NamedMixtures) else None,
        "mixtures": len(mixtures),
        "measures": list(measures),
        "pipeline": asdict(settings),
        "versions": {**before.get("versions", {}), **versions},
        "configs": {**before.get("configs", {}), **configs},
        "runs": [*before.get("runs", ()), run_environment(n_processes)],
    }
    write(rows_csv, content)


def write(rows_csv: Path, content: Mapping[str, Any]) -> None:
    """Replace the provenance of ``rows_csv``; if this is interrupted, the old one stays."""
    write_text(beside(rows_csv), json.dumps(content, indent=2) + "\n")


def run_environment(n_processes: int) -> dict[str, Any]:
    """Describe the software and the hardware of a run, and how many processes and threads it uses."""
    environment = artifact.describe_environment()
    del environment["threads"]  # of this process, which computes nothing
    return {**environment, "processes": n_processes, "threads_per_process": 1}


def in_a_line(content: Mapping[str, Any]) -> str:
    """Describe the origin of a table in a line: data, software, machines and weights."""
    if not content:
        return "The origin is unknown: there is no provenance.json beside the rows."
    runs = content["runs"]
    commits = {_commit(run["git_commit"]) for run in runs}
    torch = {f"torch {run['packages']['torch']}" for run in runs if "torch" in run["packages"]}
    machines = {f"{run['cpu']}, {run['cpus']} cores" for run in runs}
    weights = {name: version for name, version in content["versions"].items() if version}
    trained = [f"{name} {v[:12]}" for name, v in weights.items() if not v.startswith(SETTINGS)]
    parts = [f"Data {content['data_fingerprint']}", f"commit {' and '.join(sorted(commits))}"]
    parts += [" and ".join(sorted(some)) for some in (torch, machines) if some]
    parts += [f"weights: {', '.join(trained)}"] if trained else []
    return "; ".join(parts) + "."


def pipeline_in_words(settings: Mapping[str, Any] | None) -> str:
    """Describe the settings of the pipeline around each separator."""
    if not settings:
        return "unknown"
    band = "estimates share" if settings["full_band"] else "estimates are without"
    total = "sum to the mixture" if settings["consistent"] else "need not sum to the mixture"
    return (
        f"chunks of {settings['chunk_seconds']:g} s that overlap by {settings['overlap_seconds']:g} s; "
        f"{band} the band above a model's own; estimates {total}; networks on {DEVICES[settings['device']]}"
    )


def _commit(name: str | None) -> str:
    """A short name of a commit, with what follows its digits."""
    return f"{name[:12]}{name[40:]}" if name else "unknown"
