"""A folder in a store that a command works on: a local copy, whose changes are put there as they come."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sepnet import remote
from sepnet.claim import temporary_folder
from sepnet.remote_errors import MissingError
from sepnet.types import SepnetError
from sepnet.urls import join_url, shown

PREFIX = "sepnet-folder-"  # of temporary folders
PUT_SECONDS = 30.0  # between two times that changes are put
WRITE_TEST = ".sepnet-write-test"  # a file that is put and removed before work begins


@contextmanager
def stored_folder(url: str) -> Iterator[Path]:
    """Provide a local copy of a folder in a store; what changes in it is put there every half minute.

    It is put there when the context ends, too, also by an error. What can't be put then is kept in the folder
    that the command was called in.

    Args:
        url: Of the folder, which need not exist.

    Raises:
        SepnetError: The folder can't be read or written.
    """
    with temporary_folder(PREFIX) as home:
        copy = _Copy(url, home / "results")
        copy.fetch()
        copy.test_writing(home)
        ended = threading.Event()

        def put_now_and_then() -> None:
            while not ended.wait(PUT_SECONDS):
                with contextlib.suppress(SepnetError):  # tried again later
                    copy.put()

        thread = threading.Thread(target=put_now_and_then, daemon=True)
        thread.start()
        try:
            yield copy.folder
        finally:
            ended.set()
            thread.join()
            copy.finish()


class _Copy:
    """A folder of this machine, and which of its files are in the store as they are."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self._stored: dict[Path, tuple[int, int]] = {}

    def fetch(self) -> None:
        """Copy all files from the store."""
        self.folder.mkdir()
        with contextlib.suppress(MissingError):
            for name, file in remote.list_files(self.url).items():
                join_url(self.url, name)  # refuses names that lead out of the folder
                target = self.folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                remote.fetch(file, target)
                self._stored[target] = _stamp(target)

    def test_writing(self, home: Path) -> None:
        """Refuse a store that can't be written, before there are results to lose."""
        test = home / WRITE_TEST
        test.touch()
        remote.put(test, join_url(self.url, WRITE_TEST))
        with contextlib.suppress(SepnetError):  # where nothing may be removed, it stays
            remote.remove(join_url(self.url, WRITE_TEST))

    def put(self) -> None:
        """Put what was changed since the last time, in the order of the names."""
        for file in sorted(self.folder.rglob("*")):
            name = file.relative_to(self.folder)
            if any(part.startswith(".") for part in name.parts) or not file.is_file():
                continue
            stamp = _stamp(file)
            if self._stored.get(file) == stamp:
                continue
            with tempfile.TemporaryDirectory(dir=self.folder.parent) as place:
                snapshot = Path(shutil.copy(file, place))  # the file itself may grow meanwhile
                remote.put(snapshot, join_url(self.url, name))
            self._stored[file] = stamp

    def finish(self) -> None:
        """Put what is left, or keep all in the current folder."""
        try:
            self.put()
        except SepnetError as error:
            kept = Path(tempfile.mkdtemp(prefix="sepnet-results-", dir=Path.cwd()))
            shutil.copytree(self.folder, kept, dirs_exist_ok=True)
            raise SepnetError(
                f"{error}; all results are kept in {kept}: copy them to {shown(self.url)}"
            ) from error


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns
