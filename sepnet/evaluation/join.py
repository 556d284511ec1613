"""Join the rows of several evaluations of the same mixtures."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sepnet.atomic import replacing_folder
from sepnet.evaluation import provenance, rows
from sepnet.evaluation.report import report
from sepnet.evaluation.rows import Row
from sepnet.paths import real
from sepnet.types import SepnetError

ROWS = "rows.csv"


def join(files: Sequence[Path], folder: Path) -> Path:
    """Write the rows of several evaluations, their examples and a report into one folder.

    Args:
        files: Each a rows.csv, or its folder. A pair of separator and mixture in several files is taken from
            the first of them. Measures that a file lacks are undefined in its rows.
        folder: The folder of the results; those of an earlier join are replaced.

    Returns:
        The path of report.html.

    Raises:
        SepnetError: A file is missing or has no provenance; files have different data, pipeline settings, or
            versions of a contender; or the folder contains an evaluation that is no join.
    """
    sources = [path / ROWS if path.is_dir() else path for path in map(Path, files)]
    target = Path(folder) / ROWS
    _check_target(target, sources)
    origins = [_origin(path) for path in sources]
    _check_data(sources, origins)
    _check_settings(sources, origins)
    _check_versions(sources, origins)
    joined: dict[tuple[str, str], list[Row]] = {}
    for path in sources:
        of_file: dict[tuple[str, str], list[Row]] = {}
        for row in rows.read(path):
            of_file.setdefault((row.separator, row.mixture_id), []).append(row)
        joined |= {pair: own for pair, own in of_file.items() if pair not in joined}
    measures = tuple(dict.fromkeys(measure for path in sources for measure in rows.measures_of(path)))
    target.parent.mkdir(parents=True, exist_ok=True)
    provenance.write(target, _merged(sources, origins, measures))
    rows.replace(target, [row for own in joined.values() for row in own], measures)
    _copy_examples(sources, target.parent)
    return report(target)


def _check_target(target: Path, sources: Sequence[Path]) -> None:
    own = {real(path) for path in sources}
    if real(target) in own or (target.exists() and "joined" not in provenance.read(target)):
        raise SepnetError(
            f"{target.parent} contains an evaluation that is no join: give another folder, out=joined"
        )


def _origin(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise SepnetError(f"there is no file {path}: name the rows.csv of an evaluation, or its folder")
    origin = provenance.read(path)
    if not origin:
        raise SepnetError(f"{path} has no provenance.json beside it, so its data are unknown: evaluate again")
    return origin


def _check_data(sources: Sequence[Path], origins: Sequence[Mapping[str, Any]]) -> None:
    first = origins[0]["data_fingerprint"]
    for path, origin in zip(sources, origins, strict=True):
        if (other := origin["data_fingerprint"]) != first:
            raise SepnetError(
                f"{sources[0]} was made from data with the fingerprint {first}, but {path} from {other}: "
                "means over different mixtures cannot be compared"
            )


def _check_settings(sources: Sequence[Path], origins: Sequence[Mapping[str, Any]]) -> None:
    settings = origins[0].get("pipeline", {})
    for path, origin in zip(sources, origins, strict=True):
        if differing := provenance.differing_settings(origin, settings):
            raise SepnetError(
                f"{path} was made with other settings of the pipeline than {sources[0]} ({differing}): "
                "evaluate one of them again"
            )


def _check_versions(sources: Sequence[Path], origins: Sequence[Mapping[str, Any]]) -> None:
    first: dict[str, tuple[str, Path]] = {}
    for path, origin in zip(sources, origins, strict=True):
        for name, version in origin["versions"].items():
            before, first_path = first.setdefault(name, (version, path)) if version else (version, path)
            if before != version:
                raise SepnetError(
                    f"{name} is version {before!r} in {first_path}, but {version!r} in {path}: "
                    "evaluate one of them under another name"
                )


def _merged(
    sources: Sequence[Path], origins: Sequence[Mapping[str, Any]], measures: Sequence[str]
) -> dict[str, Any]:
    runs: list[Any] = []
    for run in (run for origin in origins for run in origin["runs"]):
        if run not in runs:
            runs.append(run)
    return {
        "data_fingerprint": origins[0]["data_fingerprint"],
        "mixtures": origins[0]["mixtures"],
        "measures": list(measures),
        "pipeline": origins[0].get("pipeline", {}),
        "versions": {name: version for origin in origins for name, version in origin["versions"].items()},
        "configs": {name: text for origin in origins for name, text in origin.get("configs", {}).items()},
        "joined": [str(path) for path in sources],
        "runs": runs,
    }


def _copy_examples(sources: Sequence[Path], folder: Path) -> None:
    """Replace the examples in a folder by those of the sources; of one method, the first are taken."""
    by_method: dict[str, Path] = {}
    for path in sources:
        for examples in sorted((path.parent / "examples").glob("*/")):
            by_method.setdefault(examples.name, examples)
    with replacing_folder(folder / "examples") as temporary:
        for name, examples in by_method.items():
            shutil.copytree(examples, temporary / name)
