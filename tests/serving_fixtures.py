"""A server in the background, and what is sent to it."""

from __future__ import annotations

import io
import json
import zipfile

import httpx
import numpy as np
import soundfile

from tests.conftest import white_noise

RATE = 8000
MODELS = ["hpss", "nmf", "energy_reference"]


def wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    """samples: (time,) or (time, channel)."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format="WAV", subtype="FLOAT")
    return stream.getvalue()


def noise(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    return white_noise(round(seconds * RATE), seed)


def separate(
    address: str, sound: bytes, *, name: str = "mix.wav", timeout: float = 120.0, **fields
) -> httpx.Response:
    """POST /api/separate; fields that are bytes go as files."""
    files = [("file", (name, sound))]
    files += [(key, (f"{key}.wav", value)) for key, value in fields.items() if isinstance(value, bytes)]
    files += [
        (key, ("r.wav", one)) for key, value in fields.items() if isinstance(value, list) for one in value
    ]
    data = {key: str(value) for key, value in fields.items() if not isinstance(value, bytes | list)}
    return httpx.post(f"{address}/api/separate", files=files, data=data, timeout=timeout)


def unpacked(answer: httpx.Response) -> tuple[dict, np.ndarray]:
    """The manifest, and the sources (source, time)."""
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        manifest = json.loads(archive.read("manifest.json"))
        names = [source["file"] for source in manifest["sources"]]
        assert archive.namelist() == ["manifest.json", *names]
        return manifest, np.stack(
            [soundfile.read(io.BytesIO(archive.read(n)), dtype="float32")[0] for n in names]
        )
