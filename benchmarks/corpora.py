"""What a corpus of many short files costs: time and memory to index it and to open it."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from omegaconf import DictConfig

from benchmarks.tiny import RATE, voice
from sepnet.data.corpus import Corpus
from sepnet.data.dataset import Collate, MixtureData, TrainingMixtures
from sepnet.data.librimix import DrawnList
from sepnet.data.mixing import Mixing
from sepnet.evaluation.memory import forget_peak, resident_mb
from sepnet.types import Batch

FILES_A_SPEAKER = 100
SPLITS = (*["train"] * 8, "dev", "test")  # of ten speakers in a row
N_DISTINCT = 200  # files that are written; all others are links to these
BATCH_SIZE = 16


def run(config: DictConfig) -> None:
    """Print seconds and memory of each step, each in a process of its own.

    Args:
        config: ``n_corpus_files`` of ``corpus_file_seconds``.
    """
    n_files, seconds = config.n_corpus_files, config.corpus_file_seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begin = time.perf_counter()
        make_corpus(folder / "wavs", n_files, seconds)
        print(
            f"{n_files} files of {seconds:g} s, {n_files * seconds / 3600:.1f} h, which are hard links to "
            f"{min(N_DISTINCT, n_files)}, made in {time.perf_counter() - begin:.1f} s",
            flush=True,
        )
        steps: dict[str, Callable[[Path, float], object]] = {
            "index": index,
            "open the index": index,
            "fingerprint": fingerprint,
            "decode into the cache": open_training,
            "open the training mixtures": open_training,
            "open, and the first batch": first_batch,
            "open training and validation": open_both,
        }
        for label, step in steps.items():
            elapsed, cpu, peak_mb, held_mb = _measure(partial(step, folder, seconds))
            print(
                f"{label}: {elapsed:.2f} s, on processors {cpu:.2f} s, {1e6 * cpu / n_files:.0f} us a file; "
                f"memory at most {peak_mb:.0f} MiB, {1024 * peak_mb / n_files:.2f} KiB a file, in the end "
                f"{held_mb:.0f} MiB",
                flush=True,
            )


def make_corpus(folder: Path, n_files: int, seconds: float) -> None:
    """Write ``<split>/<speaker>/<number>.wav``.

    Args:
        folder: Where.
        n_files: Number of files.
        seconds: The length of each.
    """
    distinct = folder.parent / "distinct"
    distinct.mkdir()
    rng = np.random.default_rng(0)
    sources = [distinct / f"{number}.wav" for number in range(min(N_DISTINCT, n_files))]
    for source in sources:
        soundfile.write(source, voice(seconds, rng), RATE)
    for number in range(n_files):
        speaker = number // FILES_A_SPEAKER
        place = folder / SPLITS[speaker % len(SPLITS)] / f"speaker{speaker:06}"
        if number % FILES_A_SPEAKER == 0:
            place.mkdir(parents=True)
        os.link(sources[number % len(sources)], place / f"{number:08}.wav")


def corpus(folder: Path) -> Corpus:
    """The corpus of a benchmark."""
    return Corpus(root=folder / "wavs", index_dir=folder / "index", progress=False)


def mixtures(folder: Path, seconds: float) -> MixtureData:
    """Training and validation mixtures of two voices."""
    return MixtureData(
        corpus=corpus(folder),
        mixing=Mixing(n_sources=[2], seconds=seconds / 2),
        valid=DrawnList(split="dev", n_mixtures=100),
        test=DrawnList(split="test", n_mixtures=100),
        sample_rate=RATE,
        cache_dir=folder / "cache",
    )


def index(folder: Path, seconds: float) -> object:
    """The manifest, made or read."""
    return corpus(folder).manifest()


def fingerprint(folder: Path, seconds: float) -> object:
    """The fingerprint of the training mixtures."""
    return mixtures(folder, seconds).fingerprint


def open_training(folder: Path, seconds: float) -> object:
    """The training mixtures, whose cache is made or read."""
    return mixtures(folder, seconds).train()


def first_batch(folder: Path, seconds: float) -> tuple[TrainingMixtures, Batch]:
    """The training mixtures and their first batch."""
    training = mixtures(folder, seconds).train()
    return training, Collate(RATE)([training[0, number] for number in range(BATCH_SIZE)])


def open_both(folder: Path, seconds: float) -> object:
    """What a training opens: its mixtures, those of the validation, and the fingerprint."""
    data = mixtures(folder, seconds)
    return data.train(), data.valid(), data.fingerprint


def _measure(step: Callable[[], object]) -> tuple[float, float, float, float]:
    """The seconds of a step, those of the processors, and its memory in MiB: at most, and in the end."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measured, (step,))


def _measured(step: Callable[[], object]) -> tuple[float, float, float, float]:
    before_mb = resident_mb("VmRSS")
    forget_peak()
    begin, begin_cpu = time.perf_counter(), time.process_time()
    result = step()
    elapsed, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    peak_mb, held_mb = resident_mb("VmHWM") - before_mb, resident_mb("VmRSS") - before_mb
    del result
    return elapsed, cpu, peak_mb, held_mb
