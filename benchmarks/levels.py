"""Two voices of unequal level, and one voice alone: what a model gains, and what leaks.

    python benchmarks/run.py what=levels data=speech8k model=pit-2spk-8k n_separated=100

The voices are those of the data's validation mixtures. The first keeps its level, the second is so many dB
weaker by their powers.
"""

from __future__ import annotations

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

import sepnet
from sepnet import artifact
from sepnet.evaluation.statistics import summarise
from sepnet.inference.pipeline import Pipeline, PipelineSettings
from sepnet.metrics import best_permutation, pairwise, permute, si_sdr
from sepnet.types import Mixture, SepnetError

DIFFERENCES_DB = (0, 10, 20, 30)
MIN_LEAK = 1e-12  # of the power: a silent output counts as -120 dB


def run(config: DictConfig) -> None:
    """Print the SI-SDRi of the louder and the weaker voice by their difference, and the leak of one alone.

    Args:
        config: ``data``, ``model`` and ``n_separated`` of benchmarks/benchmark.yaml.

    Raises:
        SepnetError: A mixture of the data has one source.
    """
    torch.set_num_threads(1)
    name = config.model or "pit-2spk-8k"
    pipeline, mixtures = Pipeline(sepnet.load(name), PipelineSettings()), artifact.build(config.data).valid()
    numbers = range(min(config.n_separated, len(mixtures)))
    gains: dict[int, list[list[float]]] = {difference: [] for difference in DIFFERENCES_DB}
    leaks = []
    for number in numbers:
        mixture = mixtures[number]
        voices, rate = mixture.references[:2], mixture.sample_rate
        if len(voices) < 2:
            raise SepnetError("the mixtures of this data have one source: take data of two voices or more")
        for difference in DIFFERENCES_DB:
            scale = voices[0].norm() / voices[1].norm() * 10 ** (-difference / 20)
            sources = torch.stack([voices[0], scale * voices[1]])
            gains[difference].append(_gains(pipeline, sources, rate))
        powers = pipeline.separate(Mixture(voices[:1], rate, n_sources=2)).sources.square().sum(dim=1)
        leaks.append(10 * float(torch.log10((powers.min() / powers.max()).clamp_min(MIN_LEAK))))
    print(f"{name}, {len(numbers)} validation mixtures of {config.data.corpus.root}")
    for difference, values in gains.items():
        louder, weaker = (_interval(column) for column in np.array(values).T)
        print(
            f"weaker by {difference:2d} dB: SI-SDRi of the louder voice {louder}, of the weaker {weaker} dB"
        )
    print(f"one voice alone: {_interval(np.array(leaks))} dB of it in the other output")


def _gains(pipeline: Pipeline, sources: Tensor, sample_rate: int) -> list[float]:
    """The SI-SDRi of both sources."""
    mixture = sources.sum(dim=0)
    estimates = pipeline.separate(Mixture(mixture[None], sample_rate, n_sources=2)).sources
    order = best_permutation(pairwise(si_sdr, estimates[None], sources[None]))
    before = si_sdr(mixture.expand_as(sources), sources)
    gains: list[float] = (si_sdr(permute(estimates[None], order)[0], sources) - before).tolist()
    return gains


def _interval(values: np.ndarray) -> str:
    summary = summarise(values)
    return f"{summary.mean:.2f} [{summary.low:.2f}, {summary.high:.2f}]"
