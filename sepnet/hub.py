"""Run folders on the Hugging Face hub: by their name there, as by a folder here.

separator = sepnet.load("someone/their-separator")                 # fetched once, then kept
mine = sepnet.Pretrained.from_pretrained("runs/my-run")
mine.save_pretrained("a-folder"); mine.push_to_hub("me/my-separator")
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from sepnet.types import Mixture, Separation, SeparatorInfo, SepnetError

FILES = ("config.yaml", "model.safetensors", "metrics.json", "provenance.json", "README.md")
NAME = re.compile(r"[\w.-]+/[\w.-]+")


def could_be_named(name: str) -> bool:
    """Whether a name that is no path here may be one there: owner/name, and not in a folder that is here.

    Nor in runs, which need not be there yet.
    """
    parent = Path(name).parent
    return NAME.fullmatch(name) is not None and str(parent) != "runs" and not parent.exists()


def fetch(name: str, **options: Any) -> Path:
    """The folder that a model of the hub is kept in, fetched if it is not there or has changed.

    options: as for huggingface_hub.snapshot_download. Only a run folder's own files are fetched. Raises
    SepnetError where there is none of the name, and where the hub can't be reached.
    """
    try:
        return Path(snapshot_download(name, allow_patterns=list(FILES), **options))
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise SepnetError(
            f"{name!r} is no folder here and no model on the hub: look for a typing error (a private one "
            "needs `hf auth login`)"
        ) from error
    except (RevisionNotFoundError, HfHubHTTPError) as error:
        if isinstance(error, LocalEntryNotFoundError):
            raise _unreachable(name, error) from error
        raise SepnetError(
            f"the hub refuses {name!r} ({_root(error)}): look at the revision, or try later"
        ) from error
    except OSError as error:
        raise _unreachable(name, error) from error


def _unreachable(name: str, error: BaseException) -> SepnetError:
    return SepnetError(
        f"{name!r} is no folder here, and the hub can't be asked for it ({_root(error)}): connect to the "
        "network once, or name a folder"
    )


class Pretrained(ModelHubMixin):
    """A separator with the files that it was loaded from, to be saved elsewhere and published.

    It separates like the separator itself. ``save_pretrained`` and ``push_to_hub`` are those of
    huggingface_hub: the folder, its model card included, goes there as it is.
    """

    def __init__(self, folder: Path) -> None:
        from sepnet.artifact import load  # which fetches by this module

        self.folder, self.separator = folder, load(folder)

    @property
    def info(self) -> SeparatorInfo:
        """What the separator says of itself."""
        return self.separator.info

    def separate(self, mixture: Mixture) -> Separation:
        """As the separator's."""
        return self.separator.separate(mixture)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Pretrained:
        """From a shipped name, a run folder, or a name on the hub; options: as for ``fetch``."""
        from sepnet.artifact import locate, run_folder

        name = str(pretrained_model_name_or_path)
        if name.endswith(".ckpt"):
            raise SepnetError(f"{name} is a checkpoint: name its run folder, whose best weights are taken")
        on_hub = not Path(name).exists() and could_be_named(name)
        return cls(run_folder(fetch(name, **options) if on_hub else locate(name)))

    def _save_pretrained(self, save_directory: Path) -> None:
        for name in FILES:
            if (self.folder / name).is_file() and self.folder.resolve() != save_directory.resolve():
                shutil.copyfile(self.folder / name, save_directory / name)


def _root(error: BaseException) -> str:
    """What lies at the bottom of a chain of errors, in short."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(f"{type(error).__name__}: {error}".split())[:120]
