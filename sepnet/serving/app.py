"""The web application, assembled: the gate, plain HTTP, and the page."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import gradio as gr
from fastapi import FastAPI
from starlette.types import ASGIApp

from sepnet.serving import examples, mixer
from sepnet.serving.folder import UploadFolder
from sepnet.serving.gate import Gate
from sepnet.serving.handlers import Handlers
from sepnet.serving.jobs import Jobs
from sepnet.serving.limits import Limits
from sepnet.serving.models import Models
from sepnet.serving.page import build, theme
from sepnet.serving.results import Shelf
from sepnet.serving.routes import Routes
from sepnet.serving.service import Service

SWEEP_SECONDS = 30.0


def make_app(
    names: Sequence[str], limits: Limits, folder: UploadFolder, *, with_examples: bool = True
) -> ASGIApp:
    """The application that serves the models of these names. folder: where Gradio keeps uploads.

    Raises SepnetError as Models does.
    """
    service = Service(Models(names), limits)
    jobs, shelf = Jobs(limits), Shelf(limits)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sweeper = asyncio.create_task(_sweep(folder))
        yield
        sweeper.cancel()
        jobs.close()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.router.routes.extend(Routes(service, jobs, shelf, folder).all)
    page = build(Handlers(service, jobs, shelf, folder), examples.make(folder) if with_examples else [])
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
    page.has_launched = True  # else Gradio lets its clients name any path as their upload
    return Gate(app, limits=limits, folder=folder)


async def _sweep(folder: UploadFolder) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        await asyncio.to_thread(folder.sweep)
