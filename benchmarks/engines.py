"""What engines cost: separation by one and two workers, the overhead of an item, the memory of the driver."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from omegaconf import DictConfig

from sepnet import artifact
from sepnet.engines import LOCAL, Engine, EngineSettings, open_engine
from sepnet.evaluation.memory import resident_mb
from sepnet.inference.files import Recording
from sepnet.inference.job import SeparationJob
from sepnet.inference.outputs import OutputSettings
from sepnet.inference.pipeline import Pipeline
from sepnet.inference.separate_all import RecordingWorker

RATE = 8000
FILE_SECONDS = 20.0
MODEL = "hpss"
N_PARTS = 4  # of the empty items, after which the memory is printed


def run(config: DictConfig) -> None:
    """Print seconds and ratios.

    Args:
        config: ``n_files`` of 20 s are separated, ``n_items`` are empty.
    """
    settings = EngineSettings(engine="ray", n_processes=2)
    with tempfile.TemporaryDirectory() as name, open_engine(settings) as cluster:
        files = _make_files(Path(name), config.n_files)
        seconds: dict[str, float] = {}
        engines: dict[str, tuple[Engine, int]] = {
            "local, 1 process": (LOCAL, 1),
            "local, 2 processes": (LOCAL, 2),
            "ray, 1 worker": (cluster, 1),
            "ray, 2 workers": (cluster, 2),
        }
        for label, (engine, n_workers) in engines.items():
            recordings = [Recording(file, Path(name) / label, file.stem) for file in files]
            seconds[label] = _seconds(engine, recordings, n_workers)
            print(f"{label}: {seconds[label]:.2f} s for {len(files)} files of {FILE_SECONDS:g} s")
        speedup = seconds["ray, 1 worker"] / seconds["ray, 2 workers"]
        print(f"ray, 2 workers against 1: {speedup:.2f} times as fast")
        ratio = seconds["ray, 2 workers"] / seconds["local, 2 processes"]
        print(f"ray against local, 2 each: {ratio:.2f} of the time")
        _measure_empty_items(cluster, config.n_items)


def _make_files(folder: Path, n_files: int) -> list[Path]:
    files = [folder / f"{number}.wav" for number in range(n_files)]
    for number, file in enumerate(files):
        noise = 0.1 * np.random.default_rng(number).standard_normal(round(FILE_SECONDS * RATE))
        soundfile.write(file, noise.astype(np.float32), RATE, subtype="FLOAT")
    return files


def _seconds(engine: Engine, recordings: list[Recording], n_workers: int) -> float:
    """The time for the recordings but the first ones, with which the workers start."""
    results = engine.map(make_worker, recordings, n_workers=n_workers)
    for _ in range(n_workers):
        next(results)
    begin = time.perf_counter()
    n_timed = sum(1 for _ in results)
    return (time.perf_counter() - begin) * len(recordings) / max(n_timed, 1)


def make_worker() -> RecordingWorker:
    """Load the method in a worker."""
    pipeline = Pipeline(artifact.load(MODEL))
    return RecordingWorker(SeparationJob(model=MODEL, pipeline=pipeline, output=OutputSettings()))


def _measure_empty_items(engine: Engine, n_items: int) -> None:
    """Print the time for an item without work, and the memory of this process as more are done."""
    results = engine.map(make_empty, range(n_items), n_workers=2)
    next(results)
    begin = time.perf_counter()
    for n_done, _ in enumerate(results, 2):
        if n_done % max(n_items // N_PARTS, 1) == 0:
            overhead = (time.perf_counter() - begin) / n_done
            print(
                f"{n_done} empty items: {1e3 * overhead:.1f} ms each, driver {resident_mb('VmRSS'):.0f} MiB"
            )


def make_empty() -> Callable[[int], int]:
    """Make a worker that does nothing."""
    return partial(max, 0)
