"""The one lookup of model names, used by every command.

A name is tried as, in this order: a checkpoint, a run folder, shipped weights, a file of conf/model, a folder
of another toolkit, and owner/name on the Hugging Face hub.
"""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from sepnet import paths
from sepnet.artifact import formats, hub
from sepnet.artifact.build import shorten
from sepnet.paths import CONFIG, DEFAULT, METRICS, PROVENANCE, RUNS, WEIGHTS, config_folder, expand_home
from sepnet.stored import read_json
from sepnet.types import SepnetError


class SourceKind(Enum):
    """The kinds of places that a model can come from."""

    CHECKPOINT = "checkpoint"
    RUN = "run folder"
    SHIPPED = "shipped weights"
    SETTINGS = "file of conf/model"
    FOREIGN = "folder of another toolkit"
    HUB = "Hugging Face hub"


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from.

    Attributes:
        name: The name that was resolved, as the user wrote it.
        kind: What the name turned out to be.
        path: The checkpoint, the run folder (of another toolkit's model: that which it was converted to), or
            the file of conf/model.
    """

    name: str
    kind: SourceKind
    path: Path

    @property
    def is_trained(self) -> bool:
        """Whether the model was trained, and so has a run folder."""
        return self.kind is not SourceKind.SETTINGS

    @property
    def label(self) -> str:
        """A short name for tables and file names, without slashes."""
        if self.kind is SourceKind.CHECKPOINT:
            return f"{self.path.parent.parent.name}-{self.path.stem}"
        if self.kind is SourceKind.RUN:
            return self.path.name or paths.real(self.path).name
        if self.kind is SourceKind.FOREIGN:
            return paths.real(self.name).name
        return self.name.replace("/", "-")

    @property
    def shared_path(self) -> Path | None:
        """What other machines need at the same path; None for a model of sepnet's own or of the hub."""
        if self.kind in (SourceKind.CHECKPOINT, SourceKind.RUN):
            return self.path
        return Path(self.name) if self.kind is SourceKind.FOREIGN else None

    @property
    def folder(self) -> Path:
        """The run folder of a trained model.

        Raises:
            SepnetError: The model is not trained.
        """
        if not self.is_trained:
            raise SepnetError(f"{self.name} is a file of conf/model, which has no weights: name a run folder")
        return run_folder(self.path)

    @property
    def weights(self) -> Path | None:
        """The file of the weights; None for a model without weights, or before they are first written."""
        file = self.path if self.kind is SourceKind.CHECKPOINT else self.path / WEIGHTS
        return file if self.is_trained and file.is_file() else None

    def weights_sha1(self) -> str | None:
        """Compute the SHA-1 of the file of the weights; None if there is no such file."""
        if self.weights is None:
            return None
        with self.weights.open("rb") as stream:
            return hashlib.file_digest(stream, "sha1").hexdigest()

    def provenance(self) -> dict[str, Any]:
        """Read with what, and on which data, the weights were trained; empty if that is not recorded.

        Raises:
            SepnetError: The model is not trained, or the file of its provenance is damaged.
        """
        return _read_json(self.folder / PROVENANCE)


def resolve(name: str | Path) -> ModelSource:
    """Find the model that a name means.

    Args:
        name: A run folder, a checkpoint in one, shipped weights, a file of conf/model, or owner/name on the
            hub, from which it is downloaded once.

    Returns:
        Where the model comes from.

    Raises:
        SepnetError: Nothing has this name (the message offers the nearest name), or it is a checkpoint that
            does not exist or lies in no run folder.
    """
    text, path = str(name), _checked_path(name)
    settings_files = {file.stem: file for file in (config_folder() / "model").glob("*.yaml")}
    if path.suffix == ".ckpt":
        if not path.is_file():
            raise SepnetError(f"there is no checkpoint {path}: name one that exists, or a run folder")
        run_folder(path)
        return ModelSource(text, SourceKind.CHECKPOINT, path)
    if folder := paths.local_run_folder(name):
        return ModelSource(text, SourceKind.SHIPPED if folder != path else SourceKind.RUN, folder)
    if text in settings_files:
        return ModelSource(text, SourceKind.SETTINGS, settings_files[text])
    if path.is_dir():
        return ModelSource(text, SourceKind.FOREIGN, _foreign_folder(path, text))
    if not path.exists() and hub.is_possible_name(text):
        fetched = hub.fetch(text)
        folder = fetched if (fetched / CONFIG).is_file() else _foreign_folder(fetched, text)
        return ModelSource(text, SourceKind.HUB, folder)
    known = [*shipped(), *sorted(settings_files)]
    nearest = difflib.get_close_matches(text, known, 1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"there are {', '.join(known)}"
    raise SepnetError(f"no run folder and no model is called {text!r}: {hint}")


def _checked_path(name: object) -> Path:
    """The path that a name may be. Raises SepnetError for what is no name."""
    if not isinstance(name, str | Path) or not str(name).strip():
        raise SepnetError(f"{name!r} is no name of a model: give a name, or the path of a run folder")
    try:
        path = expand_home(name)
        path.exists()
    except (OSError, ValueError) as error:  # too long, a null character
        reason = getattr(error, "strerror", None) or error
        raise SepnetError(f"{shorten(repr(name))[:100]} can't be the name of a model ({reason})") from error
    return path


def _foreign_folder(folder: Path, name: str) -> Path:
    """Convert the folder of another toolkit to a run folder. Raise SepnetError if no reader knows it."""
    if formats.is_published(folder):
        return formats.converted(folder, name)
    try:
        files = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise SepnetError(f"{folder} can't be read: {error.strerror}") from error
    raise SepnetError(
        f"{name} is no run folder and no model of another toolkit: it holds "
        f"{', '.join(files[:5]) or 'no files'}, but neither {CONFIG} (sepnet) nor {formats.wanted()}"
    )


def run_folder(path: str | Path) -> Path:
    """Find the run folder that a run folder or a checkpoint belongs to.

    Args:
        path: A run folder, or a checkpoint in it or in its folder of checkpoints.

    Returns:
        The run folder.

    Raises:
        SepnetError: Neither the path nor the two folders above it are a run folder.
    """
    for folder in (Path(path), *Path(path).parents[:2]):
        if (folder / CONFIG).is_file():
            return folder
    raise SepnetError(f"{path} is no run folder, and no checkpoint in one: {CONFIG} is not there")


def shipped() -> list[str]:
    """List the names of the separators whose weights are part of the package."""
    return [name for name in paths.shipped_names() if is_separator(paths.SHIPPED / name)]


def is_separator(folder: Path) -> bool:
    """Tell whether a run folder holds a separator; if not, it holds a part of one, such as a tagger.

    Only a part has a score of its own, which is named ``score`` in its metrics.

    Raises:
        SepnetError: The file of the metrics is damaged.
    """
    return "score" not in _read_json(folder / METRICS)


def preferred(runs: Path = RUNS) -> Path:
    """Choose the model for a command that names none: the newest run, or without runs the shipped default.

    Args:
        runs: The folder of the run folders.

    Returns:
        A run folder.
    """
    return newest_run(runs) if _runs(runs) else paths.SHIPPED / DEFAULT


def newest_run(runs: Path = RUNS) -> Path:
    """Find the separator with the newest weights.

    Args:
        runs: The folder of the run folders.

    Returns:
        Its run folder.

    Raises:
        SepnetError: No run folder has weights.
    """
    folders = _runs(runs)
    if not folders:
        raise SepnetError(f"no run with weights lies under {paths.real(runs)}: train one, or name a folder")
    return folders[-1]


def _runs(runs: Path) -> list[Path]:
    """The run folders of separators that have weights, the newest last."""
    files = sorted(runs.glob(f"*/{WEIGHTS}"), key=lambda path: path.stat().st_mtime)
    return [path.parent for path in files if is_separator(path.parent)]


def _read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file, empty if there is no such file. Raises SepnetError for a damaged one."""
    return dict(read_json(path)) if path.exists() else {}
