"""``python x.py`` in a few hundredths of a second: forked off a process that has imported sepnet already.

Importing torch, Lightning and Hydra takes seconds, and the documents hold dozens of commands. A server,
``python warm_python.py serve <socket>``, imports once; ``python warm_python.py ask <socket> x.py ...`` hands
it its arguments, folder, environment and standard streams, passes signals on, and ends as the program ends.
"""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LONGEST_REQUEST = 1 << 17  # bytes


def serve(address: str) -> None:
    """Answer until killed; returns in each process that has run a program."""
    import gc
    import multiprocessing
    import runpy

    from hydra.core.plugins import Plugins

    import sepnet
    from sepnet.cli import evaluate, prepare, separate, train  # noqa: F401
    from sepnet.evaluation import pipeline  # noqa: F401

    Plugins.instance()  # looks through all that is installed
    for name in ("pit-2spk-8k", "ast_dgmo"):
        sepnet.load(name)  # which imports what it needs
    gc.collect()
    gc.freeze()  # a collection would copy all that the processes share
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen(16)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            break
        connection.close()
        while _reaped():
            pass
    listener.close()
    message, streams = _receive(connection)
    if program := os.fork():
        _attend(connection, program)
    connection.close()
    os.setpgid(0, 0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(message["environment"])
    os.chdir(message["folder"])
    # Workers of an evaluation, which would import everything once more.
    spawn = multiprocessing.get_context
    multiprocessing.get_context = lambda method=None: spawn("fork" if method == "spawn" else method)  # type: ignore[assignment]
    sys.argv = message["arguments"]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


def _reaped() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] > 0
    except ChildProcessError:
        return False


def _receive(connection: socket.socket) -> tuple[dict[str, object], list[int]]:
    """The request, and the three standard streams that came with it."""
    space = socket.CMSG_LEN(3 * array.array("i").itemsize)
    message, ancillary, _, _ = connection.recvmsg(LONGEST_REQUEST, space)
    streams = array.array("i")
    streams.frombytes(ancillary[0][2])
    return json.loads(message), list(streams)


def _attend(connection: socket.socket, program: int) -> None:
    """Hand signals on to the program, and its end to who asked; does not return."""

    def pass_on() -> None:
        while message := connection.recv(16):
            os.kill(program, int(message))
        os.killpg(program, signal.SIGKILL)  # who asked was killed

    threading.Thread(target=pass_on, daemon=True).start()
    _, status = os.waitpid(program, 0)
    connection.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def ask(address: str, arguments: list[str]) -> int:
    """Have a program run; its exit status, as a shell has it."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(address)
    request = {"arguments": arguments, "folder": str(Path.cwd()), "environment": dict(os.environ)}
    streams = array.array("i", [0, 1, 2])
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)]
    connection.sendmsg([json.dumps(request).encode()], ancillary)
    for number in PASSED_ON:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda which, _: connection.send(str(which).encode()))  # type: ignore[misc]
    code = int(connection.recv(16) or -signal.SIGKILL)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        sys.exit(ask(sys.argv[2], sys.argv[3:]))
