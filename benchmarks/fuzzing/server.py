"""A server on this machine with files to fetch: an archive, and a model as on the Hugging Face hub."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = "someone/voices"
PIECE_BYTES = 1 << 13
PIECE_SECONDS = 0.01  # slow enough to be killed in the middle


class Handler(BaseHTTPRequestHandler):
    """Answers for ``files`` by their address, and for ``model`` by the name of each file."""

    files: Mapping[str, bytes] = {}
    model: Mapping[str, bytes] = {}

    def handle(self) -> None:
        """Answer; a client that was killed in the middle is no error."""
        with suppress(ConnectionError):
            super().handle()

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        """Answer without a body."""
        self._answer(with_body=False)

    def do_GET(self) -> None:
        """Answer."""
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        prefix = f"/{MODEL}/resolve/{COMMIT}/"
        if path.startswith(f"/api/models/{MODEL}/tree/"):
            tree = [{"type": "file", "path": name, "size": len(content), "oid": _sha1(content)}
                    for name, content in self.model.items()]  # fmt: skip
            self._send(json.dumps(tree).encode(), {"Content-Type": "application/json"}, with_body)
        elif path.startswith(f"/api/models/{MODEL}"):
            names = [{"rfilename": name} for name in self.model]
            told = {"id": MODEL, "sha": COMMIT, "siblings": names, "tags": []}
            self._send(json.dumps(told).encode(), {"Content-Type": "application/json"}, with_body)
        elif path.startswith(prefix) and path.removeprefix(prefix) in self.model:
            content = self.model[path.removeprefix(prefix)]
            etag = hashlib.sha256(content).hexdigest() if len(content) > 10_000 else _sha1(content)
            self._send(content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, with_body)
        elif path in self.files:
            self._send(self.files[path], {}, with_body)
        else:
            self.send_error(404)

    def _send(self, content: bytes, headers: Mapping[str, str], with_body: bool) -> None:
        wanted = self.headers.get("Range", "")
        start = int(wanted.removeprefix("bytes=").partition("-")[0] or 0) if wanted else 0
        if start >= len(content) and wanted:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        for name, value in {**headers, "Content-Length": str(len(content) - start)}.items():
            self.send_header(name, value)
        self.end_headers()
        for place in range(start, len(content) if with_body else start, PIECE_BYTES):
            self.wfile.write(content[place : place + PIECE_BYTES])
            time.sleep(PIECE_SECONDS)


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def packed(folder: Path, name: str) -> bytes:
    """A folder as an archive in which it is called ``name``."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        tar.add(folder, name)
    return stream.getvalue()


@contextmanager
def serving(files: Mapping[str, bytes], model: Mapping[str, bytes]) -> Iterator[str]:
    """Serve in a process of its own.

    Args:
        files: The content by the path of the address.
        model: The files of ``MODEL``.

    Yields:
        The address.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Site", (Handler,), {"files": files, "model": model}))
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        server.serve_forever()
    server.server_close()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
