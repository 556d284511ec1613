"""What stands before everything else: which addresses there are, how much may be sent, and what is in it.

Gradio has many more routes than this page needs (a proxy, a recorder's converter, monitoring), and takes
paths and addresses of files from its clients. Only what the page needs passes here, and only files of the
upload folder: this holds whatever Gradio itself checks.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sepnet.serving.folder import UploadFolder
from sepnet.serving.limits import MB, Limits

MOST_JSON_BYTES = 1 * MB
BODY_SECONDS = 60.0  # between two pieces of a body
FILE = "/gradio_api/file="
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Gradio's page builds its code at run time; all of it comes from here, and so does all that it fetches.
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "object-src 'none'; base-uri 'self'; frame-ancestors 'self'",
}
READ = re.compile(
    r"/|/api/models|/results/[\w-]+/[\w.-]+|/config/?|/(assets|static)/.*|/theme\.css|/favicon\.ico|/manifest\.json"
    r"|/gradio_api/(info/?|app_id/?|theme\.css|startup-events|upload_progress|queue/data|heartbeat/\w+|file=.*"
    r"|call/\w+/\w+)"
)
WRITE = re.compile(r"/api/separate|/gradio_api/(upload|queue/join/?|call/\w+/?|cancel|reset/?)")
UPLOADS = ("/api/separate", "/gradio_api/upload")


class Refused(Exception):  # noqa: N818
    """A request that goes no further."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Gate:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, *, limits: Limits, folder: UploadFolder) -> None:
        self.app, self.limits, self.folder = app, limits, folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def send_headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            body = await self._checked(scope, receive)
            await self.app(scope, body, send_headed)
        except Refused as refused:
            await JSONResponse({"error": str(refused)}, refused.status)(scope, receive, send_headed)

    async def _checked(self, scope: Scope, receive: Receive) -> Receive:
        """How the application may receive the body. Raises Refused."""
        path, headers = scope["path"], Headers(scope=scope)
        reads = scope["method"] in ("GET", "HEAD")
        if not (READ if reads else WRITE).fullmatch(path) or (not reads and scope["method"] != "POST"):
            raise Refused(404, "there is nothing at this address")
        if path.startswith(FILE) and not self.folder.holds(path.removeprefix(FILE)):
            raise Refused(404, "there is no such file, or no longer")
        if not reads and headers.get("sec-fetch-site", "same-origin") in ("cross-site", "same-site"):
            raise Refused(403, "another site's page may not use this server")
        most = self.limits.upload_bytes if path in UPLOADS else MOST_JSON_BYTES
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > most:
            raise Refused(413, f"the request is too large: {most / MB:g} MB at the most")
        counted = _counted(receive, most)
        return counted if path in UPLOADS or reads else await self._own_files_only(counted)

    async def _own_files_only(self, receive: Receive) -> Receive:
        """The body, read and found to name no file but uploads."""
        body, message = b"", await receive()
        while message["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
            message = await receive()
        try:
            told = json.loads(body) if body.strip() else None
        except (ValueError, RecursionError) as error:
            raise Refused(400, "the request is no JSON") from error
        if any(not isinstance(path, str) or not self.folder.holds(path) for path in _paths(told)):
            raise Refused(
                400, "a file has to be uploaded first: only uploads can be named, no paths or addresses"
            )
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        return again


def _counted(receive: Receive, most: int) -> Receive:
    """Raises Refused for a body that is longer than allowed, or that stops coming."""
    seen, whole = 0, False

    async def counted() -> Message:
        nonlocal seen, whole
        if whole:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), BODY_SECONDS)
        except TimeoutError as error:
            raise Refused(408, f"nothing came for {BODY_SECONDS:g} s") from error
        seen += len(message.get("body", b""))
        whole = not message.get("more_body")
        if seen > most:
            raise Refused(413, f"the request is too large: {most / MB:g} MB at the most")
        return message

    return counted


def _paths(node: Any) -> Iterator[Any]:
    """Every value under a key ``path`` in a container."""
    stack = [node]
    while stack:
        found = stack.pop()
        if isinstance(found, dict):
            if found.get("path") is not None:
                yield found["path"]
            stack.extend(found.values())
        elif isinstance(found, list):
            stack.extend(found)
