"""Download models from the Hugging Face hub: run folders, each downloaded once and then kept."""

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

from sepnet.artifact import formats
from sepnet.paths import CARD, CONFIG, METRICS, PROVENANCE, RUNS, WEIGHTS
from sepnet.types import SepnetError

FILES = (CONFIG, WEIGHTS, METRICS, PROVENANCE, CARD)
"""The files of a run folder that are published, and downloaded."""
FETCHED = (*FILES, *formats.FILES)
"""These, and the files that the readers of other toolkits know."""
REFUSALS = {
    401: "if it is private, log in with `hf auth login`",
    403: "accept its licence on its page, and log in with `hf auth login`",
    429: "it was asked too often, so wait some minutes",
}
NAME = re.compile(r"[\w.-]+/[\w.-]+")


def is_possible_name(name: str) -> bool:
    """Tell whether a name can be that of a model on the hub.

    Args:
        name: A name that is no existing path.

    Returns:
        Whether it has the form owner/name, where owner is neither an existing folder nor ``runs``, which may
        not exist yet.
    """
    parent = Path(name).parent
    return NAME.fullmatch(name) is not None and parent != RUNS and not parent.exists()


def fetch(name: str, **options: Any) -> Path:
    """Download the folder of a model, unless the newest version was downloaded before.

    Args:
        name: Of the model on the hub, owner/name.
        **options: Those of ``huggingface_hub.snapshot_download``, such as ``revision``.

    Returns:
        The folder in the cache of huggingface_hub, with those of its files that are in ``FETCHED``.

    Raises:
        SepnetError: No model or revision has this name, or the hub cannot be reached.
    """
    try:
        return Path(snapshot_download(name, allow_patterns=list(FETCHED), **options))
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise SepnetError(
            f"{name!r} is no folder here and no model on the hub: look for a typing error (a private one "
            "needs `hf auth login`)"
        ) from error
    except (RevisionNotFoundError, HfHubHTTPError) as error:
        if isinstance(error, LocalEntryNotFoundError) or _status(error) in REFUSALS:
            raise _unreachable(name, error) from error
        raise SepnetError(
            f"the hub refuses {name!r} ({_root(error)}): look at the revision, or try later"
        ) from error
    except OSError as error:
        raise _unreachable(name, error) from error


def _unreachable(name: str, error: BaseException) -> SepnetError:
    if (status := _status(error)) in REFUSALS:
        return SepnetError(f"the hub refuses {name!r} (HTTP {status}): {REFUSALS[status]}")
    return SepnetError(
        f"{name!r} is no folder here, and the hub can't be asked for it ({_root(error)}): connect to the "
        "network once, or name a folder"
    )


def _status(error: BaseException | None) -> int:
    """The HTTP status at the bottom of a chain of errors; 0 if there is none."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None:
            return int(response.status_code)
        error = error.__cause__
    return 0


def _root(error: BaseException) -> str:
    """The first error of a chain, on one short line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(f"{type(error).__name__}: {error}".split())[:120]
