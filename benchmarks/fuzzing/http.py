"""Requests to the page and the API, most of them malformed, in a process of the application itself."""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile
from huggingface_hub import constants
from starlette.testclient import TestClient

from benchmarks import tiny
from benchmarks.fuzzing.commands import Workshop
from benchmarks.fuzzing.process import Process
from benchmarks.fuzzing.sounds import damaged, sound
from benchmarks.fuzzing.trial import TRACEBACK, Outcome, Verdict, tree
from sepnet.serving.limits import Limits
from sepnet.serving.uploads import UploadFolder

N_TOGETHER = 60  # requests to one application, one after the other
REQUEST_SECONDS = 60  # of the clock
CPU_SECONDS = 300.0
MODELS = ("hpss", "nmf", "energy_reference", "pit-2spk-8k")
LIMITS = Limits(seconds=5, upload_mb=1, sources=4, waiting=4, wait_seconds=30)
PATHS = ("/api/separate", "/api/models", "/", "/config", "/results/x/manifest.json",
         "/results/../../etc/passwd",
         "/gradio_api/upload", "/gradio_api/queue/join", "/gradio_api/call/separate", "/gradio_api/info",
         "/api", "/api/separate/",
         "/gradio_api/file=/etc/passwd", "/gradio_api/file=../../etc/passwd", "/gradio_api/cancel",
         "/gradio_api/reset",
         "/static/../../etc/passwd", "/%00", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/favicon.ico",
         "/theme.css",
         "/gradio_api/run/predict", "/gradio_api/proxy=http://127.0.0.1:9/", "/monitoring", "/assets/x",
         "/gradio_api/call/x/y",
         "/gradio_api/file=https://x.org/a.wav", "/results/a/b.wav", "/openapi.json",
         "/gradio_api/upload_progress", "/x" * 3000,
         "/gradio_api/app_id", "/gradio_api/startup-events", "/login", "/token",
         "/gradio_api/component_server")  # fmt: skip
METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "BREW")
TEXTS = ("hpss", "nmf", "energy_reference", "pit-2spk-8k", "", "x", "2", "0", "-1", "1e9", "999", "99999",
         "٣", "nan", "mean", "all",
         "../x", "null", "x" * 3000, "\0", "é" * 50, "2.0", "1,2", "true", "{}", "[]", "'",
         "\r\nX: y")  # fmt: skip
FIELDS = (
    "file",
    "model",
    "n_sources",
    "query",
    "reference",
    "channels",
    "x",
    "",
    "File",
    "file[]",
    "__class__",
)
NAMES = (
    "a.wav",
    "",
    "../../a.wav",
    "/etc/passwd",
    "a" * 500,
    "a\0.wav",
    "é.wav",
    "a.wav;x",
    '"',
    "a.exe",
    "\udcff".encode(errors="replace").decode(),
)
HEADERS: tuple[tuple[str, str], ...] = (
    ("content-length", "-1"), ("content-length", "99999999999999"), ("content-length", "abc"),
    ("content-length", "0"),
    ("content-length", ""), ("content-length", "٣".encode().decode("latin1")), ("sec-fetch-site",
                                                                                "cross-site"),
    ("content-type", ""), ("content-type", "multipart/form-data"), ("content-type",
                                                                    "multipart/form-data; boundary="),
    ("content-type", "application/json"), ("content-type", "text/plain; charset=utf-16"), ("content-type",
                                                                                           "\xff"),
    ("content-type", "multipart/form-data; boundary=" + "x" * 500), ("content-type",
                                                                     "multipart/mixed; boundary=b"),
    ("content-type", "application/x-www-form-urlencoded"), ("content-encoding", "gzip"), ("host", ""),
    ("host", "evil.example"),
    ("transfer-encoding", "chunked"), ("accept", "\xff"), ("range", "bytes=0-"), ("expect",
                                                                                  "100-continue"),
                                                                                  ("cookie", "x" * 4000),
    ("x-forwarded-for", "1.2.3.4"), ("x-forwarded-host", "evil"), ("origin", "null"), ("accept-language",
                                                                                       "*" * 300),
    ("x-gradio-user", "a"), ("authorization", "Basic ==="), ("if-none-match", "*"), ("connection",
                                                                                     "upgrade"),
                                                                                     ("upgrade", "websocket"),
)  # fmt: skip
BODIES = (b"", b"x", b"null", b"[]", b"{}", b"[" * 50_000, b'{"data": null}', b'{"data": []}',
          b'{"data": [{"path": "/etc/passwd"}]}',
          b'{"data": [{"path": 5}], "fn_index": 0, "session_hash": "a"}', b'{"fn_index": 99}',
          b'{"fn_index": "x", "data": 1}',
          b"\xff\xfe", b'{"session_hash": null}', b'{"event_id": "x"}', b"5", b'"x"', b'{"data": [NaN]}',
          b'{"data": ["' + b"x" * 9000 + b'"]}',
          b'{"data": [{"url": "http://127.0.0.1:9/", "meta": {"_type": "gradio.FileData"}}]}')  # fmt: skip
Send = Callable[[TestClient], httpx.Response]
_done: dict[tuple[str, int], list[Outcome]] = {}  # of the applications so far


def run(workshop: Workshop, number: int, rng: np.random.Generator) -> Outcome:
    """Send one request; those of one application are sent together."""
    first = number - number % N_TOGETHER
    key = (str(workshop.base), first)
    if key not in _done:
        seed = int(np.random.default_rng(first).integers(2**31))
        _done[key] = _send_all(workshop, seed, first)
    return _done[key][number - first]


def _send_all(workshop: Workshop, seed: int, first: int) -> list[Outcome]:
    rngs = [np.random.default_rng([seed, first + k]) for k in range(N_TOGETHER)]
    with workshop.folder(f"http-{first}") as work:
        result = work.parent / "result"
        process = Process(lambda: _serve(result, rngs), work)
        ended = process.finish(CPU_SECONDS)
        outcomes = [Outcome(*pickle.loads(line)) for line in result.read_bytes().split(b"\n--\n") if line]
        leavings = {**tree(work.parent / "tmp"), **tree(work)}
    missing = Verdict.HANG if ended.timed_out or ended.stopped else Verdict.UNEXPECTED
    n_missing = N_TOGETHER - len(outcomes)
    detail = f"status {ended.status}: {ended.err[:1500] if ended.status < 0 else ended.err[-900:]}"
    outcomes += [Outcome(missing, "the application has ended", detail)] * n_missing
    if leavings:
        outcomes[-1] = Outcome(Verdict.LEFT, "after the application has ended", str(sorted(leavings)[:5]))
    return outcomes


def _serve(result: Path, rngs: list[np.random.Generator]) -> None:
    """Make an application, send it requests, and write down what became of each."""
    import gradio.routes

    from sepnet.serving.app import make_app

    constants.HF_HUB_OFFLINE = True
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    uploads = UploadFolder(LIMITS)
    os.environ["GRADIO_TEMP_DIR"] = str(uploads.path)
    vars(gradio.routes)["DEFAULT_TEMP_DIR"] = str(uploads.path)  # it has been imported without that variable
    tempfile.tempdir = str(uploads.path.parent)
    signal.signal(signal.SIGALRM, _late)
    try:
        with (
            TestClient(make_app(MODELS, LIMITS, uploads, with_examples=False)) as client,
            result.open("ab") as log,
        ):
            for rng in rngs:
                log.write(pickle.dumps(_try(client, uploads, rng)) + b"\n--\n")
                log.flush()
    finally:
        uploads.close()


class _LateError(BaseException):
    pass


def _late(*_: object) -> None:
    raise _LateError


def _try(client: TestClient, uploads: UploadFolder, rng: np.random.Generator) -> tuple[Verdict, str, str]:
    kinds: tuple[Callable[[np.random.Generator], tuple[Send, str]], ...] = (
        _form,
        _form,
        _form,
        _malformed,
        _any,
    )
    send, label = kinds[int(rng.integers(len(kinds)))](rng)
    before = set(tree(uploads.path))
    begin = Path("/proc/self/fd/2").stat().st_size
    signal.alarm(REQUEST_SECONDS)
    try:
        answer = send(client)
        content = answer.content
    except _LateError:
        return Verdict.HANG, label, f"{REQUEST_SECONDS} s"
    except (
        httpx.InvalidURL,
        httpx.LocalProtocolError,
        UnicodeEncodeError,
        httpx.UnsupportedProtocol,
    ) as error:
        return Verdict.REFUSED, label, f"the client refuses it: {error}"
    except Exception as error:
        return Verdict.UNEXPECTED, label, f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    printed = Path("/proc/self/fd/2").resolve().read_text(errors="replace")[begin:]
    detail = f"{answer.status_code} {content[:300]!r}"
    if TRACEBACK in printed or (answer.status_code >= 500 and answer.status_code != 503):
        return Verdict.UNEXPECTED, label, f"{detail} {printed[-800:]}"
    left = {name for name in set(tree(uploads.path)) - before if name.rpartition("/")[2] != ""}
    if left and "/gradio_api/upload" not in label:
        return Verdict.LEFT, label, str(sorted(left)[:5])
    if answer.status_code >= 400:
        return (Verdict.REFUSED if _is_sentence(label, content) else Verdict.UNEXPECTED), label, detail
    wrong = _wrong(label, answer)
    return (Verdict.NOTHING, label, wrong) if wrong else (Verdict.DONE, label, detail)


def _is_sentence(label: str, content: bytes) -> bool:
    if "/api/separate" not in label or label.startswith("HEAD"):
        return True
    try:
        return "\n" not in json.loads(content)["error"]
    except (ValueError, KeyError, TypeError):
        return False


def _wrong(label: str, answer: httpx.Response) -> str:
    """What is wrong with the answer to a request that was served."""
    if not label.startswith("POST /api/separate"):
        return ""
    try:
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            names = [source["file"] for source in json.loads(archive.read("manifest.json"))["sources"]]
            lengths = {soundfile.info(io.BytesIO(archive.read(name))).frames for name in names}
    except (zipfile.BadZipFile, ValueError, KeyError, soundfile.LibsndfileError) as error:
        return f"{type(error).__name__}: {error}"
    return "" if names and len(lengths) == 1 else f"sources {names} of {lengths} samples"


def _pick(rng: np.random.Generator, values: tuple[Any, ...]) -> Any:
    return values[int(rng.integers(len(values)))]


def _sound(rng: np.random.Generator) -> bytes:
    if rng.random() < 0.45:
        stream = io.BytesIO()
        soundfile.write(
            stream, tiny.voice(float(rng.choice((0.1, 0.5, 1.0, 6.0))), rng), tiny.RATE, format="WAV"
        )
        return stream.getvalue()
    data = sound(rng)[0]
    return damaged(rng, data) if rng.random() < 0.6 else data


def _form(rng: np.random.Generator) -> tuple[Send, str]:
    """A form for the API, most often with a sound file and fitting fields."""
    files: list[tuple[str, tuple[str, bytes]]] = []
    data: dict[str, str] = {}
    if rng.random() < 0.93:
        files.append(("file", (_pick(rng, NAMES) if rng.random() < 0.3 else "a.wav", _sound(rng))))
    data["model"] = _pick(rng, TEXTS) if rng.random() < 0.2 else _pick(rng, MODELS)
    if rng.random() < 0.7:
        data["n_sources"] = _pick(rng, TEXTS) if rng.random() < 0.4 else "2"
    if rng.random() < 0.3:
        data["channels"] = _pick(rng, TEXTS) if rng.random() < 0.4 else _pick(rng, ("mean", "all"))
    if data["model"] == "energy_reference" or rng.random() < 0.1:
        files.append(("query", ("q.wav", _sound(rng))))
    for _ in range(int(rng.choice((0, 0, 0, 1, 2, 9)))):
        files.append(("reference", ("r.wav", _sound(rng))))
    if rng.random() < 0.15:
        field = _pick(rng, FIELDS)
        if rng.random() < 0.5:
            data[field] = _pick(rng, TEXTS)
        else:
            files.append((field, (_pick(rng, NAMES), _sound(rng))))
    headers = dict(_odd_headers(rng, 0.1))
    label = (
        f"POST /api/separate {data} {[(name, file[0][:20], len(file[1])) for name, file in files]} {headers}"
    )
    return lambda client: client.post("/api/separate", files=files or None, data=data, headers=headers), label


def _odd_headers(rng: np.random.Generator, share: float) -> Iterator[tuple[str, str]]:
    while rng.random() < share:
        yield _pick(rng, HEADERS)


def _malformed(rng: np.random.Generator) -> tuple[Send, str]:
    """A form whose bytes are damaged."""
    request = httpx.Request("POST", "http://testserver/api/separate", data={"model": "hpss",
                                                                            "n_sources": "2"},
                            files={"file": ("a.wav", _sound(rng))})  # fmt: skip
    body = damaged(rng, request.read())
    for _ in range(int(rng.integers(0, 3))):
        old, new = _pick(
            rng,
            (
                (b"\r\n", b"\n"),
                (b"--", b"-"),
                (b'"', b""),
                (b"name=", b"nam="),
                (b"filename", b"filename*"),
                (b": ", b":"),
                (b"form-data", b""),
                (b"Content", b"\xff"),
                (b"\r\n\r\n", b"\r\n"),
            ),
        )
        body = body.replace(old, new, int(rng.integers(1, 4)))
    headers = {"content-type": request.headers["content-type"], **dict(_odd_headers(rng, 0.3))}
    path = _pick(rng, ("/api/separate", "/api/separate", "/gradio_api/upload"))
    label = f"POST {path} {len(body)} bytes of a damaged form, {headers!r:.200}"
    encoded = {name: value.encode("latin1", "replace") for name, value in headers.items()}
    return lambda client: client.post(path, content=body, headers=encoded), label


def _any(rng: np.random.Generator) -> tuple[Send, str]:
    """Any method at any address."""
    method, path = (
        _pick(rng, METHODS) if rng.random() < 0.5 else _pick(rng, ("GET", "POST")),
        _pick(rng, PATHS),
    )
    body = rng.bytes(int(rng.integers(3000))) if rng.random() < 0.3 else _pick(rng, BODIES)
    headers = dict(_odd_headers(rng, 0.5))
    query = _pick(
        rng,
        (
            "",
            "",
            "?x=1",
            "?__theme=dark",
            "?" + "a=b&" * 500,
            "?%00",
            "?session_hash=a",
            "?=",
            "?logs=1&deep_link=x",
        ),
    )
    if "POST" in method and rng.random() < 0.6:
        headers.setdefault("content-type", "application/json")
    encoded = {name: value.encode("latin1", "replace") for name, value in headers.items()}
    label = f"{method} {path[:100]}{query[:30]} {body[:60]!r} {headers!r:.200}"
    return lambda client: client.request(
        method, path + query, content=body if method != "GET" else None, headers=encoded
    ), label
