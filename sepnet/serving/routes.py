"""Plain HTTP: POST /api/separate, GET /api/models, and what the page fetches.

Errors are {"error": "one sentence"}: 400 for bad input, 413 for too much of it, 422 where the method can't
serve it, 503 with Retry-After where the server is busy, 500 for its own faults, which it logs.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sepnet.serving import archive
from sepnet.serving.folder import UploadFolder
from sepnet.serving.gate import Refused
from sepnet.serving.jobs import Busy, Gone, Jobs
from sepnet.serving.results import Shelf
from sepnet.serving.service import Asked, Result, Service, Upload
from sepnet.types import CannotSeparate, SepnetError

Endpoint = Callable[[Request], Awaitable[Response]]
RETRY_SECONDS = 30
FIELDS = {"file", "model", "n_sources", "query", "reference", "channels"}
TYPES = {".wav": "audio/wav", ".png": "image/png", ".json": "application/json", ".zip": "application/zip"}
UNFORESEEN = "something went wrong on the server, which has logged it: report it to whoever runs it"
log = logging.getLogger(__name__)


class Routes:
    """The endpoints; ``all`` lists them."""

    def __init__(self, service: Service, jobs: Jobs, shelf: Shelf, folder: UploadFolder) -> None:
        self.service, self.jobs, self.shelf, self.folder = service, jobs, shelf, folder

    @property
    def all(self) -> list[Route]:
        """To be put before the page's own."""
        return [
            Route("/api/models", _told(self.models), methods=["GET"]),
            Route("/api/separate", _told(self.separate), methods=["POST"]),
            Route("/results/{token}/{name}", _told(self.fetch), methods=["GET"]),
            # Gradio's own way would name a file by its content and its client's name for it.
            Route("/gradio_api/upload", _told(self.upload), methods=["POST"]),
            Route("/gradio_api/upload_progress", _told(self.progress), methods=["GET"]),
        ]

    async def models(self, request: Request) -> Response:
        """What there is to choose from, and the limits."""
        limits = {
            name: getattr(self.service.limits, name)
            for name in ("upload_mb", "seconds", "channels", "sources")
        }
        return JSONResponse({"models": [model.describe() for model in self.service.models], "limits": limits})

    async def separate(self, request: Request) -> Response:
        """A multipart form in, a zip of the sources out."""
        async with request.form(max_files=self.service.limits.sources + 2, max_fields=len(FIELDS)) as form:
            asked = self._asked(form)
            result = await self.jobs.run(
                functools.partial(_packed, self.service, asked), gone=request.is_disconnected
            )
        headers = {"Content-Disposition": f'attachment; filename="{archive.ARCHIVE}"'}
        return StreamingResponse(archive.zipped(result), media_type=TYPES[".zip"], headers=headers)

    async def fetch(self, request: Request) -> Response:
        """A file of a result that the page shows."""
        found = self.shelf.get(request.path_params["token"])
        name = request.path_params["name"]
        if found is None or (name != archive.ARCHIVE and name not in found):
            raise HTTPException(404, "there is no such result, or no longer: separate again")
        if name == archive.ARCHIVE:
            parts = {
                part: found[part]
                for part in found
                if part.endswith((".json", ".wav")) and part != archive.MIXTURE
            }
            return StreamingResponse(archive.zipped(parts), media_type=TYPES[".zip"])
        headers = {"Cache-Control": "private, max-age=600"}
        return Response(found[name], media_type=TYPES[Path(name).suffix], headers=headers)

    async def upload(self, request: Request) -> Response:
        """Files for the page and for Gradio's client; returns where they lie, as Gradio does."""
        if self.folder.is_full():
            raise Busy("the server's folder for uploads is full: try again in a few minutes")
        async with request.form(max_files=self.service.limits.sources + 2, max_fields=1) as form:
            files = [each for each in form.getlist("files") if isinstance(each, UploadFile)]
            paths = [
                await asyncio.to_thread(self.folder.store, each.file, Path(each.filename or "").suffix)
                for each in files
            ]
        return JSONResponse([str(path) for path in paths])

    async def progress(self, request: Request) -> Response:
        """Gradio's page asks how far an upload is: it is told when it is whole."""
        return Response('data: {"msg": "done"}\n\n', media_type="text/event-stream")

    def _asked(self, form: FormData) -> Asked:
        """Raises SepnetError for fields that are missing, unknown or of another kind."""
        if unknown := sorted(set(form) - FIELDS):
            raise SepnetError(f"there is no field {unknown[0][:40]!r}: there are {', '.join(sorted(FIELDS))}")
        file = _file(form, "file")
        if file is None:
            raise SepnetError("no sound file was sent: send a multipart form whose field 'file' is one")
        default = next(iter(self.service.models)).name
        return Asked(
            mixture=file,
            model=_text(form, "model") or default,
            n_sources=_number(_text(form, "n_sources")),
            query=_file(form, "query"),
            references=tuple(_upload(each, "reference") for each in form.getlist("reference")),
            channels=_text(form, "channels") or "mean",
        )


def _packed(service: Service, asked: Asked) -> dict[str, bytes]:
    result: Result = service.separate(asked)
    return archive.files(result)


def _told(endpoint: Endpoint) -> Endpoint:
    """The endpoint, whose errors become one sentence with a status."""

    @functools.wraps(endpoint)
    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Busy as error:
            return _sentence(503, str(error), {"Retry-After": str(RETRY_SECONDS)})
        except CannotSeparate as error:
            return _sentence(422, str(error))
        except SepnetError as error:
            return _sentence(400, str(error))
        except HTTPException as error:
            return _sentence(error.status_code, error.detail)
        except Refused as error:  # while the body came in
            return _sentence(error.status, str(error))
        except (Gone, ClientDisconnect):
            return _sentence(400, "the client left")  # nobody reads it
        except Exception:
            log.exception("%s", request.url.path)
            return _sentence(500, UNFORESEEN)

    return guarded


def _sentence(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": " ".join(sentence.split())}, status, headers)


def _file(form: FormData, name: str) -> Upload | None:
    found = form.get(name)
    return None if found is None or found == "" else _upload(found, name)


def _upload(found: UploadFile | str, name: str) -> Upload:
    if not isinstance(found, UploadFile):
        raise SepnetError(f"the field {name!r} is text: send a file (with curl: -F {name}=@sound.wav)")
    return found.file.read


def _text(form: FormData, name: str) -> str | None:
    found = form.get(name)
    if isinstance(found, UploadFile):
        raise SepnetError(f"the field {name!r} is a file: send text")
    return found or None


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 4:
        raise SepnetError(f"n_sources is {text[:20]!r}: give a whole number")
    return int(text)
