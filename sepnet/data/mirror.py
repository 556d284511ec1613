"""Copies of corpora that are in stores: the files that sepnet reads, in a folder of this machine.

A list beside the folder has size and version of each copy, so that the next time only what is new or changed
is fetched, and what was interrupted goes on at the next file.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from sepnet import remote
from sepnet.atomic import replacing, write_text
from sepnet.data.ordered_map import map_in_order
from sepnet.data.table import join_names
from sepnet.remote import RemoteFile
from sepnet.types import SepnetError
from sepnet.urls import shown

N_WORKERS = 16  # files that are fetched at the same time
FILES_AHEAD = 4  # of each worker


class Mirror:
    """A folder of this machine with the files of a folder in a store.

    Args:
        url: Of the folder in the store.
        folder: The folder with the copies; ``<folder>.jsonl`` is the list of them.
        progress: Show a progress bar on a terminal.

    Raises:
        SepnetError: The URL has a user, a password or a query string, which would be stored with each run.
    """

    def __init__(self, url: str, folder: Path, *, progress: bool = True) -> None:
        if shown(url) != url:
            raise SepnetError(
                f"the URL {shown(url)} of a corpus is given with a user, a password or a query string, which "
                "would be stored with each run: leave them to the environment, as AWS_ACCESS_KEY_ID"
            )
        self.url, self.folder, self.progress = url, folder, progress
        self._list = folder.with_name(f"{folder.name}.jsonl")

    def update(self, files: Mapping[str, RemoteFile]) -> None:
        """Fetch what is new or changed, and remove copies of all other files.

        Args:
            files: The files to have, by their paths below the folder; see ``sepnet.remote.list_files``.

        Raises:
            SepnetError: A file can't be read, or the disk is too small; what was fetched until then stays.
        """
        if outside := [name for name in files if ".." in PurePosixPath(name).parts]:
            raise SepnetError(
                f"{len(outside)} files of {self.url} have .. in their names: {join_names(outside)}; "
                "rename them"
            )
        if unreadable := [file.problem for file in files.values() if file.problem]:
            raise SepnetError(f"{len(unreadable)} files of {self.url} can't be read: {unreadable[0]}")
        stamps = {name: [file.n_bytes, file.version] for name, file in files.items()}
        copied = self._read_list()
        for name in copied.keys() - stamps.keys():
            (self.folder / name).unlink(missing_ok=True)
        kept = {name: stamp for name, stamp in stamps.items() if self._is_copied(name, stamp, copied)}
        self.folder.mkdir(parents=True, exist_ok=True)
        if copied != kept:
            write_text(self._list, "".join(map(_line, kept.items())))
        missing = {name: file for name, file in files.items() if name not in kept}
        self._check_space(sum(file.n_bytes for file in missing.values()))
        self._fetch(missing)

    def _fetch(self, files: Mapping[str, RemoteFile]) -> None:
        def fetch(name: str) -> str:
            with replacing(self.folder / name) as temporary:
                remote.fetch(files[name], temporary)
            return name

        bar = tqdm(total=len(files), desc=f"fetch {self.folder.name}", unit="file",
                   disable=None if self.progress and files else True)  # fmt: skip  # None: only on a terminal
        with ThreadPoolExecutor(N_WORKERS) as pool, bar, self._list.open("a", encoding="utf-8") as stream:
            try:
                for name in map_in_order(pool, fetch, files, max_ahead=FILES_AHEAD * N_WORKERS):
                    stream.write(_line((name, [files[name].n_bytes, files[name].version])))
                    stream.flush()
                    bar.update()
            except BaseException:  # don't fetch the rest first
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _read_list(self) -> dict[str, list[object]]:
        """Size and version of each copy, by name. A killed process may leave a part of a line."""
        copied = {}
        with contextlib.suppress(FileNotFoundError):
            for line in self._list.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError):
                    name, stamp = json.loads(line)
                    copied[name] = stamp
        return copied

    def _is_copied(self, name: str, stamp: list[object], copied: Mapping[str, list[object]]) -> bool:
        copy = self.folder / name
        return copied.get(name) == stamp and copy.is_file() and copy.stat().st_size == stamp[0]

    def _check_space(self, n_bytes: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if n_bytes > free:
            raise SepnetError(
                f"the copy of {self.url} needs {n_bytes / 1e6:.0f} MB, but {self.folder} has "
                f"{free / 1e6:.0f} MB free: make room, or point copy_dir at another disk"
            )


def _line(item: tuple[str, list[object]]) -> str:
    return f"{json.dumps(item)}\n"
