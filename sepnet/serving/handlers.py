"""What happens when a button of the page is pressed, or Gradio's client calls."""

from __future__ import annotations

import contextlib
import functools
import logging
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from sepnet.data.audio_memory import encode
from sepnet.serving import archive, mixer
from sepnet.serving.folder import UploadFolder
from sepnet.serving.jobs import Gone, Jobs
from sepnet.serving.results import Shelf
from sepnet.serving.routes import UNFORESEEN
from sepnet.serving.service import Asked, Result, Service, Upload
from sepnet.types import SepnetError

log = logging.getLogger(__name__)
EXPIRED = "the upload is no longer on the server: upload it again"


class Handlers:
    """The functions behind the page."""

    def __init__(self, service: Service, jobs: Jobs, shelf: Shelf, folder: UploadFolder) -> None:
        self.service, self.jobs, self.shelf, self.folder = service, jobs, shelf, folder
        self._used: defaultdict[str, set[str]] = defaultdict(set)  # uploads of each open page

    def left(self, request: gr.Request) -> None:
        """A page was closed: remove what it uploaded and used; the rest is swept in time."""
        for path in self._used.pop(request.session_hash or "", ()):
            self.folder.remove(path)

    async def show(
        self,
        mixture: str | None,
        model: str,
        n_sources: float | None,
        query: str | None,
        references: Sequence[str] | None,
        channels: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio finds it by its default)
    ) -> str:
        """Separate, and return the HTML of the result. The uploads stay for as long as the page is open."""
        used = (mixture, query, *(references or ()))
        self._used[request.session_hash or ""].update(path for path in used if path)
        with _told():
            asked = self._asked(mixture, model, n_sources, query, references, channels)
            progress(0, desc="Reading")
            return await self.jobs.run(functools.partial(self._shown, asked), tell=_teller(progress))

    async def separate(
        self,
        mixture: str | None,
        model: str,
        n_sources: float | None = None,
        query: str | None = None,
        references: Sequence[str] | None = None,
        channels: str = "mean",
    ) -> tuple[list[str], dict[str, object]]:
        """Separate a sound file: returns a file for each source, and what they are."""
        try:
            with _told():
                asked = self._asked(mixture, model, n_sources, query, references, channels)
                return await self.jobs.run(functools.partial(self._written, asked))
        finally:
            for path in (mixture, query, *(references or ())):
                self.folder.remove(path)

    def _asked(
        self,
        mixture: str | None,
        model: str,
        n_sources: float | None,
        query: str | None,
        references: Sequence[str] | None,
        channels: str,
    ) -> Asked:
        """The request, with names of uploads made readers of them."""
        if mixture is None:
            raise SepnetError("there is no sound yet: upload or record one, or take an example")
        if n_sources is not None and n_sources != round(n_sources):
            raise SepnetError(f"n_sources is {n_sources}: give a whole number")
        return Asked(
            mixture=self._upload(mixture),
            model=str(model),
            n_sources=None if n_sources is None else round(n_sources),
            query=None if query is None else self._upload(query),
            references=tuple(self._upload(path) for path in references or ()),
            channels=str(channels),
        )

    def _upload(self, path: str) -> Upload:
        return functools.partial(self.folder.read, path)

    def _shown(self, asked: Asked) -> str:
        result = self.service.separate(asked)
        mixture = {archive.MIXTURE: encode(result.mixture, result.sample_rate)}
        return mixer.html(result, self.shelf.put(archive.files(result) | mixture | mixer.pictures(result)))

    def _written(self, asked: Asked) -> tuple[list[str], dict[str, object]]:
        result: Result = self.service.separate(asked)
        place = Path(tempfile.mkdtemp(dir=self.folder.path))
        paths = []
        for name, data in archive.files(result).items():
            if name != archive.MANIFEST:
                (place / name).write_bytes(data)
                paths.append(str(place / name))
        return paths, archive.manifest(result)


def _teller(progress: gr.Progress) -> Any:
    """Moves the bar while a request waits, and then computes: how long that takes nobody knows beforehand."""

    def tell(begun: bool, seconds: float) -> None:
        share = 0.1 + 0.85 * (1 - 2 ** (-seconds / 4)) if begun else 0.05
        progress(share, desc=f"{'Separating' if begun else 'Waiting for a turn'}, {seconds:.0f} s")

    return tell


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Errors as one sentence to whoever pressed the button; those unforeseen are logged, and not shown."""
    try:
        yield
    except SepnetError as error:
        # Shown as HTML.
        told = escape(" ".join(str(error).split()), quote=False)
        raise gr.Error(told, title="This can't be done", print_exception=False) from None
    except FileNotFoundError:
        raise gr.Error(EXPIRED, title="This can't be done", print_exception=False) from None
    except Gone:
        raise gr.Error("the client left", print_exception=False) from None
    except Exception:
        log.exception("a request from the page")
        raise gr.Error(UNFORESEEN, print_exception=False) from None
