"""Files and folders are written whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from sepnet.atomic import replacing, replacing_folder, write_text
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
