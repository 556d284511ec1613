"""The first check of every request: its address, its size, and the files that it names.

Gradio has many more routes than this page needs (a proxy, a converter of recordings, monitoring), and accepts
paths and URLs of files from its clients. This filter lets only the routes pass that the page needs, and only
files of the upload folder, independently of Gradio's own checks.
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

from sepnet.serving.limits import MB, Limits
from sepnet.serving.uploads import UploadFolder

MAX_JSON_BYTES = 1 * MB
BODY_TIMEOUT_SECONDS = 60.0  # between two pieces of a body
FILE_ROUTE = "/gradio_api/file="
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Gradio's page builds code at run time ('unsafe-eval'); everything it loads comes from this server.
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "object-src 'none'; base-uri 'self'; frame-ancestors 'self'",
}
READABLE_ROUTES = re.compile(
    r"/|/api/models|/results/[\w-]+/[\w.-]+|/config/?|/(assets|static)/.*|/theme\.css|/favicon\.ico|/manifest\.json"
    r"|/gradio_api/(info/?|app_id/?|theme\.css|startup-events|upload_progress|queue/data|heartbeat/\w+|file=.*"
    r"|call/\w+/\w+)"
)
WRITABLE_ROUTES = re.compile(r"/api/separate|/gradio_api/(upload|queue/join/?|call/\w+/?|cancel|reset/?)")
UPLOAD_ROUTES = ("/api/separate", "/gradio_api/upload")


class RequestRefused(Exception):  # noqa: N818
    """A request that is answered with an error.

    Args:
        status: The HTTP status.
        message: One sentence for the client.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class RequestFilter:
    """ASGI middleware around the whole application.

    Args:
        app: The application.
        limits: The limits of requests.
        uploads: The folder of uploads; requests may name no other files.
    """

    def __init__(self, app: ASGIApp, *, limits: Limits, uploads: UploadFolder) -> None:
        self.app, self.limits, self.uploads = app, limits, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a connection, as ASGI defines it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            receive_body = await self._check(scope, receive)
            await self.app(scope, receive_body, send_with_headers)
        except RequestRefused as error:
            await JSONResponse({"error": str(error)}, error.status)(scope, receive, send_with_headers)

    async def _check(self, scope: Scope, receive: Receive) -> Receive:
        """Return how the application receives the body. Raises RequestRefused."""
        path, headers = scope["path"], Headers(scope=scope)
        is_read = scope["method"] in ("GET", "HEAD")
        routes = READABLE_ROUTES if is_read else WRITABLE_ROUTES
        if not routes.fullmatch(path) or (not is_read and scope["method"] != "POST"):
            raise RequestRefused(404, "there is nothing at this address")
        if path.startswith(FILE_ROUTE) and not self.uploads.contains(path.removeprefix(FILE_ROUTE)):
            raise RequestRefused(404, "there is no such file, or it has expired")
        if not is_read and headers.get("sec-fetch-site", "same-origin") in ("cross-site", "same-site"):
            raise RequestRefused(403, "pages of other sites may not use this server")
        max_bytes = self.limits.upload_bytes if path in UPLOAD_ROUTES else MAX_JSON_BYTES
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > max_bytes:
            raise RequestRefused(413, f"the request is too large: {max_bytes / MB:g} MB are allowed")
        limited = _limited(receive, max_bytes)
        return limited if path in UPLOAD_ROUTES or is_read else await self._check_files(limited)

    async def _check_files(self, receive: Receive) -> Receive:
        """Read the body, and refuse it if it names a file that is no upload."""
        body, message = b"", await receive()
        while message["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
            message = await receive()
        try:
            content = json.loads(body) if body.strip() else None
        except (ValueError, RecursionError) as error:
            raise RequestRefused(400, "the request is not valid JSON") from error
        if any(not isinstance(path, str) or not self.uploads.contains(path) for path in _paths(content)):
            raise RequestRefused(
                400, "upload the file first: a request can name uploads, but no other paths and no URLs"
            )
        is_replayed = False

        async def replay() -> Message:
            nonlocal is_replayed
            if is_replayed:
                return await receive()
            is_replayed = True
            return {"type": "http.request", "body": body, "more_body": False}

        return replay


def _limited(receive: Receive, max_bytes: int) -> Receive:
    """Receive a body; raise RequestRefused if it is too long, or if no more data arrives."""
    n_bytes, is_complete = 0, False

    async def receive_limited() -> Message:
        nonlocal n_bytes, is_complete
        if is_complete:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), BODY_TIMEOUT_SECONDS)
        except TimeoutError as error:
            raise RequestRefused(408, f"no data arrived for {BODY_TIMEOUT_SECONDS:g} s") from error
        n_bytes += len(message.get("body", b""))
        is_complete = not message.get("more_body")
        if n_bytes > max_bytes:
            raise RequestRefused(413, f"the request is too large: {max_bytes / MB:g} MB are allowed")
        return message

    return receive_limited


def _paths(node: Any) -> Iterator[Any]:
    """Every value of a key ``path``, at any depth."""
    stack = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if item.get("path") is not None:
                yield item["path"]
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
