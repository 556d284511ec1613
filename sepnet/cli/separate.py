"""``sepnet separate``: recordings of any length, with any method."""

from __future__ import annotations

import glob
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from sepnet.atomic import exit_on_sigterm
from sepnet.cli import app
from sepnet.cli.live import live
from sepnet.cli.separate_engine import select_recordings, separate_on_engine
from sepnet.cli.separate_job import make_job
from sepnet.cli.separate_settings import SeparateSettings
from sepnet.inference.separate_all import SomeRefusedError
from sepnet.urls import is_url

SOME_REFUSED = 1  # status of a command that separated the other recordings


def main() -> None:
    """Run the command line: plain words are files, folders and patterns, name=value are settings."""
    with app.one_sentence():
        words = app.read_arguments().overrides
        files = [word for word in words if "=" not in word or is_url(word) or _exists(word)]
    sys.argv[1:] = [word for word in sys.argv[1:] if word not in files]
    app.run(partial(separate, files=files), "separate", SeparateSettings)


def _exists(word: str) -> bool:
    """Whether a word that looks like a setting is a file or a pattern of files."""
    try:
        return Path(word).exists() or bool(glob.glob(word))  # noqa: PTH207
    except (OSError, ValueError):  # it is too long, or has a null character
        return False


def separate(config: DictConfig, files: Sequence[str | Path] = ()) -> None:
    """Separate every recording that can be, and name those that cannot.

    Args:
        config: conf/separate.yaml with the overrides of the command line.
        files: Sound files, folders and patterns.

    Raises:
        SepnetError: A setting or a file cannot be used; found before anything is written.
    """
    settings = app.parse(SeparateSettings, config)
    if settings.live:
        live(settings, files)
        return
    with exit_on_sigterm(), select_recordings(settings, files) as selection:
        job = make_job(settings)
        for left_out in selection.left_out:
            print(f"left out: {left_out.path} {left_out.reason}", file=sys.stderr)
        try:
            separate_on_engine(settings, job, selection.recordings)
        except SomeRefusedError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(SOME_REFUSED)
