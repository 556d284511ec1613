"""python scripts/benchmark.py what=mixing: measures sepnet's own speed on this machine."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
from omegaconf import DictConfig

from sepnet import artifact
from sepnet.cli import (
    app,
    benchmarks_export,
    benchmarks_gaussians,
    benchmarks_nmf,
    benchmarks_query,
    benchmarks_recording,
    benchmarks_scoring,
    benchmarks_serving,
    benchmarks_streaming,
    benchmarks_training,
)
from sepnet.data.dataset import MixtureData
from sepnet.data.mixing import Mixer
from sepnet.types import SepnetError

WARM_UP = 50


def main() -> None:
    """The command line."""
    app.run(benchmark, "benchmark")


def benchmark(config: DictConfig) -> None:
    """Print the figures of one benchmark. Raises SepnetError for an unknown one."""
    benchmarks = {
        "detection": benchmarks_query.detection,
        "export": benchmarks_export.exported,
        "gaussians": benchmarks_gaussians.gaussians,
        "identities": benchmarks_recording.identities,
        "lengths": benchmarks_recording.lengths,
        "mixing": mixing,
        "nmf": benchmarks_nmf.benchmark,
        "query": benchmarks_query.query,
        "scoring": benchmarks_scoring.scoring,
        "serving": benchmarks_serving.serving,
        "streaming": benchmarks_streaming.streaming,
        "training": benchmarks_training.training,
    }
    if config.what not in benchmarks:
        raise SepnetError(f"there is no benchmark {config.what!r}: there are {', '.join(benchmarks)}")
    benchmarks[config.what](config)


def mixing(config: DictConfig) -> None:
    """Mixtures a second on one core, from the cache, with and without speed perturbation."""
    torch.set_num_threads(1)
    app.require_all(config)
    data: MixtureData = artifact.build(config.data)
    cache = data.train().mixer.cache
    print(
        f"{len(cache)} utterances at {data.sample_rate} Hz, mixtures of 2 sources and {config.seconds} s, "
        "one core"
    )
    plain = replace(data.mixing, n_sources=(2,), mode="crop", seconds=config.seconds, short="pad")
    for name, speeds in (("no speed change", (1.0,)), ("speeds 0.95, 1.05", (0.95, 1.05))):
        mixer = Mixer(cache, replace(plain, speeds=speeds))
        for index in range(WARM_UP):
            mixer(np.random.default_rng((0, 0, index)))
        rates = []
        for repetition in range(config.repetitions):
            start = time.perf_counter()
            for index in range(config.n_mixtures):
                mixer(np.random.default_rng((1, repetition, index)))
            rates.append(config.n_mixtures / (time.perf_counter() - start))
        spread = f"median of {len(rates)}; {min(rates):.0f} to {max(rates):.0f}"
        print(f"{name:20s} {np.median(rates):8.0f} mixtures/s ({spread})")
