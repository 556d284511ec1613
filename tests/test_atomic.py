"""Files and folders are written whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import TypedDict

from sepnet.atomic import exists, replacing, replacing_folder, write_text
from sepnet.claim import remove_abandoned, temporary_folder
from sepnet.stored import read_json, read_text
from sepnet.types import SepnetError


def test_a_file_is_replaced_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.txt"
    write_text(path, "old ä")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text(encoding="utf-8") == "old ä"
    assert path.read_text() == "new"

    def fail_halfway() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_leaves_nothing_and_says_so(tmp_path: Path) -> None:
    def fill_the_disk() -> None:
        with replacing(tmp_path / "a" / "b" / "x.bin") as temporary:
            temporary.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SepnetError, match=r"can't write .*x\.bin: No space left.*MB are free") as caught:
        fill_the_disk()
    assert isinstance(caught.value.__cause__, OSError)
    assert list(tmp_path.iterdir()) == []  # nor the folders that were made for it


def test_the_names_longest_and_too_long(tmp_path: Path) -> None:
    longest = tmp_path / ("n" * 250 + ".json")  # 255 bytes, the most that a file system takes
    write_text(longest, "{}")
    assert longest.read_text() == "{}"
    with pytest.raises(SepnetError, match="shorter than its 256 bytes"):
        write_text(tmp_path / ("n" * 251 + ".json"), "{}")
    assert list(tmp_path.iterdir()) == [longest]


def test_a_folder_name_too_long_is_measured_itself(tmp_path: Path) -> None:
    with pytest.raises(SepnetError, match="shorter than its 300 bytes"):
        write_text(tmp_path / ("n" * 300) / "x.txt", "text")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SepnetError, match="choose a folder that you may write to"):
        write_text(tmp_path / "file" / "x.txt", "text")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:  # root may write anywhere, so it is imitated
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(SepnetError, match=r"Permission denied; .* choose a folder that you may write to"):
        write_text(tmp_path / "x.txt", "text")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_looked_into_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = os.stat

    def refuse(path: Any, *args: Any, **options: Any) -> os.stat_result:  # root may look anywhere
        if "closed" in Path(path).parent.parts:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return status(path, *args, **options)

    (tmp_path / "closed" / "inner").mkdir(parents=True)
    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", refuse)
        with pytest.raises(SepnetError, match=r"Permission denied; .* choose a folder that you may write to"):
            write_text(tmp_path / "closed" / "inner" / "x.txt", "text")
    assert list((tmp_path / "closed" / "inner").iterdir()) == []


def test_a_folder_is_replaced_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "results"
    for text in ("first", "second"):
        with replacing_folder(path) as temporary:
            (temporary / f"{text}.txt").write_text(text)
    assert [file.name for file in path.iterdir()] == ["second.txt"]

    def fill_the_disk() -> None:
        with replacing_folder(path) as temporary:
            (temporary / "third.txt").write_text("third")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SepnetError, match="No space left"):
        fill_the_disk()
    assert [file.name for file in path.iterdir()] == ["second.txt"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_comes_back_when_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results"
    path.mkdir()
    (path / "mine.txt").write_text("mine")
    rename = Path.rename

    def fail_for_new(self: Path, target: Path) -> Path:
        if self.suffix == ".part":
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_new)
    with pytest.raises(SepnetError, match="Input/output error"), replacing_folder(path):
        pass
    assert (path / "mine.txt").read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


# ---------------------------------------------------------------- after a kill


def killed_while(work: Callable[[], object]) -> None:
    """Run something in a process that kills itself (SIGKILL) at ``die``."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_next_write_of_a_file_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    path, other = tmp_path / "x.txt", tmp_path / "y.txt"

    def die_halfway() -> None:
        with replacing(path) as temporary:
            temporary.write_text("a long text that is not finished")
            die()

    for _ in range(3):
        killed_while(die_halfway)
    assert len(list(tmp_path.iterdir())) == 1  # three kills leave one file
    write_text(other, "other")
    assert len(list(tmp_path.iterdir())) == 2
    write_text(path, "new")
    assert sorted(tmp_path.iterdir()) == [path, other]
    assert path.read_text() == "new"


def test_the_next_write_of_a_folder_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    path = tmp_path / "results"

    def die_halfway() -> None:
        with replacing_folder(path) as temporary:
            (temporary / "half").mkdir()
            (temporary / "half" / "x").write_text("half")
            die()

    killed_while(die_halfway)
    with replacing_folder(path) as temporary:
        assert list(temporary.iterdir()) == []
        (temporary / "whole.txt").write_text("whole")
    assert list(tmp_path.iterdir()) == [path]
    assert [file.name for file in path.iterdir()] == ["whole.txt"]


def test_a_folder_whose_replacement_was_killed_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "results"
    with replacing_folder(path) as temporary:
        (temporary / "first.txt").write_text("first")

    def die_between_the_moves() -> None:
        with replacing_folder(path) as temporary:
            path.rename(temporary.with_suffix(".old"))
            die()

    killed_while(die_between_the_moves)
    assert not path.exists()

    def fail() -> None:
        with replacing_folder(path):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == [path]
    assert [file.name for file in path.iterdir()] == ["first.txt"]


def test_two_writers_of_a_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    with replacing(path) as first:
        first.write_text("first")
        with replacing(path) as second:
            second.write_text("second")
            assert first != second
        assert path.read_text() == "second"
        write_text(path, "third")  # takes no file that is still being written
        assert first.read_text() == "first"
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_temporary_folder_that_a_killed_process_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def die_inside() -> None:
        with temporary_folder("sepnet-x-") as folder:
            (folder / "sound.wav").write_bytes(b"sound")
            die()

    killed_while(die_inside)
    assert len(list(tmp_path.iterdir())) == 1
    with temporary_folder("sepnet-x-") as mine, temporary_folder("sepnet-x-") as other:
        assert sorted(tmp_path.iterdir()) == sorted([mine, other])  # what is in use stays
    assert list(tmp_path.iterdir()) == []


def test_an_abandoned_folder_is_removed_unless_it_is_in_use(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    remove_abandoned(folder, "lock")
    folder.mkdir()
    with (folder / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        remove_abandoned(folder, "lock")
        assert folder.is_dir()
    remove_abandoned(folder, "lock")
    assert not folder.exists()


# ---------------------------------------------------------------- files that were written


class Content(TypedDict):
    number: int
    names: list[str]


DAMAGED = (
    b"",
    b"null",
    b"[]",
    b"5",
    b"{",
    b"\xff",
    b"[" * 9000,
    b'{"number": 1}',
    b'{"number": "x", "names": []}',
)


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_file_is_refused_in_a_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(SepnetError, match=r"x\.json can't be read \(.+\): copy it again") as caught:
        read_json(path, Content)
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


def test_what_is_no_file_or_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    for path in (tmp_path, tmp_path / "none", tmp_path / "x", tmp_path / "x" / "y"):
        with pytest.raises(SepnetError, match="can't be read"):
            read_text(path)
    write_text(tmp_path / "x", "ä")
    assert read_text(tmp_path / "x") == "ä"


def test_a_name_that_is_too_long_is_told_before_its_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(SepnetError, match="give a name shorter than its 256 bytes"):
        exists(tmp_path / "new" / "folder" / ("é" * 128))
    assert not exists(tmp_path / "new" / "folder" / ("é" * 127))
