"""Models on the Hugging Face hub: run folders, fetched once and then kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from sepnet.types import SepnetError

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


def _root(error: BaseException) -> str:
    """What lies at the bottom of a chain of errors, in short."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(f"{type(error).__name__}: {error}".split())[:120]
