"""The API over HTTP and Gradio's client: right results for whoever may ask, a sentence for everyone else."""

from __future__ import annotations

import contextlib
import functools
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import httpx
import numpy as np
import pytest
import soundfile

import sepnet
from sepnet.evaluation.memory import forget_peak, resident_mb
from sepnet.inference.pipeline import Pipeline, PipelineSettings
from sepnet.serving import Limits, running, server
from sepnet.serving.models import Models
from sepnet.serving.uploads import UploadFolder
from sepnet.types import SepnetError
from tests.serving_fixtures import MODELS, RATE, noise, separate, unpacked, wav

gradio_client = pytest.importorskip(
    "gradio_client", reason="the page needs gradio: pip install 'sepnet[demo]'"
)
LIMITS = Limits(seconds=5, upload_mb=2, sources=4, waiting=32)


@pytest.fixture(scope="module")
def address():
    with running(MODELS, limits=LIMITS) as found:
        yield found


@pytest.fixture(scope="module")
def client(address):
    return gradio_client.Client(address, verbose=False)


@pytest.fixture
def sound_path(tmp_path):
    path = tmp_path / "mix.wav"
    path.write_bytes(wav(noise(seed=3)))
    return path


def test_the_models_tell_what_they_need(address):
    found = {model["name"]: model for model in httpx.get(f"{address}/api/models").json()["models"]}
    assert {name: model["needs"] for name, model in found.items()} == {
        "hpss": [],
        "nmf": ["n_sources"],
        "energy_reference": ["queries"],
    }
    assert found["hpss"]["n_sources"] == 2


def test_http_gives_what_the_library_gives(address):
    mixture = noise(seed=1)
    manifest, sources = unpacked(separate(address, wav(mixture), model="nmf", n_sources=3))
    expected = sepnet.separate(mixture, RATE, model="nmf", n_sources=3)
    np.testing.assert_array_equal(sources, expected.sources.numpy())
    assert (manifest["model"], manifest["sample_rate"], manifest["seconds"]) == ("nmf", RATE, 1.0)
    assert manifest["pipeline"] == asdict(PipelineSettings(channels="mean", n_sources=3))
    assert manifest["residual_db"] is None


def test_channels_are_averaged_or_all_handed_on():
    stereo = np.stack([noise(seed=1), noise(seed=2)])
    stereo[1] += 0.5 * stereo[0]
    with running(["hpss", "fastica"]) as address:
        settings, sources = unpacked(
            separate(address, wav(stereo.T), model="fastica", n_sources=2, channels="all")
        )
        with pytest.raises(AssertionError, match="2 channels"):
            unpacked(separate(address, wav(stereo.T), model="fastica", n_sources=2))
        _, average = unpacked(separate(address, wav(stereo.T), model="hpss"))
        _, first = unpacked(separate(address, wav(stereo.T), model="hpss", channels="all"))
    assert settings["pipeline"]["channels"] == "all"
    np.testing.assert_allclose(sources.sum(axis=0), stereo[0], atol=1e-5)
    np.testing.assert_allclose(average.sum(axis=0), stereo.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(first.sum(axis=0), stereo[0], atol=1e-5)


def test_a_query_and_stereo_at_another_rate(address):
    clock = np.arange(2 * 16000) / 16000
    tone = np.sin(2 * np.pi * 440 * clock) * (clock > 1)
    stereo = np.stack([tone, tone], axis=1) * 0.3 + 0.001
    query = wav(0.3 * np.sin(2 * np.pi * 440 * clock[:8000]), 16000)
    _, sources = unpacked(separate(address, wav(stereo, 16000), model="energy_reference", query=query))
    expected = sepnet.separate(
        stereo.mean(axis=1),
        16000,
        model="energy_reference",
        query=(0.3 * np.sin(2 * np.pi * 440 * clock[:8000]), 16000),
    )
    assert sources.shape == (2, 32000)
    np.testing.assert_allclose(sources, expected.sources.numpy(), atol=1e-4)


def test_scores_solve_the_permutation(address):
    tone = 0.3 * np.sin(2 * np.pi * 500 * np.arange(2 * RATE) / RATE)
    clicks = np.zeros(2 * RATE)
    clicks[1000::2000] = 0.9
    sound = wav(tone + clicks)
    manifest, _ = unpacked(separate(address, sound, model="hpss", reference=[wav(clicks), wav(tone)]))
    assert [source["label"] for source in manifest["sources"]] == ["harmonic", "percussive"]
    assert [(score["reference"], score["output"]) for score in manifest["scores"]] == [(1, 2), (2, 1)]
    assert all(score["si_sdri"] > 5 for score in manifest["scores"])


def test_names_of_files_are_never_used(address):
    manifest, _ = unpacked(separate(address, wav(noise()), name="../../../etc/cron.d/x.wav", model="hpss"))
    assert [source["file"] for source in manifest["sources"]] == ["s1.wav", "s2.wav"]


@pytest.mark.parametrize(
    ("sound", "fields", "status", "told"),
    [
        (b"no sound", {}, 400, "can't be read as audio"),
        (b"", {}, 400, "is empty"),
        (wav(noise(6)), {}, 400, "lasts 6.0 s or more, of 5 s"),
        (
            wav(noise()),
            {"model": "pit-2spk-8k"},
            400,
            "there is no model 'pit-2spk-8k': there are hpss, nmf",
        ),
        (wav(noise()), {"model": "/etc"}, 400, "there is no model"),
        (wav(noise()), {"model": "owner/name"}, 400, "there is no model"),
        (wav(noise()), {"model": "nmf"}, 400, "give n_sources"),
        (wav(noise()), {"model": "nmf", "n_sources": 5}, 400, "give 1 to 4"),
        (wav(noise()), {"model": "nmf", "n_sources": 0}, 400, "give 1 to 4"),
        (wav(noise()), {"model": "nmf", "n_sources": "two"}, 400, "n_sources is 'two': give a whole number"),
        (wav(noise()), {"model": "energy_reference"}, 400, "give a query"),
        (wav(noise()), {"model": "energy_reference", "query": b"RIFF"}, 400, "the query"),
        (wav(noise()), {"modle": "nmf"}, 400, "there is no field 'modle'"),
        (wav(noise()), {"channels": "left"}, 400, "give mean or all"),
        (wav(noise()), {"reference": [wav(noise(0.5))]}, 400, "reference 1 has 4000 samples"),
        (wav(noise()), {"reference": [wav(noise())]}, 400, "the estimates are"),
        (wav(noise()), {"query": "text"}, 400, "is text: send a file"),
        (bytes(3_000_000), {}, 413, "the request is too large: 2 MB are allowed"),
    ],
)
def test_bad_requests_get_one_sentence(address, sound, fields, status, told):
    answer = separate(address, sound, **fields)
    assert answer.status_code == status
    assert told in answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    assert "Traceback" not in answer.text
    assert "/tmp" not in answer.text


def test_what_no_method_can_serve_is_told_apart():
    with running(["fastica"]) as address:
        answer = separate(address, wav(noise()), n_sources=2)
    assert answer.status_code == 422
    assert "2 channels" in answer.json()["error"]


def test_a_body_without_a_length_is_counted(address):
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    pieces = (bytes(100_000) if k else head for k in range(40))
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = httpx.post(f"{address}/api/separate", content=pieces, headers=headers)
    assert answer.status_code == 413


@pytest.mark.parametrize("sent", [0.5, 1.0])
def test_who_leaves_midway_is_forgotten(address, sent, caplog):
    """In the middle of the body, or before the answer: the others are served, and nothing is logged."""
    request = httpx.Request(
        "POST", f"{address}/api/separate", files={"file": wav(noise(4))}, data={"model": "hpss"}
    )
    body = request.read()
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    with socket.create_connection((request.url.host, request.url.port)) as connection:
        connection.sendall(
            f"POST /api/separate HTTP/1.1\r\n{head}\r\n".encode() + body[: round(sent * len(body))]
        )
    unpacked(separate(address, wav(noise()), model="hpss"))
    assert not caplog.records


def test_other_bodies_are_refused(address):
    assert "no sound file was sent" in httpx.post(f"{address}/api/separate", json={"a": 1}).json()["error"]
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    assert httpx.post(f"{address}/api/separate", content=b"nothing", headers=broken).status_code == 400


@pytest.mark.parametrize(
    "place",
    [
        "gradio_api/file=/etc/passwd",
        "gradio_api/file=../../../../etc/passwd",
        "gradio_api/file=%2e%2e%2f%2e%2e%2fetc/passwd",
        "gradio_api/file=http://127.0.0.1:9/",
        "gradio_api/file/etc/passwd",
        "gradio_api/proxy=http://127.0.0.1:9/",
        "static/../../../../etc/passwd",
        "static/%2e%2e/%2e%2e/routes.py",
        "assets/..%2f..%2f..%2froutes.py",
        "results/aaaa/s1.wav",
        "results/../api/models",
        "monitoring",
        "gradio_api/runs",
        "docs",
        "openapi.json",
    ],
)
def test_nothing_on_the_server_can_be_read(address, place):
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as raw:  # as it stands: httpx would tidy the path
        raw.sendall(f"GET /{place} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(functools.partial(raw.recv, 1 << 16), b""))
    status = int(answer.split()[1])
    assert status in (403, 404)
    assert b"root:" not in answer
    assert b"import" not in answer


@pytest.mark.parametrize("kind", ["path", "link", "http"])
def test_gradio_takes_no_path_and_fetches_no_address(address, kind, tmp_path):
    secret = tmp_path / "secret.wav"
    secret.write_bytes(wav(noise()))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.3)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/sound.wav"
        path = {"path": str(secret), "link": f"{secret.parent}/../{tmp_path.name}/secret.wav", "http": url}[
            kind
        ]
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        payload = {"data": [file, "hpss", None, None, None, "mean"], "session_hash": "abc"}
        answers = [
            httpx.post(f"{address}/gradio_api/queue/join", json=payload | {"fn_index": 0}),
            httpx.post(f"{address}/gradio_api/call/separate", json=payload),
        ]
        assert [answer.status_code for answer in answers] == [400, 400]
        with pytest.raises(TimeoutError):
            listener.accept()


def test_gradio_itself_refuses_paths_without_the_filter(tmp_path, monkeypatch):
    """Mounted in another application, Gradio checks paths only if it is told that it runs."""
    from starlette.testclient import TestClient

    from sepnet.serving.app import make_app

    secret = tmp_path / "secret.wav"
    secret.write_bytes(wav(noise()))
    folder = UploadFolder(LIMITS)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder.path))
    inner = make_app(["hpss"], LIMITS, folder, with_examples=False).app
    with TestClient(inner) as client:
        file = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
        told = client.post(
            "/gradio_api/call/separate", json={"data": [file, "hpss", None, None, None, "mean"]}
        )
        events = client.get(f"/gradio_api/call/separate/{told.json()['event_id']}").text
    copies = list(folder.path.rglob("secret.wav"))
    folder.close()
    assert "event: error" in events
    assert copies == []


def test_gradios_client_gets_files_and_leaves_none(address, client, sound_path):
    mixture = soundfile.read(sound_path, dtype="float32")[0]
    files, manifest = client.predict(gradio_client.handle_file(sound_path), "nmf", 2, api_name="/separate")
    sources = np.stack([soundfile.read(file, dtype="float32")[0] for file in files])
    expected = sepnet.separate(mixture, RATE, model="nmf", n_sources=2)
    np.testing.assert_array_equal(sources, expected.sources.numpy())
    assert [source["file"] for source in manifest["sources"]] == ["s1.wav", "s2.wav"]


def test_gradios_client_gets_the_sentence(client, sound_path):
    with pytest.raises(gradio_client.exceptions.AppError, match="give n_sources"):
        client.predict(gradio_client.handle_file(sound_path), "nmf", api_name="/separate")


def test_unforeseen_errors_tell_nothing(monkeypatch, address, client, sound_path, caplog):
    def fail(*arguments, **settings):
        raise RuntimeError("secret at /root/secret")

    monkeypatch.setattr(Pipeline, "separate", fail)
    answer = separate(address, wav(noise()))
    assert answer.status_code == 500
    with pytest.raises(gradio_client.exceptions.AppError) as caught:
        client.predict(gradio_client.handle_file(sound_path), "hpss", api_name="/separate")
    for told in (answer.text, str(caught.value)):
        assert "something went wrong on the server" in told
        assert "secret" not in told
    assert "secret at /root/secret" in caplog.text


def test_uploads_are_removed_and_so_is_the_folder(monkeypatch, sound_path):
    folders = []
    monkeypatch.setattr(
        server, "UploadFolder", lambda limits: folders.append(UploadFolder(limits)) or folders[-1]
    )
    with running(["hpss"]) as address:
        (folder,) = folders
        assert folder.path.stat().st_mode & 0o077 == 0
        client = gradio_client.Client(address, verbose=False)
        for model in ("hpss", "none"):  # also after an error
            with (
                pytest.raises(gradio_client.exceptions.AppError)
                if model == "none"
                else contextlib.nullcontext()
            ):
                client.predict(gradio_client.handle_file(sound_path), model, api_name="/separate")
        left = [path for path in folder.path.rglob("*") if path.is_file()]
        assert {path.name for path in left} == {"s1.wav", "s2.wav"}  # results, for the client to fetch
    assert not folder.path.exists()


def test_a_full_server_says_so(monkeypatch):
    go, begun = threading.Event(), threading.Event()
    real = Pipeline.separate

    def slow(*arguments, **settings):
        begun.set()
        assert go.wait(30)
        return real(*arguments, **settings)

    monkeypatch.setattr(Pipeline, "separate", slow)
    with (
        running(["hpss"], limits=Limits(waiting=1, wait_seconds=0.5)) as address,
        ThreadPoolExecutor(3) as pool,
    ):
        first = pool.submit(separate, address, wav(noise(seed=1)))
        assert begun.wait(30)
        second = pool.submit(separate, address, wav(noise(seed=2)))  # waits, and no turn comes
        while httpx.get(f"{address}/api/models").status_code != 200 or not second.running():
            pass
        told = second.result()
        assert (told.status_code, told.headers["retry-after"]) == (503, "30")
        assert "no job ended within 0.5 s" in told.json()["error"]
        go.set()
        unpacked(first.result())


def test_thirty_two_clients_at_once_each_get_their_own(address, client, tmp_path):
    """24 over HTTP and 8 through Gradio: each one's sources sum to the mixture that it alone sent."""
    mixtures = [noise(1.0, seed) for seed in range(32)]
    forget_peak()
    before = resident_mb("VmRSS")

    def over_http(mixture: np.ndarray) -> np.ndarray:
        return unpacked(separate(address, wav(mixture), model="hpss"))[1]

    def through_gradio(mixture: np.ndarray) -> np.ndarray:
        path = tmp_path / f"{id(mixture)}.wav"
        path.write_bytes(wav(mixture))
        files, _ = client.predict(gradio_client.handle_file(path), "hpss", api_name="/separate")
        return np.stack([soundfile.read(file, dtype="float32")[0] for file in files])

    with ThreadPoolExecutor(32) as pool:
        ways = [through_gradio if k % 4 == 0 else over_http for k in range(32)]
        found = list(pool.map(lambda way, mixture: way(mixture), ways, mixtures))
    for mixture, sources in zip(mixtures, found, strict=True):
        np.testing.assert_allclose(sources.sum(axis=0), mixture, atol=1e-5)
    assert resident_mb("VmHWM") - before < 300


def test_models_are_the_operators_alone(tmp_path):
    run_folder = tmp_path / "nmf"
    run_folder.mkdir()
    (run_folder / "config.yaml").write_text("model: {_target_: sepnet.separators.identity.Identity}\n")
    for names, told in (
        ([], "the list is empty"),
        (["irm"], "is an oracle"),
        (["nmf", str(run_folder)], "two models are named 'nmf'"),
        (["nmff"], "did you mean 'nmf'"),
    ):
        with pytest.raises(SepnetError, match=told):
            Models(names)


def test_a_taken_port_and_a_missing_gradio_are_told_in_a_sentence(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with (
            pytest.raises(SepnetError, match=f"can't serve at 127.0.0.1:{port}"),
            running(["hpss"], port=port),
        ):
            pass
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(SepnetError, match=r"pip install 'sepnet\[demo\]'"), running(["hpss"]):
        pass
