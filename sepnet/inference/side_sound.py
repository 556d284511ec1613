"""Sounds beside the recordings: the example that a method goes by, and the reference that scores it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sepnet.data import audio
from sepnet.inference.fetching import fetched
from sepnet.types import Query
from sepnet.urls import path_or_url, shown


@dataclass(frozen=True)
class SideSound:
    """A sound that was read, the mean of its channels.

    Attributes:
        sound: Its samples and rate.
        name: The path or the URL of its file, as it is shown.
        sha1: Of the file.
        file: The file; None: it is in a store.
    """

    sound: Query
    name: str
    sha1: str
    file: Path | None


def read_side_sound(place: str | Path, *, strict: bool = False) -> SideSound:
    """Read an example or a reference.

    Args:
        place: The path or the URL of a sound file.
        strict: Whether a file that is cut off or damaged is refused.

    Raises:
        SepnetError: It can't be read.
    """
    file = path_or_url(place)
    if isinstance(file, str):
        with fetched(file) as copy:
            return replace(read_side_sound(copy, strict=strict), name=shown(file), file=None)
    samples, rate = audio.read(file, strict=strict)
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha1").hexdigest()
    return SideSound(Query(torch.from_numpy(samples.mean(axis=0)), rate), str(file), digest, file)
