"""What a name of a model means, for every command.

In this order: a run folder or a checkpoint in one; shipped weights; a file of conf/model; a model on the
Hugging Face hub, as owner/name.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from sepnet.artifact import hub, paths
from sepnet.artifact.build import shorten
from sepnet.artifact.paths import CONFIG, DEFAULT, METRICS, RUNS, WEIGHTS, config_folder
from sepnet.types import SepnetError


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from.

    Attributes:
        name: As it was given.
        path: A run folder, a checkpoint in one, or a file of conf/model.
        is_trained: Whether it has weights: a run folder or a checkpoint.
        label: A name that tables and files can have.
    """

    name: str
    path: Path
    is_trained: bool
    label: str

    @property
    def folder(self) -> Path:
        """The run folder of a trained model.

        Raises:
            SepnetError: It is not trained, or its checkpoint lies in no run folder.
        """
        return run_folder(self.path if self.is_trained else self.name)

    @property
    def weights(self) -> Path | None:
        """The file of the weights; None where there is none, or none yet."""
        file = self.path / WEIGHTS if self.path.is_dir() else self.path
        return file if self.is_trained and file.is_file() else None

    def weights_sha1(self) -> str | None:
        """The digest of the file of the weights; None where there is none."""
        if self.weights is None:
            return None
        with self.weights.open("rb") as stream:
            return hashlib.file_digest(stream, "sha1").hexdigest()


def resolve(name: str | Path) -> ModelSource:
    """Find what a name means.

    Args:
        name: A run folder, a checkpoint in one, shipped weights, a file of conf/model, or owner/name on the
            hub.

    Returns:
        Where the model comes from.

    Raises:
        SepnetError: There is nothing of the name; the nearest is offered.
    """
    text, path = str(name), Path(name)
    models = {file.stem: file for file in (config_folder() / "model").glob("*.yaml")}
    if path.suffix == ".ckpt":
        return ModelSource(text, path, True, f"{path.parent.parent.name}-{path.stem}")
    if (path / CONFIG).is_file():
        return ModelSource(text, path, True, path.name or path.resolve().name)
    if not path.exists() and text in _all_shipped():
        return ModelSource(text, paths.SHIPPED / text, True, text)
    if text in models:
        return ModelSource(text, models[text], False, text)
    if path.is_dir():
        raise SepnetError(f"{path} is no run folder: it has no {CONFIG}")
    if not path.exists() and hub.could_be_named(text):
        return ModelSource(text, hub.fetch(text), True, text.replace("/", "-"))
    known = [*shipped(), *sorted(models)]
    near = difflib.get_close_matches(text, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
    raise SepnetError(f"no run folder and no model is called {text!r}: {hint}")


def run_folder(path: str | Path) -> Path:
    """The run folder of a run folder or of a checkpoint in it. Raises SepnetError where there is none."""
    for folder in (Path(path), *Path(path).parents[:2]):
        if (folder / CONFIG).is_file():
            return folder
    raise SepnetError(f"{path} is no run folder, and no checkpoint in one: {CONFIG} is not there")


def shipped() -> list[str]:
    """The names of the separators whose weights come with the package."""
    return [name for name in _all_shipped() if separates(paths.SHIPPED / name)]


def separates(folder: Path) -> bool:
    """Whether a run folder holds a separator: a part of one, such as a tagger, has a score of its own."""
    path = folder / METRICS
    try:
        return "score" not in json.loads(path.read_text()) if path.is_file() else True
    except ValueError as error:
        raise SepnetError(f"{path} can't be read ({shorten(error)}): copy it again") from error


def preferred(runs: Path = RUNS) -> Path:
    """What separates where nothing is named: the newest run, or where there is none the shipped default."""
    return newest_run(runs) if _runs(runs) else paths.SHIPPED / DEFAULT


def newest_run(runs: Path = RUNS) -> Path:
    """The run folder of a separator with the newest weights. Raises SepnetError where there is none."""
    found = _runs(runs)
    if not found:
        raise SepnetError(f"no run with weights lies under {runs.resolve()}: train one, or name a folder")
    return found[-1]


def _all_shipped() -> list[str]:
    """The names of all weights that come with the package."""
    return sorted(path.parent.name for path in paths.SHIPPED.glob(f"*/{CONFIG}"))


def _runs(runs: Path) -> list[Path]:
    """The run folders of separators that have weights, the newest last."""
    found = sorted(runs.glob(f"*/{WEIGHTS}"), key=lambda path: path.stat().st_mtime)
    return [path.parent for path in found if separates(path.parent)]
