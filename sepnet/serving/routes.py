"""Plain HTTP: POST /api/separate, GET /api/models, and the files of the page.

Errors are {"error": "one sentence"}: 400 for bad input, 413 for too much of it, 422 if the method can't serve
the recording, 503 with Retry-After if the server is busy, 500 for its own faults, which it logs.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sepnet.serving import result_files
from sepnet.serving.job_queue import ClientLeft, JobQueue, ServerBusy
from sepnet.serving.request_filter import RequestRefused
from sepnet.serving.result_store import ResultStore
from sepnet.serving.separation import ReadUpload, SeparationRequest, SeparationService
from sepnet.serving.uploads import UploadFolder
from sepnet.types import CannotSeparate, SepnetError

Endpoint = Callable[[Request], Awaitable[Response]]
RETRY_SECONDS = 30
FIELDS = {"file", "model", "n_sources", "query", "reference", "channels"}
PUBLIC_LIMITS = ("upload_mb", "seconds", "channels", "sources")
MEDIA_TYPES = {
    ".wav": "audio/wav",
    ".png": "image/png",
    ".json": "application/json",
    ".zip": "application/zip",
}
UNEXPECTED_ERROR = "something went wrong on the server, which has logged it: report it to the operator"
log = logging.getLogger(__name__)


class Routes:
    """The endpoints of plain HTTP; ``all`` lists them.

    Args:
        service: Separates recordings.
        jobs: The queue of requests.
        results: Stores the files of results that the page shows.
        uploads: The folder for uploads of the page and of Gradio's client.
    """

    def __init__(
        self, service: SeparationService, jobs: JobQueue, results: ResultStore, uploads: UploadFolder
    ) -> None:
        self.service, self.jobs, self.results, self.uploads = service, jobs, results, uploads

    @property
    def all(self) -> list[Route]:
        """All routes; they have to come before those of the page."""
        return [
            Route("/api/models", _errors_as_json(self.models), methods=["GET"]),
            Route("/api/separate", _errors_as_json(self.separate), methods=["POST"]),
            Route("/results/{token}/{name}", _errors_as_json(self.fetch), methods=["GET"]),
            # Gradio's own upload would name a file by its content and the client's name for it.
            Route("/gradio_api/upload", _errors_as_json(self.upload), methods=["POST"]),
            Route("/gradio_api/upload_progress", _errors_as_json(self.upload_progress), methods=["GET"]),
        ]

    async def models(self, request: Request) -> Response:
        """Describe the models and the limits."""
        limits = {name: value for name, value in asdict(self.service.limits).items() if name in PUBLIC_LIMITS}
        return JSONResponse({"models": self.service.models.describe(), "limits": limits})

    async def separate(self, request: Request) -> Response:
        """Separate the file of a multipart form, and return a zip archive of its sources."""
        async with request.form(max_files=self.service.limits.sources + 2, max_fields=len(FIELDS)) as form:
            job = functools.partial(_separate_to_files, self.service, self._request(form))
            files = await self.jobs.run(job, is_disconnected=request.is_disconnected)
        headers = {"Content-Disposition": f'attachment; filename="{result_files.ARCHIVE}"'}
        return StreamingResponse(result_files.zipped(files), media_type=MEDIA_TYPES[".zip"], headers=headers)

    async def fetch(self, request: Request) -> Response:
        """Return a file of a result that the page shows."""
        files = self.results.get(request.path_params["token"])
        name = request.path_params["name"]
        if files is None or (name != result_files.ARCHIVE and name not in files):
            raise HTTPException(404, "the result does not exist, or has expired: separate again")
        if name == result_files.ARCHIVE:
            archived = {
                file: data
                for file, data in files.items()
                if file.endswith((".json", ".wav")) and file != result_files.MIXTURE
            }
            return StreamingResponse(result_files.zipped(archived), media_type=MEDIA_TYPES[".zip"])
        headers = {"Cache-Control": "private, max-age=600"}
        return Response(files[name], media_type=MEDIA_TYPES[Path(name).suffix], headers=headers)

    async def upload(self, request: Request) -> Response:
        """Store files for the page and for Gradio's client, and return their paths, as Gradio does."""
        if self.uploads.is_full():
            raise ServerBusy("the server's folder for uploads is full: try again in a few minutes")
        async with request.form(max_files=self.service.limits.sources + 2, max_fields=1) as form:
            files = [file for file in form.getlist("files") if isinstance(file, UploadFile)]
            paths = [
                await asyncio.to_thread(self.uploads.store, file.file, Path(file.filename or "").suffix)
                for file in files
            ]
        return JSONResponse([str(path) for path in paths])

    async def upload_progress(self, request: Request) -> Response:
        """Tell Gradio's page, which asks for the progress of an upload, that it is complete."""
        return Response('data: {"msg": "done"}\n\n', media_type="text/event-stream")

    def _request(self, form: FormData) -> SeparationRequest:
        """Raises SepnetError for fields that are missing, unknown or of the wrong kind."""
        if unknown := sorted(set(form) - FIELDS):
            raise SepnetError(f"there is no field {unknown[0][:40]!r}: there are {', '.join(sorted(FIELDS))}")
        mixture = _optional_file(form, "file")
        if mixture is None:
            raise SepnetError(
                "no sound file was sent: send a multipart form with the file in the field 'file'"
            )
        return SeparationRequest(
            mixture=mixture,
            model=_text(form, "model") or self.service.models.default,
            n_sources=_whole_number(_text(form, "n_sources")),
            query=_optional_file(form, "query"),
            references=tuple(_file(value, "reference") for value in form.getlist("reference")),
            channels=_text(form, "channels") or "mean",
        )


def _separate_to_files(service: SeparationService, request: SeparationRequest) -> dict[str, bytes]:
    return result_files.files(service.separate(request))


def _errors_as_json(endpoint: Endpoint) -> Endpoint:
    """Wrap an endpoint so that its errors become one sentence with a status."""

    @functools.wraps(endpoint)
    async def wrapped(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ServerBusy as error:
            return _error(503, str(error), {"Retry-After": str(RETRY_SECONDS)})
        except CannotSeparate as error:
            return _error(422, str(error))
        except SepnetError as error:
            return _error(400, str(error))
        except HTTPException as error:
            return _error(error.status_code, error.detail)
        except RequestRefused as error:  # while the body was received
            return _error(error.status, str(error))
        except (ClientLeft, ClientDisconnect):
            return _error(400, "the client disconnected")  # which nobody reads
        except Exception:
            log.exception("%s", request.url.path)
            return _error(500, UNEXPECTED_ERROR)

    return wrapped


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": " ".join(message.split())}, status, headers)


def _optional_file(form: FormData, name: str) -> ReadUpload | None:
    value = form.get(name)
    return None if value is None or value == "" else _file(value, name)


def _file(value: UploadFile | str, name: str) -> ReadUpload:
    if not isinstance(value, UploadFile):
        raise SepnetError(f"the field {name!r} is text: send a file (with curl: -F {name}=@sound.wav)")
    return value.file.read


def _text(form: FormData, name: str) -> str | None:
    value = form.get(name)
    if isinstance(value, UploadFile):
        raise SepnetError(f"the field {name!r} is a file: send text")
    return value or None


def _whole_number(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 4:
        raise SepnetError(f"n_sources is {text[:20]!r}: give a whole number")
    return int(text)
