"""A list of recordings, as a table; and the share of them that one job of several does.

``path``       a sound file, or its URL; relative paths start at the folder of the list
``n_sources``  optional: the number of sources of this recording
``query``      optional: a sound file with the example to go by in this recording
``name``       optional: of the results below the folder of the results, without suffix; otherwise a relative
               path gives the folder and the name, and an absolute one or a URL the name
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from sepnet import remote
from sepnet.data.table import join_names, read_table
from sepnet.inference.files import Recording, unique
from sepnet.ranges import NumberOfSources
from sepnet.remote import RemoteFile
from sepnet.settings import check_value, nearest
from sepnet.types import SepnetError
from sepnet.urls import is_url, join_url, path_or_url, shown

COLUMNS = ("path", "n_sources", "query", "name")
SHARD = re.compile(r"(\d{1,7})/(\d{1,7})")


@dataclass(frozen=True)
class Shard:
    """One of several shares of the recordings.

    Attributes:
        number: From 1.
        n_shards: How many there are.
    """

    number: int
    n_shards: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read a share such as 3/64, the third of 64. Raises SepnetError."""
        match = SHARD.fullmatch(text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise SepnetError(
                f"shard={text}: give the number of a share, from 1, and of all, as in shard=3/64"
            )
        return cls(int(match[1]), int(match[2]))

    def of(self, recordings: Sequence[Recording]) -> tuple[Recording, ...]:
        """Return every ``n_shards``-th recording."""
        return tuple(recordings[self.number - 1 :: self.n_shards])


def read_list(csv: Path, out: Path | str, base: Path | str | None = None) -> tuple[Recording, ...]:
    """Read a list of recordings. Nothing is asked of stores yet; see ``describe_sources``.

    Args:
        csv: The list; see the module for its columns.
        out: The folder or the URL of the results.
        base: The folder or the URL at which relative paths start; None: the folder of the list.

    Raises:
        SepnetError: A column or a value can't be used, files are missing, or two recordings would have
            results of the same names.
    """
    table = read_table(csv, ["path"])
    if not table:
        raise SepnetError(f"{csv} has a header but no rows: add a row for each recording")
    if unknown := [name for name in table[0][1] if name not in COLUMNS]:
        raise SepnetError(f"{csv} has a column {unknown[0]!r}{nearest(unknown[0], COLUMNS)}")
    place = csv.parent if base is None else base
    recordings = [_recording(f"{csv}, line {line}", cells, out, place) for line, cells in table]
    files = dict.fromkeys(
        file
        for recording in recordings
        for file in (recording.file if recording.source is None else None, recording.query)
        if file is not None
    )
    if missing := [str(file) for file in files if not file.is_file()]:
        raise SepnetError(f"{len(missing)} files of {csv} are not there: {join_names(missing)}")
    return unique(recordings, f"give them different names in the column name of {csv}")


def describe_sources(recordings: Sequence[Recording]) -> tuple[Recording, ...]:
    """Return the recordings with size and version of their files in stores, or with the reason why not.

    Raises:
        SepnetError: A store can't be reached.
    """
    sources = [file for each in recordings for file in (each.source, each.query_source) if file is not None]
    urls = list(dict.fromkeys(file.url for file in sources))
    described = dict(zip(urls, remote.describe_all(urls), strict=True))

    def look_up(source: RemoteFile | None) -> RemoteFile | None:
        return None if source is None else described[source.url]

    return tuple(
        replace(each, source=look_up(each.source), query_source=look_up(each.query_source))
        for each in recordings
    )


def _recording(place: str, cells: Mapping[str, str], out: Path | str, base: Path | str) -> Recording:
    if not cells["path"]:
        raise SepnetError(f"{place}: the path is empty")
    name = cells.get("name", "")
    path = cells["path"]
    given = PurePosixPath(name or (f"/{PurePosixPath(shown(path)).name}" if is_url(path) else path))
    if ".." in given.parts or (name and given.is_absolute()):
        if name:
            raise SepnetError(
                f"{place}: the name {name} leads out of the folder of the results: give another"
            )
        given = PurePosixPath(given.name)
    stem = given.name if name else given.stem
    parent = "." if given.is_absolute() else given.parent
    n_sources = cells.get("n_sources", "")
    number: int | str = int(n_sources) if n_sources.isdecimal() else n_sources
    file, source = _locate(base, path)
    query, query_source = _locate(base, cells["query"]) if cells.get("query") else (None, None)
    return Recording(
        file,
        Path(parent) if is_url(out) else Path(out) / parent,
        stem,
        check_value(f"{place}: n_sources", NumberOfSources, number) if n_sources else None,
        query if query_source is None else None,
        source,
        query_source,
        str(out) if is_url(out) else None,
    )


def _locate(base: Path | str, text: str) -> tuple[Path, RemoteFile | None]:
    """The path of a file, or the name of one in a store, and where that is."""
    given = path_or_url(text)
    if isinstance(given, Path):
        if isinstance(base, Path) or given.is_absolute():
            return base / given, None
        given = join_url(base, given)
    source = RemoteFile(given)
    return Path(source.name), source
