"""Many clients of one server, each with its own mixture: python benchmarks/run.py what=serving."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from sepnet.data.audio.memory import SoundLimits, decode, encode
from sepnet.types import SepnetError

N_CLIENTS = 32
RATE = 8000
BOUNDARY = "sepnet-benchmark"
START_SECONDS = 300.0


def run(config: DictConfig) -> None:
    """Print requests a second, waiting times and the server's peak memory, for ``config.seconds`` of noise.

    The server is a process of its own that does one job at a time.

    Raises:
        SepnetError: A client gets no answer, or that of another.
    """
    models = ["hpss", "nmf"]
    command = [
        sys.executable,
        "-m",
        "sepnet.cli.serve",
        f"models=[{','.join(models)}]",
        "port=0",
        "examples=false",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            address = _address(server)
            _memory(server.pid, peak=False)
            print(f"{N_CLIENTS} clients at once, each with {config.seconds:g} s of noise at {RATE} Hz")
            for model in models:
                _measure(address, model, config.seconds, server.pid)
        finally:
            server.terminate()


def _measure(address: str, model: str, seconds: float, pid: int) -> None:
    mixtures = [np.random.default_rng(k).normal(0, 0.1, round(seconds * RATE)) for k in range(N_CLIENTS)]
    bodies = [_form(encode(mixture.astype(np.float32), RATE), model) for mixture in mixtures]
    before = _memory(pid, peak=False)
    begin = time.perf_counter()
    with ThreadPoolExecutor(N_CLIENTS) as pool:
        answers = list(pool.map(lambda body: _post(address, body), bodies))
    taken = time.perf_counter() - begin
    lost = sum(_error(answer, mixture) > 1e-4 for (answer, _), mixture in zip(answers, mixtures, strict=True))
    if lost:
        raise SepnetError(f"{lost} of {N_CLIENTS} clients got sources that do not sum to their own mixture")
    waiting_seconds = sorted(elapsed for _, elapsed in answers)
    print(
        f"{model:6}{N_CLIENTS / taken:6.1f} requests/s, {N_CLIENTS * seconds / taken:6.1f} s of sound/s; "
        f"answers after {waiting_seconds[0]:.2f} to {waiting_seconds[-1]:.2f} s, "
        f"median {waiting_seconds[N_CLIENTS // 2]:.2f}; "
        f"no answer lost or mixed up; the server held {before:.0f} MB before, "
        f"{_memory(pid, peak=True):.0f} MB at its peak"
    )


def _address(server: subprocess.Popen[str]) -> str:
    """The address of the server, once it answers there."""
    assert server.stdout is not None
    begin = time.monotonic()
    for line in server.stdout:
        if " at http://" in line:
            address = line.split(" at ")[1].split()[0]
            while time.monotonic() - begin < START_SECONDS:
                try:
                    urllib.request.urlopen(f"{address}/api/models").close()
                    return address
                except OSError:
                    time.sleep(0.1)
    raise SepnetError("the server did not start: see above")


def _form(sound: bytes, model: str) -> bytes:
    """A multipart form."""
    fields = {"model": model, "n_sources": "2"}
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'
        for k, v in fields.items()
    ]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    return "".join([*parts, head]).encode() + sound + f"\r\n--{BOUNDARY}--\r\n".encode()


def _post(address: str, body: bytes) -> tuple[bytes, float]:
    """The zip archive, and the seconds until it arrived."""
    begin = time.perf_counter()
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    with urllib.request.urlopen(urllib.request.Request(f"{address}/api/separate", body, headers)) as answer:
        return answer.read(), time.perf_counter() - begin


def _error(answer: bytes, mixture: np.ndarray) -> float:
    """The largest difference between the sum of the sources and the mixture."""
    limits = SoundLimits(seconds=len(mixture) / RATE, channels=1)
    with zipfile.ZipFile(io.BytesIO(answer)) as archive:
        names = [source["file"] for source in json.loads(archive.read("manifest.json"))["sources"]]
        total = sum(decode(archive.read(name), limits=limits).audio[0] for name in names)
    return float(np.abs(total - mixture).max())


def _memory(pid: int, *, peak: bool) -> float:
    """Resident MiB of a process, now or its peak so far; nan where the system does not report it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.split("VmHWM:" if peak else "VmRSS:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        return float("nan")
