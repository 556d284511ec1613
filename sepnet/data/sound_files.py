"""Find the files under a folder: links are followed, and what is left out is listed with the reason."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path

from sepnet.data import audio
from sepnet.data.manifest import SkippedFile
from sepnet.types import SepnetError

ANY_FOLDERS = "**"  # in a pattern


@dataclass(frozen=True)
class FolderContent:
    """The files under a folder, without hidden ones.

    Attributes:
        files: Relative paths with forward slashes, sorted.
        left_out: Links and folders that could not be followed, with the reasons, sorted.
    """

    files: tuple[str, ...]
    left_out: tuple[SkippedFile, ...]

    @property
    def sounds(self) -> tuple[str, ...]:
        """The files that are sounds by their suffix."""
        return tuple(path for path in self.files if is_sound(path))


def is_sound(path: str) -> bool:
    """Whether a file is a sound by its suffix."""
    return os.path.splitext(path)[1].lower() in audio.SUFFIXES  # noqa: PTH122 - for millions of files


def is_hidden(path: str) -> bool:
    """Whether a file, or a folder that it is in, has a name that begins with a dot."""
    return any(part.startswith(".") and part != ".." for part in path.split("/"))


def list_folder(root: Path) -> FolderContent:
    """List the files under a folder.

    Links to folders are followed after all other folders, so that a file has the path without a link if there
    is one. A folder that was searched already, as at a link that leads back up, is listed as left out.

    Args:
        root: The folder.

    Raises:
        SepnetError: It can't be opened.
    """
    walk = _walk(root)
    return FolderContent(tuple(sorted(walk.files)), tuple(sorted(walk.left_out, key=lambda s: s.path)))


def match_pattern(pattern: Path) -> tuple[set[Path], set[SkippedFile]]:
    """Find the paths that match a pattern.

    Args:
        pattern: With ``*``, ``?``, ``[a-z]``, and ``**`` for any number of folders, of which each is searched
            once, however many links lead to it. Hidden files and folders match only where the pattern begins
            with a dot, too.

    Returns:
        The paths, and what could not be followed below the folders that ``**`` begins with.

    Raises:
        SepnetError: A folder that ``**`` begins with can't be opened.
    """
    if ANY_FOLDERS not in pattern.parts:
        return {Path(name) for name in glob.glob(str(pattern))}, set()  # noqa: PTH207 (of any root)
    place = pattern.parts.index(ANY_FOLDERS)
    above, below = Path(*pattern.parts[:place]), Path(*pattern.parts[place + 1 :] or "*")
    roots = [root for root in match_pattern(above)[0] if root.is_dir()] if place else [above]
    paths: set[Path] = set()
    left_out: set[SkippedFile] = set()
    for root in roots:
        walk = _walk(root)
        left_out |= {SkippedFile(str(root / skipped.path), skipped.reason) for skipped in walk.left_out}
        for folder in walk.searched.values():
            more_paths, more_left_out = match_pattern(Path(glob.escape(str(root / folder))) / below)
            paths |= more_paths
            left_out |= more_left_out
    return paths, left_out


def _walk(root: Path) -> _Walk:
    """Search a folder, all folders in it, and then those that links lead to."""
    walk = _Walk(root)
    if error := walk.search(""):
        raise SepnetError(f"can't open the folder {root}: {error}; check its permissions")
    while walk.links:
        path = walk.links.pop(0)
        if error := walk.search(path):
            walk.left_out.append(SkippedFile(path, error))
    return walk


class _Walk:
    """What was found under a folder so far."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: list[str] = []
        self.links: list[str] = []
        self.left_out: list[SkippedFile] = []
        self.searched: dict[str, str] = {}  # the path of each real folder

    def search(self, path: str) -> str | None:
        """Search a folder and those in it; links to folders are kept for later. Returns why it can't be."""
        folder = self.root / path
        real = os.path.realpath(folder)
        if real in self.searched:
            return f"leads to the folder {real}, which is searched already"
        self.searched[real] = path
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            return f"can't be opened ({error.strerror or error})"
        for entry in entries:
            if entry.name.startswith("."):
                continue
            inner = f"{path}/{entry.name}" if path else entry.name
            if entry.is_file(follow_symlinks=False):  # known without another look at the disk
                self.files.append(inner)
            elif entry.is_dir(follow_symlinks=False):
                if reason := self.search(inner):
                    self.left_out.append(SkippedFile(inner, reason))
            elif Path(entry.path).is_dir():  # which notices links that lead to themselves
                self.links.append(inner)
            elif Path(entry.path).is_file():
                self.files.append(inner)
            elif is_sound(entry.name) or entry.is_symlink():
                self.left_out.append(SkippedFile(inner, _why_no_file(Path(entry.path))))
        return None


def _why_no_file(path: Path) -> str:
    if path.is_symlink():
        return f"is a link to {path.readlink()}, which does not exist"
    return "is no regular file"
