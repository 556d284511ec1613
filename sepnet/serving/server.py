"""Run the application at an address."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sepnet.atomic import exit_on_sigterm
from sepnet.serving.limits import Limits
from sepnet.serving.uploads import UploadFolder
from sepnet.types import SepnetError

if TYPE_CHECKING:
    from uvicorn import Server

LOOPBACK = "127.0.0.1"


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Open a socket at an address; port 0 takes any free one. Raises SepnetError if it can't be opened."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, OverflowError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise SepnetError(
            f"can't serve at {host}:{port} ({reason}): stop the program that uses it, or give another port="
        ) from error
    with listener:
        yield listener


@contextlib.contextmanager
def _gradio_environment(uploads: UploadFolder) -> Iterator[None]:
    """Set Gradio's environment variables: send no statistics, and keep uploads in our folder."""
    variables = {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(uploads.path)}
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextlib.contextmanager
def _prepared(
    models: Sequence[str], host: str, port: int, limits: Limits, examples: bool
) -> Iterator[tuple[Server, socket.socket, str]]:
    """A server that does not run yet, its socket, and its address."""
    uploads = UploadFolder(limits)
    try:
        with _gradio_environment(uploads), _listening(host, port) as listener:
            try:
                import gradio  # noqa: F401
                import uvicorn

                from sepnet.serving.app import make_app
            except ImportError as error:
                raise SepnetError("the web page needs Gradio: pip install 'sepnet[demo]'") from error
            app = make_app(models, limits, uploads, with_examples=examples)
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
        uploads.close()


def serve(
    models: Sequence[str],
    *,
    host: str = LOOPBACK,
    port: int = 7860,
    limits: Limits | None = None,
    examples: bool = True,
) -> None:
    """Serve until Ctrl-C.

    Args:
        models: Names for ``sepnet.load``; the first is the default.
        host: The address to listen at; 0.0.0.0 for all addresses of this machine.
        port: The port; 0 for any free one.
        limits: The limits of requests; None for the defaults.
        examples: Whether the page offers examples.

    Raises:
        SepnetError: A model can't be served, the address can't be used, or Gradio is missing.
    """
    with _prepared(models, host, port, limits or Limits(), examples) as (server, listener, address):
        print(f"serving {', '.join(models)} at {address} (stop with Ctrl-C)", flush=True)
        if host not in (LOOPBACK, "localhost", "::1"):
            print(
                "other machines can reach it, and it has no passwords and no encryption: put it behind a "
                "proxy that provides both",
                flush=True,
            )
        with exit_on_sigterm():  # so that the folder is removed
            try:
                server.run(sockets=[listener])
            except KeyboardInterrupt:
                print("stopped", flush=True)


@contextlib.contextmanager
def running(
    models: Sequence[str], *, port: int = 0, limits: Limits | None = None, examples: bool = False
) -> Iterator[str]:
    """Serve in the background of a program, at an address of this machine.

    Args:
        models: As for ``serve``.
        port: As for ``serve``.
        limits: As for ``serve``.
        examples: As for ``serve``.

    Returns:
        A context whose value is the address.

    Raises:
        SepnetError: As for ``serve``.

    Example:
        >>> from sepnet.serving import running
        >>> with running(["hpss"]) as address:  # doctest: +SKIP
        ...     print(address)
        http://127.0.0.1:43210
    """
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
