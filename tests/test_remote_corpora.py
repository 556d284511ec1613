"""Corpora in stores: an S3 on this machine, with faults."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from store_fixtures import BUCKET, Fault, Store, _proxied, _store, _temporary, sound  # noqa: F401

from sepnet.cli import prepare
from sepnet.data.corpus import Corpus
from sepnet.data.synthetic import ToyCorpus
from sepnet.types import SepnetError

URL = f"s3://{BUCKET}/voices"
FILES = ("train/ann/1.wav", "train/ann/2.wav", "train/ben/1.wav", "dev/cem/1.wav")


def put_corpus(store: Store) -> None:
    for number, name in enumerate(FILES):
        store.put(f"voices/{name}", sound(number))


def open_corpus(home: Path, url: str = URL, **settings: object) -> Corpus:
    return Corpus(
        root=url, copy_dir=home / "copies/voices", index_dir=home / "index", progress=False, **settings
    )  # type: ignore[arg-type]


def fetched(store: Store) -> list[str]:
    """The sounds that were read since, sorted."""
    names = [path.partition("voices/")[2] for method, path in store.requests if method == "GET"]
    store.requests.clear()
    return sorted(name for name in names if name.endswith(".wav"))


def test_a_corpus_is_that_of_the_same_local_folder(store: Store, tmp_path: Path) -> None:
    put_corpus(store)
    store.put("voices/speakers.csv", b"speaker,gender\nann,F\nben,M\ncem,M\n")
    store.put("voices/train/ann/.hidden.wav", sound(9))
    store.put("voices/noise/hum.wav", sound(9))
    store.put("voices/notes.txt", b"not read")
    stored = open_corpus(tmp_path, exclude=["noise/*"]).manifest()
    assert fetched(store) == sorted(FILES)
    for number, name in enumerate(FILES):
        (tmp_path / "local" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "local" / name).write_bytes(sound(number))
    local = Corpus(root=tmp_path / "local", index_dir=tmp_path / "index of local", progress=False).manifest()
    assert stored.utterances == local.utterances
    assert stored.fingerprint == local.fingerprint
    assert stored.sexes == {"ann": "f", "ben": "m", "cem": "m"}
    assert {path.name for path in stored.root.rglob("*") if path.is_file()} == {
        "1.wav", "2.wav", "speakers.csv"
    }  # fmt: skip


def test_only_what_changed_is_fetched_again(store: Store, tmp_path: Path) -> None:
    put_corpus(store)
    corpus = open_corpus(tmp_path)
    before = corpus.manifest()
    fetched(store)
    store.put("voices/train/ann/1.wav", sound(7))
    assert corpus.manifest() == before, "of one moment"
    assert open_corpus(tmp_path).manifest().fingerprint != before.fingerprint
    assert fetched(store) == ["train/ann/1.wav"]
    store.fs.rm_file(f"{BUCKET}/voices/train/ann/2.wav")
    after = open_corpus(tmp_path).manifest()
    assert [u.path for u in after] == sorted(set(FILES) - {"train/ann/2.wav"})
    assert fetched(store) == []
    (after.root / "dev/cem/1.wav").write_bytes(b"cut")
    assert len(open_corpus(tmp_path).manifest()) == 3
    assert fetched(store) == ["dev/cem/1.wav"]


def test_what_was_interrupted_goes_on(store: Store, tmp_path: Path) -> None:
    put_corpus(store)
    store.faults.append(Fault("500", "GET", "voices/train/ben/1.wav", times=99))
    with pytest.raises(SepnetError, match=rf"{URL}/train/ben/1.wav can't be read in 3 attempts"):
        open_corpus(tmp_path).manifest()
    store.faults.clear()
    fetched(store)
    with (tmp_path / "copies/voices.jsonl").open("a") as stream:
        stream.write('["train/ben/1.wav", [12')  # as a killed process leaves it
    assert len(open_corpus(tmp_path).manifest()) == len(FILES)
    assert "train/ben/1.wav" in (again := fetched(store))
    assert len(again) < len(FILES)


def test_a_corpus_that_can_not_be_had_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SepnetError, match=rf"no sound under {URL}"):
        open_corpus(tmp_path).manifest()
    put_corpus(store)
    with pytest.raises(SepnetError, match="user, a password or a query string") as refused:
        open_corpus(tmp_path, f"s3://me:hidden@{BUCKET}/voices?key=hidden")
    assert "hidden" not in str(refused.value)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 90, 10))  # type: ignore[attr-defined]
    with pytest.raises(SepnetError, match="MB free: make room, or point copy_dir"):
        open_corpus(tmp_path).manifest()
    monkeypatch.undo()
    store.put("voices/a/../../../outside.wav", sound(0))
    if any(".." in name for name in store.names("voices")):  # not every store keeps such names
        with pytest.raises(SepnetError, match=r"have \.\. in their names"):
            open_corpus(tmp_path).manifest()
    assert not list(tmp_path.rglob("outside.wav"))


def test_prepare_reads_a_corpus_in_a_store(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put_corpus(store)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sepnet prepare", "corpus=folder", f"root={URL}"])
    prepare.main()
    assert "4 files" in capsys.readouterr().out
    [copies] = (tmp_path / "data/copies").glob("voices-*/")
    assert (copies / "train/ann/1.wav").read_bytes() == sound(0)
    monkeypatch.setattr(sys, "argv", ["sepnet prepare", "corpus=toy", f"root={URL}"])
    with pytest.raises(SystemExit):
        prepare.main()
    assert "only a path can be given" in capsys.readouterr().err
    with pytest.raises(SepnetError, match="only a path can be given"):
        ToyCorpus(root=URL)
