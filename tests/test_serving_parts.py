"""The job queue, the result store, the upload folder, the zip archive and the figures, each by itself."""

from __future__ import annotations

import asyncio
import io
import threading
import time
import zipfile

import numpy as np
import pytest
from matplotlib import image

from sepnet.figures import spectrogram
from sepnet.serving import mixer, result_files
from sepnet.serving.job_queue import ClientLeft, JobQueue, ServerBusy
from sepnet.serving.limits import Limits
from sepnet.serving.result_store import ResultStore
from sepnet.serving.uploads import UploadFolder
from sepnet.serving.waveform import waveform_svg
from sepnet.types import SepnetError
from tests.conftest import white_noise


def test_jobs_run_one_at_a_time_in_the_order_of_arrival():
    running, order, n_running = [], [], []

    def work(number: int) -> int:
        running.append(number)
        n_running.append(len(running))
        order.append(number)
        running.remove(number)
        return number**2

    async def all_of_them() -> list[int]:
        jobs = JobQueue(Limits(waiting=20))
        return await asyncio.gather(*(jobs.run(lambda n=n: work(n)) for n in range(20)))

    assert asyncio.run(all_of_them()) == [n**2 for n in range(20)]
    assert order == list(range(20))
    assert max(n_running) == 1


def test_who_finds_no_room_waits_in_vain_or_leaves_is_told_and_takes_no_turn():
    async def scene() -> None:
        jobs, go = JobQueue(Limits(waiting=1, wait_seconds=0.4)), threading.Event()
        first = asyncio.create_task(jobs.run(lambda: go.wait(30)))
        await asyncio.sleep(0.05)

        async def left() -> bool:
            return True

        waiting = asyncio.create_task(jobs.run(lambda: "never"))
        await asyncio.sleep(0.05)
        with pytest.raises(ServerBusy, match="1 requests are waiting already"):
            await jobs.run(lambda: "never")
        with pytest.raises(ServerBusy, match=r"no job ended within 0.4 s"):
            await waiting
        with pytest.raises(ClientLeft):
            await jobs.run(lambda: "never", is_disconnected=left)
        assert jobs.n_waiting == 0
        go.set()
        assert await first
        assert await jobs.run(lambda: "now") == "now"

    asyncio.run(scene())


def test_a_turn_ends_with_its_thread_not_with_whoever_waits_for_it():
    async def scene() -> None:
        jobs, go, done = JobQueue(Limits()), threading.Event(), []
        first = asyncio.create_task(jobs.run(lambda: (go.wait(30), done.append("first"))))
        await asyncio.sleep(0.05)
        first.cancel()
        second = asyncio.create_task(jobs.run(lambda: done.append("second")))
        await asyncio.sleep(0.1)
        assert done == []
        go.set()
        await second
        assert done == ["first", "second"]

    asyncio.run(scene())


def test_errors_of_the_work_are_raised_and_free_the_turn():
    async def scene() -> None:
        jobs = JobQueue(Limits(waiting=0))
        for _ in range(3):
            with pytest.raises(SepnetError, match="no"):
                await jobs.run(_refuse)

    asyncio.run(scene())


def _refuse() -> None:
    raise SepnetError("no")


def test_the_store_holds_no_more_than_it_may():
    store = ResultStore(Limits(results_mb=1.0))
    tokens = [store.put({"s1.wav": bytes(400_000)}) for _ in range(3)]
    assert len(set(tokens)) == 3
    assert [store.get(token) is not None for token in tokens] == [False, True, True]
    with pytest.raises(SepnetError, match="takes 2 MB, but 1 MB are allowed"):
        store.put({"s1.wav": bytes(2_000_000)})
    assert store.get(tokens[2]) is not None  # what was there did not make room for it


def test_the_store_forgets_in_time(monkeypatch):
    store = ResultStore(Limits(keep_minutes=1))
    token = store.put({"s1.wav": b"1"})
    begin = time.monotonic()
    monkeypatch.setattr("sepnet.serving.result_store.time.monotonic", lambda: begin + 59)
    assert store.get(token) == {"s1.wav": b"1"}
    monkeypatch.setattr("sepnet.serving.result_store.time.monotonic", lambda: begin + 62)
    assert store.get(token) is None


def test_the_folder_knows_its_own_and_removes_what_has_expired(tmp_path, monkeypatch):
    folder = UploadFolder(Limits(keep_minutes=1, folder_mb=0.001))
    kept = folder.add_permanent("example.wav", b"kept")
    stored = folder.store(io.BytesIO(b"upload"), ".WAV")
    odd = folder.store(io.BytesIO(bytes(2000)), "/../../x")
    assert (stored.name, odd.name) == ("sound.wav", "sound")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (folder.path / "link").symlink_to(secret)
    outside = [secret, folder.path / "link", folder.path / ".." / "x", "http://x/", "\0", folder.path]
    assert [folder.contains(path) for path in (kept, stored, odd)] == [True] * 3
    assert not any(folder.contains(path) for path in outside)
    with pytest.raises(FileNotFoundError):
        folder.read(secret)
    assert folder.is_full()
    folder.remove_expired()
    assert stored.exists()
    begin = time.time()
    monkeypatch.setattr("sepnet.serving.uploads.time.time", lambda: begin + 61)
    folder.remove_expired()
    assert not stored.exists()
    assert not stored.parent.exists()
    assert kept.exists()
    assert not folder.is_full()
    folder.remove(kept)
    assert kept.exists()
    folder.close()
    assert not folder.path.exists()
    assert secret.exists()


def test_the_zip_comes_in_pieces_and_is_whole():
    files = {"manifest.json": b"{}", "s1.wav": np.random.default_rng(0).bytes(3_500_000), "s2.wav": b""}
    pieces = list(result_files.zipped(files))
    assert max(map(len, pieces)) < 1.2 * result_files.PIECE_BYTES
    with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as found:
        assert {name: found.read(name) for name in found.namelist()} == files


def test_pictures_share_their_scale():
    tone = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000)).astype(np.float32)
    loud = spectrogram.spectrogram_db(tone, 8000)
    assert loud.max() - spectrogram.spectrogram_db(0.1 * tone, 8000).max() == pytest.approx(20, abs=0.01)
    assert loud.max(axis=1).argmax() == round(1000 * 256 / 8000)  # windows of 32 ms
    picture = image.imread(io.BytesIO(spectrogram.png(loud, float(loud.max()))))
    brightest = np.unravel_index(picture[..., :3].sum(axis=-1).argmax(), picture.shape[:2])[0]
    assert brightest == len(loud) - 1 - round(1000 * 256 / 8000)  # low frequencies are below
    quiet = image.imread(io.BytesIO(spectrogram.png(loud, float(loud.max()) + 200)))
    assert np.ptp(quiet, axis=(0, 1)).max() == 0  # all below the range: the darkest colour


@pytest.mark.parametrize(("n_samples", "rate"), [(1, 8000), (500, 8000), (96000 * 10, 96000)])
def test_pictures_stay_small_whatever_the_length(n_samples, rate):
    levels = spectrogram.spectrogram_db(
        white_noise(n_samples), rate, max_frames=mixer.MAX_FRAMES, max_rows=mixer.MAX_ROWS
    )
    assert levels.shape[0] <= mixer.MAX_ROWS
    assert levels.shape[1] <= mixer.MAX_FRAMES
    assert len(waveform_svg(white_noise(n_samples), 1.0)) < 20_000


def test_limits_are_positive():
    with pytest.raises(SepnetError, match=r"limits\.seconds is -1"):
        Limits(seconds=-1)
