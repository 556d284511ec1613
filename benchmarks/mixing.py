"""Speed of mixing on the fly: python benchmarks/run.py what=mixing."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
from omegaconf import DictConfig

from sepnet import artifact
from sepnet.cli import app
from sepnet.data.dataset import MixtureData
from sepnet.data.mixer import Mixer

N_WARM_UP = 50  # mixtures


def run(config: DictConfig) -> None:
    """Print mixtures a second on one core, from the cache, with and without a change of speed."""
    torch.set_num_threads(1)
    app.plain(config)
    data: MixtureData = artifact.build(config.data)
    cache = data.train().mixer.cache
    print(
        f"{len(cache)} utterances at {data.sample_rate} Hz, mixtures of 2 sources and {config.seconds} s, "
        "one core"
    )
    plain = replace(data.mixing, n_sources=(2,), mode="crop", seconds=config.seconds, short_policy="pad")
    for name, speeds in (("no speed change", (1.0,)), ("speeds 0.95, 1.05", (0.95, 1.05))):
        mixer = Mixer(cache, replace(plain, speeds=speeds))
        for index in range(N_WARM_UP):
            mixer(np.random.default_rng((0, 0, index)))
        rates = []
        for repetition in range(config.repetitions):
            start = time.perf_counter()
            for index in range(config.n_mixtures):
                mixer(np.random.default_rng((1, repetition, index)))
            rates.append(config.n_mixtures / (time.perf_counter() - start))
        spread = f"median of {len(rates)}; {min(rates):.0f} to {max(rates):.0f}"
        print(f"{name:20s} {np.median(rates):8.0f} mixtures/s ({spread})")
