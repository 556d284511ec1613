"""The web application: request filter, plain HTTP and page combined."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import gradio as gr
from fastapi import FastAPI
from starlette.types import ASGIApp

from sepnet.serving import mixer
from sepnet.serving.examples import make_examples
from sepnet.serving.handlers import Handlers
from sepnet.serving.job_queue import JobQueue
from sepnet.serving.limits import Limits
from sepnet.serving.models import Models
from sepnet.serving.page import build, theme
from sepnet.serving.request_filter import RequestFilter
from sepnet.serving.result_store import ResultStore
from sepnet.serving.routes import Routes
from sepnet.serving.separation import SeparationService
from sepnet.serving.uploads import UploadFolder

CLEANUP_INTERVAL_SECONDS = 30.0


def make_app(
    names: Sequence[str], limits: Limits, uploads: UploadFolder, *, with_examples: bool = True
) -> ASGIApp:
    """Make the application.

    Args:
        names: The names of the models to serve.
        limits: The limits of requests.
        uploads: The folder of Gradio's uploads.
        with_examples: Whether the page offers examples.

    Returns:
        An ASGI application.

    Raises:
        SepnetError: A model can't be served; see ``Models``.
    """
    service = SeparationService(Models(names), limits)
    jobs, results = JobQueue(limits), ResultStore(limits)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        cleanup = asyncio.create_task(_remove_expired(uploads))
        yield
        cleanup.cancel()
        jobs.close()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.router.routes.extend(Routes(service, jobs, results, uploads).all)
    examples = make_examples(uploads) if with_examples else []
    page = build(Handlers(service, jobs, results, uploads), examples)
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        allowed_paths=[],
        blocked_paths=["/proc", "/sys", "/dev"],
        max_file_size=limits.upload_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css=mixer.style(),
        head=mixer.script(),
    )
    page.has_launched = True  # otherwise Gradio accepts any path as a client's upload
    return RequestFilter(app, limits=limits, uploads=uploads)


async def _remove_expired(uploads: UploadFolder) -> None:
    while True:
        await asyncio.sleep(CLEANUP_INTERVAL_SECONDS)
        await asyncio.to_thread(uploads.remove_expired)
