"""Find the files that a list names in a corpus, and read them at the rate of the mixtures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float

from sepnet.data import audio
from sepnet.data.manifest import Manifest, Utterance
from sepnet.data.table import join_names
from sepnet.dsp.resample import resample
from sepnet.types import SepnetError


class ListFiles:
    """The files that a list names.

    Args:
        manifest: The corpus.
        paths: The paths of the list.

    Raises:
        SepnetError: Files are not in the corpus, with the first ten names.
    """

    def __init__(self, manifest: Manifest, paths: Iterable[str]) -> None:
        self.root = manifest.root
        rows = {utterance.path: utterance for utterance in manifest}
        located = locate(manifest, paths)
        if missing := [path for path, found_path in located.items() if found_path is None]:
            raise SepnetError(
                f"{len(missing)} files of the list are not among the {len(manifest)} of {manifest.root}: "
                f"{join_names(missing)}. Choose the corpus and the split that the list was made for"
            )
        self.utterances: Mapping[str, Utterance] = {
            path: rows[found_path] for path, found_path in located.items() if found_path is not None
        }

    def read_native(self, path: str) -> tuple[Float[np.ndarray, " time"], int]:
        """Read a file of the list: its samples and its own rate in Hz."""
        return read_mono(self.root / self.utterances[path].path)

    def read(self, path: str, sample_rate: int) -> Float[np.ndarray, " time"]:
        """Read a file of the list at the rate of the mixtures, in Hz."""
        samples, rate = self.read_native(path)
        return resample_down(samples, rate, sample_rate, path)


def locate(manifest: Manifest, paths: Iterable[str]) -> dict[str, str | None]:
    """Find the file of a corpus that each path of a list means.

    That is the path itself where the manifest has it, as a LibriSpeech has those of LibriMix; else the
    one file with that name (without suffix), so that a corpus laid out anew serves the official lists.

    Args:
        manifest: The corpus.
        paths: The paths of the list.

    Returns:
        For each path the path in the manifest, or None.

    Raises:
        SepnetError: Several files have the name.
    """
    stems = {path: PurePosixPath(path).stem for path in paths}
    by_stem: dict[str, list[str]] = {stem: [] for stem in stems.values()}
    for utterance in manifest:
        if (candidates := by_stem.get(PurePosixPath(utterance.path).stem)) is not None:
            candidates.append(utterance.path)
    located: dict[str, str | None] = {}
    for path, stem in stems.items():
        candidates = by_stem[stem]
        if path not in candidates and len(candidates) > 1:
            raise SepnetError(
                f"{path} is not in {manifest.root}, and {len(candidates)} files there are named {stem}: "
                f"{join_names(candidates)}. Write the path of one of them into the list"
            )
        located[path] = path if path in candidates else next(iter(candidates), None)
    return located


def read_mono(path: Path) -> tuple[Float[np.ndarray, " time"], int]:
    """Read a file of one channel.

    Args:
        path: The file.

    Returns:
        The samples and the rate in Hz.

    Raises:
        SepnetError: The file has several channels, or can't be read.
    """
    samples, sample_rate = audio.read(path)
    if len(samples) != 1:
        raise SepnetError(
            f"{path} has {len(samples)} channels, but a source of a fixed mixture has one: convert it to mono"
        )
    return samples[0], sample_rate


def resample_down(
    samples: Float[np.ndarray, " time"], rate: int, sample_rate: int, path: str | Path
) -> Float[np.ndarray, " resampled"]:
    """Resample a file to the rate of the mixtures.

    Args:
        samples: (time,).
        rate: Of the samples, in Hz.
        sample_rate: Of the mixtures, in Hz.
        path: The file, for the message.

    Raises:
        SepnetError: The file's rate is lower than that of the mixtures.
    """
    if rate < sample_rate:
        raise SepnetError(
            f"{path} is at {rate} Hz, but the mixtures are to be at {sample_rate} Hz: "
            f"set the sample rate to {rate} Hz or lower"
        )
    return resample(samples, rate, sample_rate)
