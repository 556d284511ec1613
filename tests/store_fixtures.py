"""An S3 on this machine behind a proxy that makes faults, and what tests put there."""

from __future__ import annotations

import csv
import functools
import http.client
import io
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from sepnet import remote

RATE = 8000
SECRET, BUCKET = "a-very-secret-key", "calls"


@functools.cache  # a file of floats has the time at which it was written
def sound(seed: int, seconds: float = 0.5) -> bytes:
    noise = 0.1 * np.random.default_rng(seed).standard_normal(round(RATE * seconds))
    file = io.BytesIO()
    soundfile.write(file, noise.astype(np.float32), RATE, subtype="FLOAT", format="WAV")
    return file.getvalue()


@dataclass
class Fault:
    """What the proxy does to requests for a file.

    Attributes:
        kind: ``cut`` in the middle of the answer, ``slow`` to answer, or a status.
        method: Of the requests.
        name: Of the file, or a part of its path.
        times: How often.
    """

    kind: str
    method: str
    name: str
    times: int = 1


class Proxy(BaseHTTPRequestHandler):
    """Passes requests on to the store, but for those with faults."""

    protocol_version = "HTTP/1.1"
    address: tuple[str, int]
    faults: list[Fault]
    requests: list[tuple[str, str]]

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.requests.append((self.command, self.path))
        fault = next(
            (f for f in self.faults if f.method == self.command and f.name in self.path and f.times), None
        )
        kind = "" if fault is None else fault.kind
        if fault is not None:
            fault.times -= 1
        if kind == "slow":
            time.sleep(2.5)
        if kind.isdecimal():
            self.send_response(int(kind))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        connection = http.client.HTTPConnection(*self.address)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        headers = {
            name: value for name, value in answer.getheaders() if name.lower() not in ("transfer-encoding",)
        }
        headers.setdefault("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if kind == "cut":
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        elif self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@dataclass
class Store:
    """An S3, reached through the proxy."""

    fs: Any
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)

    def put(self, path: str, content: bytes) -> str:
        self.fs.pipe_file(f"{BUCKET}/{path}", content)
        return f"s3://{BUCKET}/{path}"

    def names(self, folder: str) -> set[str]:
        self.fs.invalidate_cache()
        return {path.removeprefix(f"{BUCKET}/{folder}/") for path in self.fs.find(f"{BUCKET}/{folder}")}

    def table(self, path: str) -> list[dict[str, str]]:
        return list(csv.DictReader(self.fs.cat_file(f"{BUCKET}/{path}").decode().splitlines()))


@pytest.fixture(name="proxied", scope="module")
def _proxied() -> Iterator[Store]:
    server_class = pytest.importorskip("moto.server").ThreadedMotoServer
    s3fs = pytest.importorskip("s3fs")
    moto = server_class(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    store = Store(None)
    handler = type("Handler", (Proxy,), {
        "address": moto.get_host_and_port(), "faults": store.faults, "requests": store.requests,
    })  # fmt: skip
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "an-id")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.server_port}")
        s3fs.S3FileSystem.clear_instance_cache()
        store.fs = s3fs.S3FileSystem()
        store.fs.makedirs(BUCKET, exist_ok=True)  # moto keeps one store in a process
        yield store
    proxy.shutdown()
    moto.stop()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(name="temporary")
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's folder for temporary files, with short waits between attempts."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(remote, "WAITS_SECONDS", (0.01, 0.01))
    return folder


@pytest.fixture(name="store")
def _store(proxied: Store, temporary: Path) -> Iterator[Store]:
    proxied.fs.invalidate_cache()
    for path in proxied.fs.find(BUCKET):
        proxied.fs.rm_file(path)
    proxied.faults.clear()
    proxied.requests.clear()
    yield proxied
    assert not list(temporary.iterdir()), "temporary files are left"
