"""The functions behind the buttons of the page and the endpoint for Gradio's client."""

from __future__ import annotations

import contextlib
import functools
import logging
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path

import gradio as gr

from sepnet.data.audio.memory import encode
from sepnet.serving import mixer, result_files
from sepnet.serving.job_queue import ClientLeft, JobQueue
from sepnet.serving.result_store import ResultStore
from sepnet.serving.routes import UNEXPECTED_ERROR
from sepnet.serving.separation import SeparationRequest, SeparationService
from sepnet.serving.uploads import UploadFolder
from sepnet.types import SepnetError

log = logging.getLogger(__name__)
ERROR_TITLE = "This could not be done"
EXPIRED_UPLOAD = "the upload has expired: upload the file again"


class Handlers:
    """The functions behind the page.

    Args:
        service: Separates recordings.
        jobs: The queue of requests.
        results: Stores the files of results that the page shows.
        uploads: The folder of uploads.
    """

    def __init__(
        self, service: SeparationService, jobs: JobQueue, results: ResultStore, uploads: UploadFolder
    ) -> None:
        self.service, self.jobs, self.results, self.uploads = service, jobs, results, uploads
        self._page_uploads: defaultdict[str, set[str]] = defaultdict(set)  # that each open page has used

    def close_page(self, request: gr.Request) -> None:
        """Remove the uploads that a page has used; other uploads expire."""
        for path in self._page_uploads.pop(request.session_hash or "", ()):
            self.uploads.remove(path)

    async def show(
        self,
        mixture: str | None,
        model: str,
        n_sources: float | None,
        query: str | None,
        references: Sequence[str] | None,
        channels: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio recognises it by its default)
    ) -> str:
        """Separate, and return the result as HTML. Uploads are kept for as long as the page is open."""
        paths = (mixture, query, *(references or ()))
        self._page_uploads[request.session_hash or ""].update(path for path in paths if path)
        with _errors_for_page():
            separation = self._request(mixture, model, n_sources, query, references, channels)
            progress(0, desc="Reading")
            job = functools.partial(self._html, separation)
            return await self.jobs.run(job, report=_progress_bar(progress))

    async def separate(
        self,
        mixture: str | None,
        model: str,
        n_sources: float | None = None,
        query: str | None = None,
        references: Sequence[str] | None = None,
        channels: str = "mean",
    ) -> tuple[list[str], dict[str, object]]:
        """Separate a sound file, and return a file for each source with a manifest."""
        try:
            with _errors_for_page():
                separation = self._request(mixture, model, n_sources, query, references, channels)
                return await self.jobs.run(functools.partial(self._files, separation))
        finally:
            for path in (mixture, query, *(references or ())):
                self.uploads.remove(path)

    def _request(
        self,
        mixture: str | None,
        model: str,
        n_sources: float | None,
        query: str | None,
        references: Sequence[str] | None,
        channels: str,
    ) -> SeparationRequest:
        if mixture is None:
            raise SepnetError("there is no recording yet: upload one, record one, or choose an example")
        if n_sources is not None and n_sources != round(n_sources):
            raise SepnetError(f"n_sources is {n_sources}: give a whole number")
        return SeparationRequest(
            mixture=functools.partial(self.uploads.read, mixture),
            model=str(model),
            n_sources=None if n_sources is None else round(n_sources),
            query=None if query is None else functools.partial(self.uploads.read, query),
            references=tuple(functools.partial(self.uploads.read, path) for path in references or ()),
            channels=str(channels),
        )

    def _html(self, separation: SeparationRequest) -> str:
        result = self.service.separate(separation)
        mixture = {result_files.MIXTURE: encode(result.mixture, result.sample_rate)}
        token = self.results.put(result_files.files(result) | mixture | mixer.spectrograms(result))
        return mixer.html(result, token)

    def _files(self, separation: SeparationRequest) -> tuple[list[str], dict[str, object]]:
        result = self.service.separate(separation)
        folder = Path(tempfile.mkdtemp(dir=self.uploads.path))
        paths = []
        for name, data in result_files.files(result).items():
            if name != result_files.MANIFEST:
                (folder / name).write_bytes(data)
                paths.append(str(folder / name))
        return paths, result_files.manifest(result)


def _progress_bar(progress: gr.Progress) -> Callable[[bool, float], None]:
    """Move the bar while a request waits and is computed; as the total time is unknown, it never ends."""

    def report(has_begun: bool, seconds: float) -> None:
        share = 0.1 + 0.85 * (1 - 2 ** (-seconds / 4)) if has_begun else 0.05
        progress(share, desc=f"{'Separating' if has_begun else 'Waiting in the queue'}, {seconds:.0f} s")

    return report


@contextlib.contextmanager
def _errors_for_page() -> Iterator[None]:
    """Show errors of the request as one sentence; log unexpected ones, and do not show them."""
    try:
        yield
    except SepnetError as error:
        message = escape(" ".join(str(error).split()), quote=False)  # it is displayed as HTML
        raise gr.Error(message, title=ERROR_TITLE, print_exception=False) from None
    except FileNotFoundError:
        raise gr.Error(EXPIRED_UPLOAD, title=ERROR_TITLE, print_exception=False) from None
    except ClientLeft:
        raise gr.Error("the client disconnected", print_exception=False) from None
    except Exception:
        log.exception("a request from the page")
        raise gr.Error(UNEXPECTED_ERROR, print_exception=False) from None
