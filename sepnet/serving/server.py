"""From an application to an address."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sepnet.serving.folder import UploadFolder
from sepnet.serving.limits import Limits
from sepnet.types import SepnetError

if TYPE_CHECKING:
    from uvicorn import Server

TERMINATED = 143  # 128 + SIGTERM
LOOPBACK = "127.0.0.1"


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket at the address; port 0: any that is free. Raises SepnetError where there is none."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SepnetError(
            f"can't serve at {host}:{port} ({reason}): stop what is there, or give another port="
        ) from error
    with listener:
        yield listener


@contextlib.contextmanager
def _gradio_told(folder: UploadFolder) -> Iterator[None]:
    """What Gradio learns from the environment: to report nothing to anyone, and where uploads lie."""
    told = {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(folder.path)}
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextlib.contextmanager
def _prepared(
    models: Sequence[str], host: str, port: int, limits: Limits, examples: bool
) -> Iterator[tuple[Server, socket.socket, str]]:
    """A server that has yet to run, its socket, and its address."""
    folder = UploadFolder(limits)
    try:
        with _gradio_told(folder), _listening(host, port) as listener:
            try:
                import gradio  # noqa: F401
                import uvicorn

                from sepnet.serving.app import make_app
            except ImportError as error:
                raise SepnetError("the web page is made with Gradio: pip install 'sepnet[demo]'") from error
            app = make_app(models, limits, folder, with_examples=examples)
            config = uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                limit_concurrency=limits.connections,
                timeout_graceful_shutdown=3,
                ws="none",
            )
            name = f"[{host}]" if ":" in host else host
            yield uvicorn.Server(config), listener, f"http://{name}:{listener.getsockname()[1]}"
    finally:
        folder.close()


def serve(
    models: Sequence[str],
    *,
    host: str = LOOPBACK,
    port: int = 7860,
    limits: Limits | None = None,
    examples: bool = True,
) -> None:
    """Serve until Ctrl-C. Raises SepnetError for models that can't be loaded and an address that is taken."""
    with _prepared(models, host, port, limits or Limits(), examples) as (server, listener, address):
        print(f"serving {', '.join(models)} at {address} (Ctrl-C ends it)", flush=True)
        if host not in (LOOPBACK, "localhost", "::1"):
            print(
                "others can reach it: it has no passwords and no encryption; put it behind a proxy that has",
                flush=True,
            )
        ended = signal.signal(
            signal.SIGTERM, lambda *_: sys.exit(TERMINATED)
        )  # so that the folder is removed
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            print("stopped", flush=True)
        finally:
            signal.signal(signal.SIGTERM, ended)


@contextlib.contextmanager
def running(
    models: Sequence[str], *, port: int = 0, limits: Limits | None = None, examples: bool = False
) -> Iterator[str]:
    """Serve in the background of a program, at the address that is returned. Raises as ``serve``."""
    with _prepared(models, LOOPBACK, port, limits or Limits(), examples) as (server, listener, address):
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield address
        finally:
            server.should_exit = True
            thread.join(timeout=10)
