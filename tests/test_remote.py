"""Recordings and results in stores: an S3 on this machine, with faults, and fsspec's memory."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from store_fixtures import BUCKET, SECRET, Fault, Store, _proxied, _store, _temporary, sound  # noqa: F401

from sepnet import remote
from sepnet.cli import separate
from sepnet.inference.recording_list import read_list
from sepnet.inference.side_sound import read_side_sound
from sepnet.types import SepnetError
from sepnet.urls import shown, split_pattern

fsspec = pytest.importorskip("fsspec")


def separated(*words: str | Path) -> None:
    before = sys.argv
    model = [] if any(str(word).startswith("model=") for word in words) else ["model=hpss"]
    sys.argv = ["sepnet separate", *model, *map(str, words)]
    try:
        separate.main()
    finally:
        sys.argv = before


def refusal(capsys: pytest.CaptureFixture[str], *words: str | Path, status: int = 2) -> str:
    with pytest.raises(SystemExit) as ended:
        separated(*words)
    printed = capsys.readouterr()
    assert ended.value.code == status, printed
    assert SECRET not in printed.out + printed.err
    assert "Traceback" not in printed.err
    return printed.err


# One recording


def test_the_sources_are_those_of_local_files(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mix.wav").write_bytes(sound(0))
    separated(tmp_path / "mix.wav", f"out={tmp_path}/local")
    capsys.readouterr()
    separated(store.put("in/mix.wav", sound(0)), f"out=s3://{BUCKET}/out")
    names = {"mix_harmonic.wav", "mix_percussive.wav", "mix_separation.json"}
    assert store.names("out") == {*names, "separated.csv"}
    for name in names - {"mix_separation.json"}:
        local, _ = soundfile.read(tmp_path / "local" / name)
        stored, _ = soundfile.read(io.BytesIO(store.fs.cat_file(f"{BUCKET}/out/{name}")))
        assert np.array_equal(local, stored)
    printed = capsys.readouterr().out
    assert f"s3://{BUCKET}/in/mix.wav: 0.50 s" in printed
    assert f"-> s3://{BUCKET}/out/mix_harmonic.wav" in printed
    assert "/temporary/" not in printed
    record = json.loads(store.fs.cat_file(f"{BUCKET}/out/mix_separation.json"))
    assert record["job"]["file"] == "mix.wav"
    assert record["job"]["bytes"] == len(sound(0))
    content = b"".join(store.fs.cat_file(f"{BUCKET}/out/{name}") for name in store.names("out"))
    assert SECRET.encode() not in content
    assert b"/temporary/" not in content


def test_a_recording_in_a_store_and_results_on_this_machine_go_on(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = store.put("in/mix.wav", sound(0))
    separated(url, f"out=file://{tmp_path}/out")
    assert (tmp_path / "out/mix_harmonic.wav").is_file()
    capsys.readouterr()
    separated(url, f"out={tmp_path}/out")
    assert f"{url}: separated already" in capsys.readouterr().out
    store.put("in/mix.wav", sound(1))
    assert "exist already" in refusal(capsys, url, f"out={tmp_path}/out")


def test_results_need_a_place(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert "need a folder" in refusal(capsys, store.put("in/mix.wav", sound(0)))


def test_a_local_recording_with_results_in_a_store(store: Store, tmp_path: Path) -> None:
    (tmp_path / "mix.wav").write_bytes(sound(0))
    separated(f"file://{tmp_path}/mix.wav", f"out=s3://{BUCKET}/out")
    assert "mix_percussive.wav" in store.names("out")


def test_what_another_has_put_there_stays(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    url = store.put("in/mix.wav", sound(0))
    store.put("out/mix_harmonic.wav", b"precious")
    message = refusal(capsys, url, f"out=s3://{BUCKET}/out")
    assert f"s3://{BUCKET}/out/mix_harmonic.wav exist already: give overwrite=true" in message
    assert store.fs.cat_file(f"{BUCKET}/out/mix_harmonic.wav") == b"precious"
    separated(url, f"out=s3://{BUCKET}/out", "overwrite=true")
    assert store.fs.cat_file(f"{BUCKET}/out/mix_harmonic.wav") != b"precious"


# Folders, lists and second runs


def test_a_folder_keeps_its_folders_and_a_second_run_goes_on(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("a/x.wav", "b/x.wav", "b/.hidden.wav", "notes.txt")):
        store.put(f"in/{name}", sound(number))
    store.put("in/b/broken.wav", b"no sound")
    words = f"s3://{BUCKET}/in", f"out=s3://{BUCKET}/in/out"
    message = refusal(capsys, *words, status=1)
    assert "1 of 3 recordings" in message
    assert f"s3://{BUCKET}/in/b/broken.wav" in message
    assert {"a/x_harmonic.wav", "b/x_percussive.wav"} < store.names("in/out")
    rows = {row["path"]: row for row in store.table("in/out/separated.csv")}
    assert rows[f"s3://{BUCKET}/in/a/x.wav"]["output"] == f"s3://{BUCKET}/in/out/a/x"
    assert {row["status"] for row in rows.values()} == {"ok", "failed"}
    store.put("in/b/broken.wav", sound(9))
    store.requests.clear()
    separated(*words)
    assert "2 of 3 recordings are separated already" in capsys.readouterr().out
    assert not [path for method, path in store.requests if method == "GET" and path.endswith("in/a/x.wav")]
    assert [row["status"] for row in store.table("in/out/separated.csv")] == ["ok"] * 3


@pytest.mark.parametrize("n_processes", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_list_in_a_store(store: Store, capsys: pytest.CaptureFixture[str], n_processes: int) -> None:
    for number in range(2):
        store.put(f"in/{number}.wav", sound(number))
    rows = ["0.wav,monday/call", f"s3://{BUCKET}/in/1.wav,", "2.wav,"]
    url = store.put("in/calls.csv", "\n".join(["path,name", *rows, ""]).encode())
    words = f"list={url}", f"out=s3://{BUCKET}/out", f"n_processes={n_processes}"
    message = refusal(capsys, *words, status=1)
    assert f"there is no s3://{BUCKET}/in/2.wav" in message
    assert {"monday/call_harmonic.wav", "1_harmonic.wav"} < store.names("out")
    store.fs.rm_file(f"{BUCKET}/out/separated.csv")  # the records tell, too, what is done
    message = refusal(capsys, *words, status=1)
    assert [row["status"] for row in store.table("out/separated.csv")].count("ok") == 2
    assert "1 of 3 recordings" in message


def test_a_run_that_was_stopped_while_it_put_its_results_goes_on(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    url = store.put("in/mix.wav", sound(0))
    store.faults.append(Fault("500", "PUT", "mix_percussive", times=99))
    message = refusal(capsys, url, f"out=s3://{BUCKET}/out")
    assert "mix_percussive.wav can't be written in 3 attempts: the store answers with status 500" in message
    assert "mix_separation.json" not in store.names("out")
    store.faults.clear()
    separated(url, f"out=s3://{BUCKET}/out")
    assert store.names("out") == {
        "mix_harmonic.wav", "mix_percussive.wav", "mix_separation.json", "separated.csv"
    }  # fmt: skip


def test_relative_paths_of_a_list_start_at_its_url(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("path\nday/a.wav\ngs://other/b.wav?token=x\n/there/c.wav\n")
    with pytest.raises(SepnetError, match=r"1 files .* are not there: /there/c.wav"):
        read_list(tmp_path / "l.csv", "s3://out", "s3://in/lists")
    (tmp_path / "l.csv").write_text("path\nday/a.wav\ngs://other/b.wav?token=x\n")
    first, second = read_list(tmp_path / "l.csv", "s3://out", "s3://in/lists")
    assert (first.name, first.output) == ("s3://in/lists/day/a.wav", "s3://out/day/a")
    assert (second.name, second.output) == ("gs://other/b.wav", "s3://out/b")
    (tmp_path / "l.csv").write_text("path\n../a.wav\n")
    with pytest.raises(SepnetError, match="leads out of s3://in/lists"):
        read_list(tmp_path / "l.csv", "s3://out", "s3://in/lists")


# Faults


@pytest.mark.parametrize("kind", ["500", "503", "cut", "slow"])
def test_a_fault_that_passes_is_not_noticed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(remote, "BLOCK_BYTES", 1000)
    if kind == "slow":
        monkeypatch.setattr(remote, "BLOCK_SECONDS", 1.5)
    content = sound(0)
    url = store.put("in/mix.wav", content)
    described = remote.describe(url)
    store.faults.append(Fault(kind, "GET", "in/mix.wav", times=2 if kind != "slow" else 1))
    remote.fetch(described, tmp_path / "copy.wav")
    assert (tmp_path / "copy.wav").read_bytes() == content
    n_blocks = -(-len(content) // 1000)
    assert len([path for method, path in store.requests if method == "GET"]) > n_blocks


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("500", "status 500"),
        ("cut", "not all of it arrives"),
        ("slow", "too long to answer"),
    ],
)
def test_a_fault_that_stays_is_told_and_leaves_nothing(
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    message: str,
) -> None:
    if kind == "slow":
        monkeypatch.setattr(remote, "BLOCK_SECONDS", 1.5)
    monkeypatch.setattr(type(store.fs), "retries", 1)
    url = store.put("in/mix.wav", sound(0))
    store.faults.append(Fault(kind, "GET", "in/mix.wav", times=99))
    told = refusal(capsys, url, f"out={tmp_path}/out")
    assert f"{url} can't be read in 3 attempts" in told
    assert message in told
    assert not (tmp_path / "out").exists()


def test_a_file_that_changes_while_it_is_read_is_refused(store: Store, tmp_path: Path) -> None:
    described = remote.describe(store.put("in/mix.wav", sound(0)))
    store.put("in/mix.wav", sound(1))
    with pytest.raises(SepnetError, match="was changed while it was read"):
        remote.fetch(described, tmp_path / "copy.wav")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"s3://{BUCKET}/in/none.wav", f"there is no s3://{BUCKET}/in/none.wav"),
        ("s3://no-such-bucket/mix.wav", "there is no s3://no-such-bucket/mix.wav"),
        (f"s3://{BUCKET}/closed/mix.wav", "the store refuses access"),
        ("ftq://me:hidden@host/mix.wav?key=hidden", "ftq://host/mix.wav has an unknown protocol"),
    ],
)
def test_bad_urls_end_with_one_sentence(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str, message: str
) -> None:
    store.put("closed/mix.wav", sound(0))
    good = store.put("in/good.wav", sound(1))
    store.faults += [Fault("403", "HEAD", "closed", times=99), Fault("403", "GET", "closed", times=99)]
    told = refusal(capsys, url, f"out={tmp_path}/out")
    assert message in told
    assert "hidden" not in told
    assert len(told.strip().splitlines()) == 1
    if "closed" in url:
        assert message in refusal(capsys, good, url, f"out={tmp_path}/out", status=1)
        assert (tmp_path / "out/good_harmonic.wav").is_file()


def test_a_place_that_may_not_be_written_is_refused_before_work_begins(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    url = store.put("in/mix.wav", sound(0))
    store.faults.append(Fault("403", "PUT", "closed", times=99))
    assert "can't be written, because the store refuses access" in refusal(
        capsys, url, f"out=s3://{BUCKET}/closed"
    )
    assert not [path for method, path in store.requests if method == "GET" and path.endswith("in/mix.wav")]
    assert "there is no s3://no-such-bucket/" in refusal(capsys, url, "out=s3://no-such-bucket/out")


def test_a_store_that_can_not_be_reached(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    type(store.fs).clear_instance_cache()
    message = refusal(capsys, f"s3://{BUCKET}/mix.wav", f"out={tmp_path}/out")
    assert f"the store of s3://{BUCKET}/mix.wav can't be reached" in message
    type(store.fs).clear_instance_cache()


# Without a server


@pytest.fixture(name="memory")
def _memory(temporary: Path) -> Iterator[Any]:
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    yield fs
    fs.store.clear()
    assert not list(temporary.iterdir())


def test_other_stores_are_written_under_a_temporary_name(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe_file("/in/mix.wav", sound(0))
    separated("memory://in", "out=memory://out")
    names = {"mix_harmonic.wav", "mix_percussive.wav", "mix_separation.json", "separated.csv"}
    assert {path.removeprefix("/out/") for path in memory.find("/out")} == names
    memory.pipe_file("/out/a.txt", b"before")
    (tmp_path / "a.txt").write_bytes(b"after")

    def put_half(source: str, target: str) -> None:
        memory.pipe_file(target, Path(source).read_bytes()[:2])

    monkeypatch.setattr(type(memory), "put_file", lambda _, source, target: put_half(source, target))
    with pytest.raises(SepnetError, match="not all of it arrives"):
        remote.put(tmp_path / "a.txt", "memory://out/a.txt")
    assert memory.cat_file("/out/a.txt") == b"before"
    assert {path.removeprefix("/out/") for path in memory.find("/out")} == {*names, "a.txt"}


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ImportError("no module named secret")

    monkeypatch.setattr(fsspec, "url_to_fs", refuse)
    with pytest.raises(SepnetError, match=r"gs:// needs a package .*: pip install gcsfs"):
        remote.describe("gs://bucket/mix.wav")
    with pytest.raises(SepnetError, match=r"s3:// needs a package .*: pip install 'sepnet\[remote\]'"):
        remote.describe("s3://bucket/mix.wav")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bucket/a b/c.wav", "s3://bucket/a b/c.wav"),
        ("https://me:key@host:80/c.wav?X-Amz-Signature=1", "https://host:80/c.wav"),
        ("sftp://me@host/c.wav", "sftp://host/c.wav"),
        ("ftp://me:a/b@host/c.wav", "ftp://host/c.wav"),
        ("hf://datasets/me/set@main/c.wav", "hf://datasets/me/set@main/c.wav"),
    ],
)
def test_urls_are_shown_without_credentials(url: str, expected: str) -> None:
    assert shown(url) == expected


def test_errors_are_told_without_their_text(monkeypatch: pytest.MonkeyPatch, memory: Any) -> None:
    monkeypatch.setattr(remote, "WAITS_SECONDS", ())

    def fail(*_: object) -> None:
        raise OSError(f"key={SECRET}")

    monkeypatch.setattr(type(memory), "info", fail)
    with pytest.raises(SepnetError, match="can't be read") as raised:
        remote.describe("memory://mix.wav")
    assert SECRET not in str(raised.value)


# Patterns, examples and references


def test_a_pattern_of_a_url(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, name in enumerate(("a/1.wav", "a/2.wav", "b/3.wav", "b/deep/4.wav", "b/.5.wav", "[x].wav")):
        store.put(f"in/{name}", sound(number))
    separated(f"s3://{BUCKET}/in/*/[12].wav", f"out={tmp_path}/out")
    assert {path.name for path in (tmp_path / "out").glob("*_harmonic.wav")} == {
        "1_harmonic.wav", "2_harmonic.wav"
    }  # fmt: skip
    separated(f"s3://{BUCKET}/in/b/**/*.wav", f"out={tmp_path}/b")
    assert {path.name for path in (tmp_path / "b").glob("*_harmonic.wav")} == {
        "3_harmonic.wav", "4_harmonic.wav"
    }  # fmt: skip
    separated(f"s3://{BUCKET}/in/[x].wav", f"out={tmp_path}/x")  # a name, not a pattern
    assert (tmp_path / "x/[x]_harmonic.wav").is_file()
    message = refusal(capsys, f"s3://{BUCKET}/in/*.mp3", f"out={tmp_path}/out")
    assert f"no file matches s3://{BUCKET}/in/*.mp3" in message
    assert "name one" in refusal(capsys, "s3://*/mix.wav", f"out={tmp_path}/out")


@pytest.mark.parametrize(
    ("url", "folder", "pattern"),
    [
        ("s3://calls/2026-*/a.wav", "s3://calls", "2026-*/a.wav"),
        ("https://host:80/x/[ab].wav?key=1*", "https://host:80/x?key=1*", "[ab].wav"),
        ("s3://calls/a.wav", "s3://calls", "a.wav"),
    ],
)
def test_a_url_is_split_before_its_pattern(url: str, folder: str, pattern: str) -> None:
    assert split_pattern(url) == (folder, pattern)


def test_an_example_in_a_store(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mix.wav").write_bytes(sound(0, seconds=2))
    (tmp_path / "bark.wav").write_bytes(sound(1, seconds=1))
    url = store.put("examples/bark.wav", sound(1, seconds=1))
    words = tmp_path / "mix.wav", "model=energy_reference"
    separated(*words, f"query={tmp_path}/bark.wav", f"out={tmp_path}/local")
    separated(*words, f"query={url}", f"out={tmp_path}/stored")
    names = sorted(path.name for path in (tmp_path / "local").glob("*.wav"))
    assert names
    for name in names:
        local, stored = (soundfile.read(tmp_path / folder / name)[0] for folder in ("local", "stored"))
        assert np.array_equal(local, stored)
    capsys.readouterr()
    separated(*words, f"query={url}", f"out={tmp_path}/stored")
    assert "separated already" in capsys.readouterr().out
    store.put("examples/bark.wav", sound(2, seconds=1))
    assert "exist already" in refusal(capsys, *words, f"query={url}", f"out={tmp_path}/stored")
    message = refusal(capsys, *words, f"query=s3://{BUCKET}/none.wav?key={SECRET}")
    assert f"there is no s3://{BUCKET}/none.wav" in message
    store.put("examples/text.wav", b"no sound")
    message = refusal(capsys, *words, f"query=s3://{BUCKET}/examples/text.wav")
    assert f"s3://{BUCKET}/examples/text.wav" in message


def test_a_reference_in_a_store_is_read_as_a_file(store: Store, tmp_path: Path) -> None:
    (tmp_path / "bark.wav").write_bytes(sound(1))
    local = read_side_sound(tmp_path / "bark.wav")
    stored = read_side_sound(url := store.put("in/bark.wav", sound(1)))
    assert np.array_equal(stored.sound.audio, local.sound.audio)
    assert (stored.sha1, stored.name, stored.file) == (local.sha1, url, None)
    assert local.file == tmp_path / "bark.wav"
