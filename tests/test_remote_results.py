"""Evaluations whose results go to a store: an S3 on this machine, with faults."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from store_fixtures import BUCKET, SECRET, Fault, Store, _proxied, _store, _temporary, sound  # noqa: F401
from training_fixtures import make_corpus

from sepnet import remote_folder
from sepnet.cli import evaluate
from sepnet.remote_folder import stored_folder
from sepnet.types import SepnetError

URL = f"s3://{BUCKET}/results"


@pytest.fixture(name="words", scope="module")
def _words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    home = tmp_path_factory.mktemp("corpus")
    return [
        "data=folder", f"data.corpus.root={make_corpus(home / 'wavs')}", "n_processes=0", "measures=[si_sdr]",
        f"data.corpus.index_dir={home / 'index'}", "limit=2", "cost_mixtures=0",
    ]  # fmt: skip


def evaluated(*words: str) -> None:
    before = sys.argv
    sys.argv = ["sepnet eval", *words]
    try:
        evaluate.main()
    finally:
        sys.argv = before


def separators(store: Store, path: str = "results/rows.csv") -> list[str]:
    return [row["separator"] for row in store.table(path)]


def test_results_go_to_a_store_and_a_second_command_goes_on(
    store: Store, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated(*words, "separators=[identity]", f"out={tmp_path}/local")
    capsys.readouterr()
    evaluated(*words, "separators=[identity]", f"out={URL}")
    printed = capsys.readouterr()
    assert f"look and listen: {URL}/report.html" in printed.out
    assert "/temporary/" not in printed.out + printed.err
    local = {path.relative_to(tmp_path / "local").as_posix() for path in (tmp_path / "local").rglob("*.*")}
    assert store.names("results") == local
    assert separators(store) == ["identity"] * 4
    store.requests.clear()
    evaluated(*words, "separators=[identity,irm]", f"out={URL}")
    assert separators(store) == ["identity"] * 4 + ["irm"] * 4
    assert "1 mixture" not in capsys.readouterr().err
    evaluated(f"compare=[{tmp_path}/local/rows.csv]", f"out=s3://{BUCKET}/joined")
    assert separators(store, "joined/rows.csv") == ["identity"] * 4
    content = b"".join(store.fs.cat_file(f"{BUCKET}/results/{name}") for name in store.names("results"))
    assert SECRET.encode() not in content


def test_a_store_that_can_not_be_written_is_refused_before_work_begins(
    store: Store, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    store.faults.append(Fault("403", "PUT", "results", times=99))
    with pytest.raises(SystemExit):
        evaluated(*words, "separators=[identity]", f"out={URL}")
    assert "can't be written, because the store refuses access" in capsys.readouterr().err
    assert not store.names("results")


def test_what_changes_is_put_now_and_then_and_at_the_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_folder, "PUT_SECONDS", 0.05)
    store.put("results/before.txt", b"before")
    with pytest.raises(RuntimeError, match="stopped"), stored_folder(URL) as folder:  # noqa: PT012
        assert (folder / "before.txt").read_bytes() == b"before"
        (folder / "rows.csv").write_text("one")
        for _ in range(200):
            if "rows.csv" in store.names("results"):
                break
            time.sleep(0.05)
        assert store.fs.cat_file(f"{BUCKET}/results/rows.csv") == b"one"
        (folder / "audio").mkdir()
        (folder / "audio/a.wav").write_text("sound")
        (folder / ".hidden").touch()
        raise RuntimeError("stopped")
    assert store.names("results") == {"before.txt", "rows.csv", "audio/a.wav"}
    puts = [path for method, path in store.requests if method == "PUT" and path.endswith("before.txt")]
    assert len(puts) == 1, "only what the test itself has put"


def test_results_that_can_not_be_put_are_kept(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kept_in = pytest.raises(SepnetError, match="all results are kept in")
    with kept_in as raised, stored_folder(URL) as folder:
        (folder / "rows.csv").write_text("precious")
        store.faults.append(Fault("500", "PUT", "rows.csv", times=99))
    [kept] = tmp_path.glob("sepnet-results-*/rows.csv")
    assert kept.read_text() == "precious"
    assert str(kept.parent) in str(raised.value)
