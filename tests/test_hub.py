"""Models on the hub, which here is a server of our own on the loopback."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from training_fixtures import forked

import sepnet
from sepnet import artifact
from sepnet.artifact import hub
from sepnet.types import Mixture, SepnetError

SHIPPED = artifact.SHIPPED / artifact.DEFAULT
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SEPARATE = """
import sys, torch, sepnet
noise = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
separator = sepnet.load(sys.argv[1])
print(float(separator.separate(sepnet.types.Mixture(noise, 8000)).sources[0].abs().sum()))
"""

INFO = "import sys, sepnet; print(sepnet.load(sys.argv[1]).info)"


class Hub(BaseHTTPRequestHandler):
    """What fetching asks: what a model is and what it holds, and of each file the head and the body."""

    files: dict[str, bytes] = {}  # noqa: RUF012
    status = 200  # of every answer
    cut = False  # whether the first answer with a large body ends in the middle
    lies = False  # whether the announced checksum is another than that of the content
    asked: list[str] = []  # noqa: RUF012

    def log_message(self, *_: Any) -> None: ...

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(path)
        prefix = f"/someone/voices/resolve/{COMMIT}/"
        if self.status != 200:
            self._send(self.status, b"{}", {}, body)
        elif path.startswith("/api/models/someone/voices/tree/"):
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in self.files.items()
            ]
            self._send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"}, body)
        elif path.startswith("/api/models/someone/voices"):
            names = [{"rfilename": name} for name in self.files]
            told = json.dumps({"id": "someone/voices", "sha": COMMIT, "siblings": names, "tags": []}).encode()
            self._send(200, told, {"Content-Type": "application/json"}, body)
        elif path.startswith(prefix) and path.removeprefix(prefix) in self.files:
            content = self.files[path.removeprefix(prefix)]
            is_large = len(content) > 10_000
            etag = hashlib.sha256(content).hexdigest() if is_large else hashlib.sha1(content).hexdigest()
            etag = "0" * 64 if is_large and self.lies else etag
            headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
            if body and is_large and self.cut:
                type(self).cut = False
                self._send(200, content, headers, body, sent=len(content) // 2)
            else:
                self._send(200, content, headers, body)
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)

    def _send(
        self, status: int, content: bytes, headers: dict[str, str], body: bool, sent: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content[:sent])
        if sent is not None:
            self.close_connection = True


@pytest.fixture(name="server")
def _server() -> Iterator[str]:
    Hub.files = {path.name: path.read_bytes() for path in SHIPPED.iterdir()}
    Hub.files["train.py"] = b"raise SystemExit('never fetched')"
    Hub.asked = []
    Hub.status, Hub.cut, Hub.lies = 200, False, False
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def settings(home: Path, endpoint: str) -> dict[str, str]:
    return {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1"}


def python(code: str, *words: str, home: Path, endpoint: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, since huggingface_hub reads its settings when it is imported."""
    with tempfile.TemporaryDirectory(dir=home) as folder:
        streams = Path(folder, "stdout"), Path(folder, "stderr")
        process = forked(_run, code, words, home, settings(home, endpoint), streams)
        process.join()
        assert process.exitcode is not None
        out, err = (stream.read_text() for stream in streams)
    return subprocess.CompletedProcess(["python", "-c", code, *words], process.exitcode, out, err)


def _run(
    code: str, words: Sequence[str], home: Path, variables: dict[str, str], streams: Sequence[Path]
) -> None:
    for number, stream in zip((1, 2), streams, strict=True):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    os.environ.update(variables)
    os.chdir(home)
    importlib.reload(huggingface_hub.constants)
    sys.argv = ["-c", *words]
    exec(code, {"__name__": "__main__"})


def test_a_name_on_the_hub_loads_as_a_folder_and_is_kept(server: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SEPARATE, "someone/voices"]
    variables = {**os.environ, **settings(tmp_path, server)}
    fetched = subprocess.run(
        command, capture_output=True, text=True, check=False, env=variables, cwd=tmp_path
    )
    assert fetched.returncode == 0, fetched.stderr
    here = python(SEPARATE, str(SHIPPED), home=tmp_path, endpoint="http://127.0.0.1:9")
    assert fetched.stdout == here.stdout
    assert not any(path.endswith("train.py") for path in Hub.asked)  # a run folder's own files alone
    again = python(SEPARATE, "someone/voices", home=tmp_path, endpoint="http://127.0.0.1:9")
    assert again.stdout == fetched.stdout, again.stderr  # the hub is gone, the files are kept


@pytest.mark.parametrize(
    ("name", "there", "reason"),
    [
        ("someone/voices", False, "'someone/voices' is no folder here, and the hub can't be asked for it"),
        ("someone/vioces", True, "'someone/vioces' is no folder here and no model on the hub"),
    ],
)
def test_what_can_not_be_had_is_told_in_a_sentence(
    name: str, there: bool, reason: str, server: str, tmp_path: Path
) -> None:
    done = python(SEPARATE, name, home=tmp_path, endpoint=server if there else "http://127.0.0.1:9")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"sepnet.types.SepnetError: {reason}")


# Models of other toolkits

GOLDEN = sorted(
    path
    for path in (Path(__file__).parent / "golden").iterdir()
    if (path / "golden.npz").is_file() and not path.name.startswith("demucs")  # no toolkit's form on a hub
)


# tests/test_published.py loads them all.
ONE_OF_EACH_TOOLKIT = (
    "asteroid_conv_tasnet", "clearvoice_mossformer2", "look2hear_tiger", "speechbrain_sepformer"
)  # fmt: skip


def hold(folder: Path) -> None:
    """Have the hub hold what a folder holds."""
    Hub.files = {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "folder",
    [
        pytest.param(path, id=path.name, marks=[pytest.mark.slow] * (path.name not in ONE_OF_EACH_TOOLKIT))
        for path in GOLDEN
    ],
)
def test_a_model_of_another_toolkit_loads_by_its_name(folder: Path, server: str, tmp_path: Path) -> None:
    hold(folder)
    fetched = python(INFO, "someone/voices", home=tmp_path, endpoint=server)
    assert fetched.returncode == 0, fetched.stderr
    assert "someone/voices: " in fetched.stderr
    assert ", licence: " in fetched.stderr
    assert not any(path.endswith("golden.npz") for path in Hub.asked)
    again = python(INFO, "someone/voices", home=tmp_path, endpoint="http://127.0.0.1:9")
    assert again.stdout == fetched.stdout  # the hub is gone, the files are kept
    assert "licence" not in again.stderr  # which is said once


def test_a_download_that_breaks_off_is_not_loaded_and_made_again(server: str, tmp_path: Path) -> None:
    hold(GOLDEN[0])
    Hub.cut = True
    done = python(INFO, "someone/voices", home=tmp_path, endpoint=server)
    if done.returncode != 0:  # it was not tried again at once
        assert "SepnetError" in done.stderr.strip().splitlines()[-1]
        done = python(INFO, "someone/voices", home=tmp_path, endpoint=server)
    assert done.returncode == 0, done.stderr


def test_a_file_with_another_checksum_is_not_loaded(server: str, tmp_path: Path) -> None:
    hold(GOLDEN[0])
    Hub.lies = True
    done = python(INFO, "someone/voices", home=tmp_path, endpoint=server)
    assert done.returncode != 0
    assert "is damaged: its SHA-256 is not the one" in done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(("status", "remedy"), [(401, "log in"), (403, "accept its licence")])
def test_a_hub_that_refuses_is_told_in_a_sentence(
    status: int, remedy: str, server: str, tmp_path: Path
) -> None:
    Hub.status = status
    done = python(INFO, "someone/voices", home=tmp_path, endpoint=server)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"sepnet.types.SepnetError: the hub refuses 'someone/voices' (HTTP {status}): ")
    assert remedy in last


@pytest.mark.parametrize("status", [pytest.param(429, marks=pytest.mark.slow)])  # which is tried again
def test_a_hub_that_is_asked_too_often_is_told(status: int, server: str, tmp_path: Path) -> None:
    Hub.status = status
    done = python(INFO, "someone/voices", home=tmp_path, endpoint=server)
    assert done.returncode != 0
    assert "it was asked too often" in done.stderr.strip().splitlines()[-1]


def test_two_processes_fetch_the_same_name(server: str, tmp_path: Path) -> None:
    hold(GOLDEN[0])
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(python, INFO, "someone/voices", home=tmp_path, endpoint=server) for _ in range(2)]
    assert [each.result().returncode for each in both] == [0, 0], [each.result().stderr for each in both]


def test_what_is_saved_loads_and_separates_alike(tmp_path: Path) -> None:
    first = sepnet.Pretrained.from_pretrained(artifact.DEFAULT)
    first.save_pretrained(tmp_path / "copy")
    assert {path.name: path.read_bytes() for path in (tmp_path / "copy").iterdir()} == {
        path.name: path.read_bytes() for path in SHIPPED.iterdir()
    }
    again = sepnet.Pretrained.from_pretrained(tmp_path / "copy")
    mixture = Mixture(torch.randn(1, 3000, generator=torch.Generator().manual_seed(1)), 8000)
    assert torch.equal(first.separate(mixture).sources, again.separate(mixture).sources)
    assert again.info.needs == again.separator.info.needs
    assert isinstance(again, sepnet.types.Separator)  # so that it serves wherever a separator does
    assert sepnet.separate(mixture.audio, 8000, model=again).sources.shape == (2, 3000)


def test_pushing_hands_over_the_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed: dict[str, bytes] = {}

    class Api:
        def __init__(self, **_: Any) -> None: ...

        def create_repo(self, repo_id: str, **_: Any) -> Any:
            return type("Url", (), {"repo_id": repo_id})

        def upload_folder(self, *, folder_path: Path, **_: Any) -> str:
            pushed.update({path.name: path.read_bytes() for path in Path(folder_path).iterdir()})
            return "done"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    assert sepnet.Pretrained.from_pretrained(SHIPPED).push_to_hub("me/mine") == "done"
    assert pushed == {path.name: path.read_bytes() for path in SHIPPED.iterdir()}


def test_saving_over_itself_and_checkpoints(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(SHIPPED, copy)
    sepnet.Pretrained.from_pretrained(copy).save_pretrained(copy)
    assert (copy / "model.safetensors").read_bytes() == (SHIPPED / "model.safetensors").read_bytes()
    with pytest.raises(SepnetError, match="is a checkpoint: name its run folder"):
        sepnet.Pretrained.from_pretrained(copy / "last.ckpt")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SepnetError, match="is no run folder"):
        sepnet.Pretrained.from_pretrained(tmp_path)
    shutil.copy(SHIPPED / "config.yaml", tmp_path)
    with pytest.raises(SepnetError, match=r"model\.safetensors is not there"):
        sepnet.Pretrained.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("name", "could"),
    [("a/b", True), ("runs/b", False), ("a", False), ("a/b/c", False), ("tests/b", False), ("a b/c", False)],
)
def test_paths_are_not_taken_for_names(
    name: str, could: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tests").mkdir()
    monkeypatch.chdir(tmp_path)
    assert hub.is_possible_name(name) == could
