"""Preparing a corpus: a download is whole or not there, and the command line says what is wrong."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import resource
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import hydra
import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf
from scipy.signal import resample_poly

from sepnet import artifact
from sepnet.cli.prepare import prepare
from sepnet.data import audio, download
from sepnet.data.indexing import index
from sepnet.data.table import write_table
from sepnet.types import SepnetError

SCRIPT = Path(__file__).parents[1] / "scripts" / "prepare_data.py"
SUBSET = "dev-clean"


@dataclass
class Site:
    """One file on a server of this machine, and how it misbehaves."""

    content: bytes
    breaks_after: list[int] = field(default_factory=list)  # bytes sent before each first connection breaks
    ranges: bool = True
    status: int = 200
    asked: list[str | None] = field(default_factory=list)  # the Range header of each request
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    def __init__(self, site: Site, *args: object) -> None:
        self.site = site
        super().__init__(*args)  # type: ignore[arg-type]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.site.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.site.ranges else 0
        if start >= len(self.site.content) or self.site.status != 200:
            self.send_error(self.site.status if self.site.status != 200 else 416)
            return
        body = self.site.content[start:]
        self.send_response(206 if start else 200)
        if start:
            total = len(self.site.content)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.site.breaks_after.pop(0)] if self.site.breaks_after else body)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A tar.gz as LibriSpeech' are, with two speakers."""
    folder = tmp_path_factory.mktemp("archive")
    rng = np.random.default_rng(0)
    for speaker in (84, 85):
        samples = rng.uniform(-0.3, 0.3, 16000).astype(np.float32)
        path = folder / f"LibriSpeech/{SUBSET}/{speaker}/1/{speaker}-1-0000.flac"
        audio.write(path, samples, 16000, subtype="PCM_16")
    (folder / "LibriSpeech" / "LICENSE.TXT").write_text("CC BY 4.0")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(folder / "LibriSpeech", "LibriSpeech")
    return packed.getvalue()


@pytest.fixture
def site(archive: bytes) -> Iterator[Site]:
    served = Site(archive)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, served))
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def fetch(site: Site, target: Path) -> Path:
    return download.fetch(f"{site.url}/x.tar.gz", target, sha256=sha256(site.content), progress=False)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- download -----------------------------------------------------------------------------------------


def test_a_download_is_the_file(site: Site, tmp_path: Path) -> None:
    target = fetch(site, tmp_path / "deep" / "x.tar.gz")
    assert target.read_bytes() == site.content
    assert names(tmp_path / "deep") == ["x.tar.gz"]
    fetch(site, target)
    assert len(site.asked) == 1  # what is there is not fetched again


def test_a_wrong_checksum_leaves_nothing(site: Site, tmp_path: Path) -> None:
    with pytest.raises(SepnetError, match=rf"SHA-256 {sha256(site.content)}, not 0000.*deleted"):
        download.fetch(f"{site.url}/x", tmp_path / "x", sha256="0" * 64, progress=False)
    assert names(tmp_path) == []


def test_a_file_put_there_by_hand_is_verified(site: Site, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(site.content[:-1])
    with pytest.raises(SepnetError, match="delete it and run again"):
        fetch(site, tmp_path / "x")
    (tmp_path / "x").write_bytes(site.content)
    assert fetch(site, tmp_path / "x").is_file()
    assert site.asked == []


def test_a_connection_that_breaks_is_taken_up_where_it_broke(site: Site, tmp_path: Path) -> None:
    site.breaks_after = [1000, 500]
    assert fetch(site, tmp_path / "x").read_bytes() == site.content
    assert site.asked == [None, "bytes=1000-", "bytes=1500-"]


def test_a_run_that_was_stopped_goes_on(site: Site, tmp_path: Path) -> None:
    (tmp_path / "x.part").write_bytes(site.content[:2000])
    assert fetch(site, tmp_path / "x").read_bytes() == site.content
    assert site.asked == ["bytes=2000-"]
    (tmp_path / "y.part").write_bytes(site.content)  # stopped between the last byte and the checksum
    assert fetch(site, tmp_path / "y").read_bytes() == site.content
    assert names(tmp_path) == ["x", "y"]


def test_a_server_without_ranges_starts_over(site: Site, tmp_path: Path) -> None:
    site.ranges = False
    (tmp_path / "x.part").write_bytes(b"other bytes" * 9)
    assert fetch(site, tmp_path / "x").read_bytes() == site.content


def test_the_rest_of_another_file_is_found_out(site: Site, tmp_path: Path) -> None:
    (tmp_path / "x.part").write_bytes(bytes(2000))
    with pytest.raises(SepnetError, match="SHA-256"):
        fetch(site, tmp_path / "x")
    assert names(tmp_path) == []
    assert fetch(site, tmp_path / "x").is_file()


def test_a_connection_that_never_brings_a_byte_ends(site: Site, tmp_path: Path) -> None:
    site.breaks_after = [1000] + [0] * 50
    with pytest.raises(SepnetError, match=r"1000 of \d+ bytes arrived.*run again \(it continues"):
        fetch(site, tmp_path / "x")
    assert len(site.asked) == 1 + download.MAX_FAILURES
    assert names(tmp_path) == ["x.part"]


def test_an_answer_of_404_and_no_server_say_what_to_do(site: Site, tmp_path: Path) -> None:
    site.status = 404
    with pytest.raises(SepnetError, match=rf"{site.url}/x.tar.gz answers 404 .*put it at {tmp_path}/x"):
        fetch(site, tmp_path / "x")
    site.url = "http://127.0.0.1:1"
    with pytest.raises(SepnetError, match=r"can't download http://127\.0\.0\.1:1/x\.tar\.gz .*connect to"):
        fetch(site, tmp_path / "x")
    assert names(tmp_path) == []


def test_a_disk_that_fills_up_is_told(site: Site, tmp_path: Path) -> None:
    site.content = bytes(100_000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(SepnetError, match=r"can't write .*x\.part: File too large; \d+ MB are free"):
            fetch(site, tmp_path / "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "x").exists()


# --- unpacking ----------------------------------------------------------------------------------------


def test_an_archive_that_is_cut_off_leaves_no_folder(archive: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(archive[: len(archive) // 2])
    with pytest.raises(SepnetError, match=r"can't unpack .*x\.tar\.gz"):
        download.unpack(tmp_path / "x.tar.gz", tmp_path, f"LibriSpeech/{SUBSET}")
    assert names(tmp_path) == ["x.tar.gz"]


def test_an_archive_without_the_folder_is_refused(archive: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(archive)
    with pytest.raises(SepnetError, match="has no folder LibriSpeech/test-clean"):
        download.unpack(tmp_path / "x.tar.gz", tmp_path, "LibriSpeech/test-clean")
    assert names(tmp_path) == ["x.tar.gz"]


def test_an_archive_cannot_write_outside(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in" / "x.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("../../out.txt"), io.BytesIO())
    with pytest.raises(SepnetError, match="outside"):
        download.unpack(tmp_path / "in" / "x.tar", tmp_path / "in", "LibriSpeech")
    assert names(tmp_path) == ["in"]


def test_a_subset_is_fetched_unpacked_and_not_fetched_twice(site: Site, tmp_path: Path) -> None:
    settings = {"url": site.url, "checksums": {SUBSET: sha256(site.content)}, "progress": False}
    root = download.librispeech(root=tmp_path, subset=SUBSET, **settings)  # type: ignore[arg-type]
    assert names(root) == ["LICENSE.TXT", SUBSET]
    assert names(tmp_path) == ["LibriSpeech"]  # the archive is gone
    download.librispeech(root=tmp_path, subset=[SUBSET], **settings)  # type: ignore[arg-type]
    assert len(site.asked) == 1
    assert index(root, progress=False)[0].speakers == ("84", "85")
    with pytest.raises(SepnetError, match="no subset dev-claen: choose from dev-clean"):
        download.librispeech(root=tmp_path, subset="dev-claen")


# --- the command line ---------------------------------------------------------------------------------


def make_corpus(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for speaker in ("anna", "ben", "carl"):
        for take in range(2):
            audio.write(root / "dev" / speaker / f"{take}.wav", rng.uniform(-0.3, 0.3, 4000), 8000)
    (root / "dev" / "anna" / "bad.wav").write_bytes(b"")
    return root


def run(folder: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "no_proxy": "127.0.0.1"}
    command = [sys.executable, str(SCRIPT), *settings]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


def test_without_a_network_there_is_one_sentence_and_no_rest(tmp_path: Path) -> None:
    done = run(tmp_path, "corpus=librispeech", "subset=dev-clean", "fetch.url=http://127.0.0.1:1")
    assert done.returncode == 2
    assert "http://127.0.0.1:1/dev-clean.tar.gz" in done.stderr
    assert "put it at data/dev-clean.tar.gz" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def compose(name: str, *overrides: str) -> DictConfig:
    with hydra.initialize_config_dir(str(SCRIPT.parents[1] / "conf"), version_base="1.3"):
        return hydra.compose(name, overrides=list(overrides))


def config(corpus: str, **settings: object) -> OmegaConf:
    return OmegaConf.merge(compose("prepare", f"corpus={corpus}"), settings)  # type: ignore[return-value]


def test_a_folder_is_indexed_and_a_list_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    root = make_corpus(tmp_path / "my wavs")
    settings = {"split": "dev", "n_mixtures": 5, "csv": "dev.csv"}
    prepare(config("folder", root=str(root), list=settings))  # type: ignore[arg-type]
    said = capsys.readouterr().out
    assert "6 files, 3 speakers" in said
    assert "left out: 1: dev/anna/bad.wav" in said
    with (tmp_path / "dev.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 5
    names = {path.name for path in tmp_path.glob("data/index/*/*")}
    assert names == {"manifest.csv", "index.json", "skipped.csv"}


def test_librispeech_is_fetched_and_indexed_by_its_configuration(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(download.LIBRISPEECH_SHA256, SUBSET, sha256(site.content))
    prepare(config("librispeech", subset=SUBSET, fetch={"url": site.url}))  # type: ignore[arg-type]
    assert "dev: 2 files, 2 speakers" in capsys.readouterr().out
    assert (tmp_path / "data" / "LibriSpeech" / SUBSET / "84").is_dir()


def test_what_is_prepared_is_what_data_librispeech_and_librimix_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """prepare_data.py corpus=librispeech, then train.py data=librispeech, then eval.py data=librimix."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "data" / "LibriSpeech"
    subsets = {
        "train-clean-100": "ab",
        "train-clean-360": "c",
        "dev-clean": "de",
        "test-clean": "fg",
        "test-other": "h",
    }
    for number, (subset, speakers) in enumerate(subsets.items()):
        for who in speakers:
            noise = np.random.default_rng([number, ord(who)]).uniform(-0.3, 0.3, 24000)
            audio.write(root / subset / who / "7" / f"{who}-7-0000.flac", noise, 16000, subtype="PCM_16")
    prepare(config("librispeech"))  # type: ignore[arg-type]  # all three subsets are there: nothing is fetched
    table = tmp_path / "data/LibriMix/metadata/Libri2Mix/libri2mix_test-clean.csv"
    names, gains = [f"test-clean/{who}/7/{who}-7-0000.flac" for who in "fg"], (0.5, 0.75)
    row = ["f_g", names[0], gains[0], names[1], gains[1]]
    columns = ["mixture_ID", "source_1_path", "source_1_gain", "source_2_path", "source_2_gain"]
    built = {
        name: artifact.build(compose("train", f"data={name}").data) for name in ("librispeech", "librimix")
    }
    with pytest.raises(SepnetError, match=r"git clone https://github.com/JorisCos/LibriMix data/LibriMix"):
        built["librimix"].test()
    write_table(table, columns, [row])
    for data in built.values():
        example = data.train()[0, 0]
        assert example.mixture.shape == (1, 24000)  # 3 s at 8 kHz
        assert {part.strip("_") for part in example.id.split(".flac") if part} == {
            f"train-clean-100/{who}/7/{who}-7-0000" for who in "ab"
        }
        assert {part[:8] for part in data.valid().id(0).split("_")} == {"d-7-0000", "e-7-0000"}
    assert all(name.startswith(("f-", "g-")) for name in built["librispeech"].test().id(0).split("_"))
    (mixture,) = built["librimix"].test()
    sounds = [audio.read(root / name)[0][0] for name in names]
    expected = sum(resample_poly(gain * x, 1, 2) for gain, x in zip(gains, sounds, strict=True))
    np.testing.assert_allclose(mixture.audio[0].numpy(), expected, atol=1e-5)
    assert mixture.sample_rate == 8000


def test_the_command_line_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SepnetError, match=r"root has no value: set root="):
        prepare(config("folder"))  # type: ignore[arg-type]
    root = str(make_corpus(tmp_path / "wavs"))
    with pytest.raises(SepnetError, match=r"list\.split is dev and list\.csv is None"):
        prepare(config("folder", root=root, list={"split": "dev"}))  # type: ignore[arg-type]
    with pytest.raises(SepnetError, match=r"4 speakers are needed .* has 3"):
        prepare(config("folder", root=root, list={"split": "dev", "csv": "x.csv", "n_sources": 4}))  # type: ignore[arg-type]
    assert not (tmp_path / "x.csv").exists()


def test_every_corpus_of_the_group_has_the_keys_that_the_command_reads() -> None:
    for path in sorted((SCRIPT.parents[1] / "conf" / "corpus").glob("*.yaml")):
        composed = config(path.stem)
        assert {"root", "fetch", "corpus", "list"} <= set(composed)  # type: ignore[call-overload]
        assert composed.corpus._target_ == "sepnet.data.corpus.Corpus"  # type: ignore[attr-defined]


def test_what_a_run_left_that_was_killed_once_its_folder_was_there_is_removed(tmp_path: Path) -> None:
    (tmp_path / "LibriSpeech" / SUBSET).mkdir(parents=True)
    (tmp_path / f"{SUBSET}.tar.gz").write_bytes(b"all of it")
    (tmp_path / f".{SUBSET}.tar.gz.unpacking").mkdir()
    download.librispeech(root=tmp_path, subset=SUBSET, url="http://127.0.0.1:9")
    assert names(tmp_path) == ["LibriSpeech"]


def test_a_download_that_can_t_begin_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SepnetError, match="can't download"):
        download.librispeech(root=tmp_path / "new", subset=SUBSET, url="http://127.0.0.1:9")
    assert names(tmp_path) == []
