"""Index a folder of sound: which files there are, who speaks in them, and of which split they are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path

from tqdm import tqdm

from sepnet.commands import command
from sepnet.data import audio
from sepnet.data.layouts import LAYOUTS, Place, choose_layout
from sepnet.data.manifest import Manifest, SkippedFile, Utterance
from sepnet.data.ordered_map import map_in_order
from sepnet.data.sound_files import FolderContent, list_folder
from sepnet.paths import expand_home
from sepnet.types import SepnetError

MAX_WORKERS = 8
FILES_AHEAD = 4  # of each worker


def index(
    root: str | Path,
    *,
    layout: str = "auto",
    strict: bool = False,
    exclude: Sequence[str] = (),
    progress: bool = True,
    known: Manifest | None = None,
) -> tuple[Manifest, tuple[SkippedFile, ...]]:
    """Find the sound files under a folder, decode and hash each, and place them by the corpus' layout.

    Args:
        root: The folder of the corpus.
        layout: A name of ``sepnet.data.layouts.LAYOUTS``, or "auto".
        strict: Raise at the first bad file instead of skipping it.
        exclude: Shell patterns of relative paths to leave out.
        progress: Show a progress bar on a terminal.
        known: Rows whose files have not changed since; these are not decoded again.

    Returns:
        The manifest, sorted by path, and the files that were skipped.

    Raises:
        SepnetError: There is no sound, no layout fits, no file is good, or (for speech) a speaker is in two
            splits.
    """
    root = expand_home(root).absolute()
    content = find_sound_files(root, exclude)
    files = content.files
    if not files:
        raise SepnetError(
            f"there is no sound under {root} (looked for {', '.join(sorted(audio.SUFFIXES))}"
            f"{', without ' + ', '.join(exclude) if exclude else ''}): check the path"
        )
    name = choose_layout(root, files) if layout == "auto" else layout
    if name not in LAYOUTS:
        raise SepnetError(f"there is no layout {name!r}: choose auto or one of {', '.join(LAYOUTS)}")
    places = LAYOUTS[name].place(root, files)
    skipped = [*content.left_out, *(SkippedFile(path, reason) for path, reason in places.unknown)]
    stored = {utterance.path: utterance for utterance in known or ()}
    outcomes = list(_examine_all(root, places.known, stored, strict, progress))
    skipped += [outcome for outcome in outcomes if isinstance(outcome, SkippedFile)]
    utterances = [outcome for outcome in outcomes if isinstance(outcome, Utterance)]
    if not utterances:
        first = f"; {skipped[0].path}: {skipped[0].reason}" if skipped else ""
        raise SepnetError(f"none of the {len(files)} sound files under {root} can be used as {name}{first}")
    manifest = Manifest(root, tuple(sorted(utterances, key=lambda u: u.path)))
    if LAYOUTS[name].speech:
        manifest.check_disjoint()
    return manifest, tuple(sorted(skipped, key=lambda s: s.path))


def _examine_all(
    root: Path, places: Sequence[Place], stored: Mapping[str, Utterance], strict: bool, progress: bool
) -> Iterator[Utterance | SkippedFile]:
    """The row of each place, in their order. Threads suffice: decoders and hashlib release the GIL."""
    n_workers = min(MAX_WORKERS, os.cpu_count() or 1)
    with ThreadPoolExecutor(n_workers) as pool:
        try:
            yield from tqdm(
                map_in_order(
                    pool,
                    lambda place: _examine(root, place, stored.get(place.path), strict),
                    places,
                    max_ahead=FILES_AHEAD * n_workers,
                ),
                total=len(places),
                desc=f"index {root.name}",
                unit="file",
                disable=None if progress else True,  # None: only on a terminal
            )
        except BaseException:  # a bad file in a strict index, or Ctrl-C: don't decode the rest first
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _examine(root: Path, place: Place, stored: Utterance | None, strict: bool) -> Utterance | SkippedFile:
    """Decode and hash one file, unless its row is known."""
    row_start = (place.path, place.speaker, place.split, place.label)
    if stored is not None:
        return Utterance(*row_start, stored.seconds, stored.sample_rate, stored.sha1)
    try:
        header = audio.verify(root / place.path)
        with (root / place.path).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha1").hexdigest()
    except (SepnetError, OSError) as error:
        if strict:
            raise
        return SkippedFile(place.path, str(error))
    return Utterance(*row_start, round(header.seconds, 6), header.sample_rate, digest)


def find_sound_files(root: Path, exclude: Sequence[str] = ()) -> FolderContent:
    """List the sound files under a folder; see ``sepnet.data.sound_files.list_folder``.

    Args:
        root: The folder.
        exclude: Shell patterns of relative paths to leave out.

    Raises:
        SepnetError: There is no such folder, or it can't be opened.
    """
    if not root.is_dir():
        raise SepnetError(
            f"there is no folder {root}: check the path of the corpus (LibriSpeech is fetched by "
            f"{command('prepare')} corpus=librispeech)"
        )
    content = list_folder(root)

    return FolderContent(
        tuple(path for path in content.sounds if is_kept(path, exclude)),
        tuple(skipped for skipped in content.left_out if is_kept(skipped.path, exclude)),
    )


def is_kept(path: str, exclude: Sequence[str]) -> bool:
    """Whether a relative path matches none of the shell patterns of what to leave out."""
    return not any(fnmatch(path, pattern) for pattern in exclude)
