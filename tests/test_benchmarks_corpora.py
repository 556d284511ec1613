"""The corpus of many short files, and that nothing grows with the number of files that are in work."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from benchmarks import corpora
from sepnet.data.ordered_map import map_in_order


def test_the_made_corpus_is_indexed_opened_and_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "FILES_A_SPEAKER", 2)
    corpora.make_corpus(tmp_path / "wavs", 40, 0.5)
    manifest = corpora.corpus(tmp_path).manifest()
    assert len(manifest) == 40
    assert manifest.seconds == pytest.approx(20)
    assert {name: len(manifest.split(name).speakers) for name in manifest.splits} == {
        "dev": 2, "test": 2, "train": 16,
    }  # fmt: skip
    training, batch = corpora.first_batch(tmp_path, 0.5)
    assert len(training.mixer.cache) == 32
    assert batch.mixture.shape == (corpora.BATCH_SIZE, 1, 2000)
    assert bool(batch.mixture.abs().amax(-1).gt(0).all())


def test_work_in_threads_comes_in_order_and_does_not_run_ahead() -> None:
    lock, started = threading.Lock(), 0
    most_ahead = 0

    def square(number: int) -> int:
        nonlocal started
        with lock:
            started += 1
        return number * number

    with ThreadPoolExecutor(4) as pool:
        for n_taken, result in enumerate(map_in_order(pool, square, range(1000), max_ahead=8)):
            assert result == n_taken * n_taken
            most_ahead = max(most_ahead, started - n_taken)
    assert n_taken == 999
    assert most_ahead <= 8


def test_an_error_in_a_thread_is_raised_at_its_place() -> None:
    def inverse(number: int) -> float:
        return 1 / number

    with ThreadPoolExecutor(2) as pool:
        results = map_in_order(pool, inverse, [4, 2, 0, 1], max_ahead=2)
        np.testing.assert_allclose([next(results), next(results)], [0.25, 0.5])
        with pytest.raises(ZeroDivisionError):
            next(results)
