"""A corpus: a folder of sound with a stored index.

A corpus is indexed once: each file is decoded and hashed, a bad one is listed and left out, and the
manifest is stored under the working directory, since the corpus itself may be read-only. One in a store is
copied first.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from pathlib import Path, PurePosixPath

from sepnet import remote
from sepnet.atomic import replacing
from sepnet.data.indexing import find_sound_files, index, is_kept
from sepnet.data.layouts import TABLES, is_table
from sepnet.data.manifest import Manifest, SkippedFile
from sepnet.data.mirror import Mirror
from sepnet.data.sound_files import is_hidden, is_sound
from sepnet.data.splits import assign_splits
from sepnet.data.table import join_names, read_table, write_table
from sepnet.paths import expand_home
from sepnet.ranges import Seed
from sepnet.types import SepnetError
from sepnet.urls import path_or_url

log = logging.getLogger(__name__)

INDEX_VERSION = 2


class Corpus:
    """A folder of sound whose index is stored, and made again when its files change.

    Args:
        root: The folder, or its URL in a store.
        layout: How it lays its files out: "auto" or a name of ``sepnet.data.layouts.LAYOUTS``.
        index_dir: Where the index is stored; None: ``data/index/<name>-<hash of root>`` under the working
            directory.
        copy_dir: Where the files of a corpus in a store are copied to; None:
            ``data/copies/<name>-<hash of root>`` under the working directory.
        strict: Raise at the first bad file instead of skipping it.
        split_fractions: The share of each split, for a corpus without splits; see
            ``sepnet.data.splits.assign_splits``.
        split_seed: Another seed gives another division.
        exclude: Shell patterns of relative paths to leave out.
        splits: The only splits to keep; None: all.
        progress: Show a progress bar on a terminal.

    Example:
        >>> manifest = Corpus(root="data/LibriSpeech").manifest()
        >>> manifest.split("dev").speakers
    """

    def __init__(
        self,
        *,
        root: str | Path,
        layout: str = "auto",
        index_dir: str | Path | None = None,
        copy_dir: str | Path | None = None,
        strict: bool = False,
        split_fractions: Mapping[str, float] | None = None,
        split_seed: Seed = 0,
        exclude: Sequence[str] = (),
        splits: Sequence[str] | None = None,
        progress: bool = True,
    ) -> None:
        place = path_or_url(root)
        self._mirror: Mirror | None = None
        if isinstance(place, str):
            folder = expand_home(copy_dir or Path("data", "copies", _folder_name(place))).absolute()
            self._mirror, place = Mirror(place, folder, progress=progress), folder
        self.root = expand_home(place).absolute()
        self._is_copied = False
        self.layout = layout
        self.index_dir = expand_home(index_dir or Path("data", "index", _folder_name(str(self.root))))
        self.strict = strict
        self.split_fractions = dict(split_fractions) if split_fractions else None
        self.split_seed = split_seed
        self.exclude = tuple(exclude)
        self.splits = None if splits is None else tuple(splits)
        self.progress = progress

    def manifest(self) -> Manifest:
        """Return the stored manifest if the files are the same (name, size and time), else index again.

        Raises:
            SepnetError: The folder can't be copied, indexed (see ``sepnet.data.indexing.index``) or divided.
        """
        self._copy()
        stamps = {path: self._stamp(path) for path in find_sound_files(self.root, self.exclude).files}
        stamps |= {name: self._stamp(name) for name in TABLES if (self.root / name).is_file()}
        manifest, is_complete = self._read_stored(stamps)
        if manifest is None or not is_complete:
            manifest = self._index(stamps, manifest)
        if self.split_fractions is not None:
            manifest = assign_splits(manifest, self.split_fractions, self.split_seed)
        return manifest if self.splits is None else manifest.split(*self.splits)

    def skipped(self) -> tuple[SkippedFile, ...]:
        """Return the files that the stored index left out; empty before the first ``manifest()``."""
        path = self.index_dir / "skipped.csv"
        if not path.is_file():
            return ()
        rows = read_table(path, ("path", "reason"))
        return tuple(SkippedFile(row["path"], row["reason"]) for _, row in rows)

    def _copy(self) -> None:
        """Copy a corpus from its store, once, so that all that this object gives is of one moment."""
        if self._mirror is None or self._is_copied:
            return
        files = {
            path: file
            for path, file in remote.list_files(self._mirror.url).items()
            if not is_hidden(path) and (is_table(path) or (is_sound(path) and is_kept(path, self.exclude)))
        }
        if not any(map(is_sound, files)):
            raise SepnetError(f"there is no sound under {self._mirror.url}: check the URL")
        self._mirror.update(files)
        self._is_copied = True

    def _stamp(self, path: str) -> list[int]:
        status = os.stat(os.path.join(self.root, path))  # noqa: PTH116, PTH118 - for millions of files
        return [status.st_size, status.st_mtime_ns]

    def _settings(self) -> dict[str, object]:
        return {"version": INDEX_VERSION, "root": str(self.root), "layout": self.layout,
                "strict": self.strict, "exclude": list(self.exclude)}  # fmt: skip

    def _read_stored(self, stamps: Mapping[str, list[int]]) -> tuple[Manifest | None, bool]:
        """The stored rows of unchanged files, and whether these are the whole index."""
        try:
            state = json.loads((self.index_dir / "index.json").read_text())
            settings = self._settings()
            if any(state["settings"][key] != settings[key] for key in ("version", "root")):
                return None, False
            manifest = Manifest.read(self.index_dir / "manifest.csv", self.root)
        except (OSError, ValueError, KeyError):  # none, or not readable: index again
            return None, False
        unchanged = {path for path, stamp in state["files"].items() if stamps.get(path) == stamp}
        kept = replace(manifest, utterances=tuple(u for u in manifest if u.path in unchanged))
        return kept, state["settings"] == settings and state["files"] == dict(stamps)

    def _index(self, stamps: Mapping[str, list[int]], known: Manifest | None) -> Manifest:
        manifest, skipped = index(
            self.root, layout=self.layout, strict=self.strict, exclude=self.exclude,
            progress=self.progress, known=known,
        )  # fmt: skip
        if skipped:
            log.warning(
                "%d of %d files of %s are left out, listed in %s: %s",
                len(skipped),
                len(skipped) + len(manifest),
                self.root,
                self.index_dir / "skipped.csv",
                join_names([f"{file.path} ({file.reason})" for file in skipped]),
            )
        write_table(self.index_dir / "skipped.csv", ("path", "reason"), (astuple(s) for s in skipped))
        manifest.write(self.index_dir / "manifest.csv")
        # Last, so that an index that was interrupted is not taken as complete.
        with replacing(self.index_dir / "index.json") as temporary:
            temporary.write_text(json.dumps({"settings": self._settings(), "files": dict(stamps)}))
        return manifest


def _folder_name(root: str) -> str:
    """A name for what belongs to a corpus, from its path or URL."""
    return f"{PurePosixPath(root).name}-{hashlib.sha1(root.encode()).hexdigest()[:8]}"
