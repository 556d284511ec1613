"""A corpus of seconds and a network of a few hundred weights, for benchmarks and tests of whole commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE = 8000
TINY = (
    "data=folder",
    "data.epoch_size=20",
    "data.mixing.seconds=0.25",
    "data.valid.n_mixtures=2",
    "data.test.n_mixtures=2",
    "model.network.n_channels=8",
    "model.network.n_hidden=8",
    "model.network.n_blocks=2",
    "model.network.n_repeats=1",
    "trainer.precision=32-true",
    "trainer.max_time=null",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
    "loader.batch_size=4",
    "schedule.warmup_steps=3",
    "checkpoints.every_n_steps=2",
    "logger=csv",
)


def voice(seconds: float, rng: np.random.Generator, rate: int = RATE) -> np.ndarray:
    """A buzz whose level goes up and down, with some noise: (time,) in float32."""
    clock = np.arange(round(seconds * rate)) / rate
    pitch = rng.uniform(90, 250)
    tone = sum(np.sin(2 * np.pi * pitch * k * clock + rng.uniform(0, 6)) / k for k in range(1, 12))
    level = 0.55 + 0.45 * np.sin(2 * np.pi * 3 * clock + rng.uniform(0, 6))
    return np.asarray(0.1 * level * tone + 0.005 * rng.standard_normal(len(clock)), dtype=np.float32)


def make_corpus(folder: Path, seconds: float = 1.2, *, train: int = 4, dev: int = 2, test: int = 2) -> Path:
    """Write ``<split>/<speaker>/*.wav``, so many speakers in each split, two files each."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("dev", dev), ("test", test)):
        for number in range(count):
            place = folder / split / f"{split}-{number}"
            place.mkdir(parents=True)
            for take in "ab":
                soundfile.write(place / f"{split}{number}{take}.wav", voice(seconds, rng), RATE)
    return folder


def settings(corpus: Path, home: Path, *more: str, base: tuple[str, ...] = TINY) -> list[str]:
    """Overrides of scripts/train.py for a run of well under a second in ``home``/runs."""
    return [
        *base,
        f"data.corpus.root={corpus}",
        f"+data.corpus.index_dir={corpus.parent}/index",
        f"data.cache_dir={corpus.parent}/cache",
        f"runs={home}/runs",
        *more,
    ]
