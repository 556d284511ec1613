"""Does DNSMOS rank separations as SI-SDR does? Both on mixtures of real voices.

    python benchmarks/run.py what=opinions speech_root=../shared/audio/an4_16k split=dev n_separated=100

Mixtures of two speakers at 16 kHz are separated by a model and by two oracle masks; the mixture and the
true sources are scored, too. DNSMOS is given the estimates alone, SI-SDR the true sources as well.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from scipy.stats import spearmanr
from torch import Tensor

import sepnet
from benchmarks.full_band import RATE, SECONDS, SEED, draw_sources
from sepnet.evaluation.statistics import summarise
from sepnet.inference.opinions import predict_opinion
from sepnet.inference.pipeline import Pipeline, PipelineSettings
from sepnet.metrics import Opinion, best_permutation, pairwise, permute, si_sdr
from sepnet.metrics.opinion import INSTALL
from sepnet.types import Mixture, SepnetError

CLEAN, FLOOR = "true sources", "identity"
KINDS = ("overall", "speech", "background")


def run(config: DictConfig) -> None:
    """Print the means of each system, and how far DNSMOS and SI-SDR agree on the order of two systems.

    Raises:
        SepnetError: ``config.speech_root`` is missing, or the packages of DNSMOS are.
    """
    if config.speech_root is None:
        raise SepnetError("speech_root is missing: name a folder of <split>/<speaker>/<file> at 16 kHz")
    torch.set_num_threads(1)
    names = (FLOOR, config.model or "pit-2spk-8k", "ibm", "irm")
    pipelines = {name: Pipeline(sepnet.load(name), PipelineSettings()) for name in names}
    scores: dict[str, list[list[list[float]]]] = {name: [] for name in (*names, CLEAN)}
    for sources in draw_sources(Path(config.speech_root), config.split, config.n_separated):
        mixture = Mixture(sources.sum(dim=0)[None], RATE, references=sources, n_sources=2)
        for name, pipeline in pipelines.items():
            scores[name].append(_score(pipeline.separate(mixture).sources, sources))
        scores[CLEAN].append(_score(sources, sources))
    table = {name: np.array(values) for name, values in scores.items()}  # (mixture, source, measure)
    print(
        f"{config.n_separated} mixtures of 2 speakers ({config.split}), {SECONDS} s at {RATE} Hz, "
        f"seed {SEED}; 95 % intervals over mixtures"
    )
    print("| system | SI-SDR (dB) | " + " | ".join(f"DNSMOS {kind}" for kind in KINDS) + " |")
    print("| --- |" + " --- |" * (1 + len(KINDS)))
    for name, values in table.items():
        means = [_interval(np.nanmean(values[..., k], axis=1)) for k in range(values.shape[-1])]
        print(f"| {name} | " + " | ".join(["-" if name == CLEAN else means[0], *means[1:]]) + " |")
    _print_agreement({name: values for name, values in table.items() if name != CLEAN})


def _score(estimates: Tensor, sources: Tensor) -> list[list[float]]:
    """For each source: SI-SDR, and the three opinions of its estimate."""
    order = best_permutation(pairwise(si_sdr, estimates[None], sources[None]))
    estimates = permute(estimates[None], order)[0]
    ratios = si_sdr(estimates, sources).tolist()
    return [
        [ratio, opinion.overall, opinion.speech, opinion.background]
        for ratio, opinion in zip(ratios, map(_opinion, estimates), strict=True)
    ]


def _opinion(signal: Tensor) -> Opinion:
    samples = signal.numpy()
    opinion = predict_opinion(lambda start, n: samples[start : start + n], len(samples), RATE)
    if opinion is None:
        raise SepnetError(f"DNSMOS needs optional packages: {INSTALL}")
    return opinion


def _interval(values: np.ndarray) -> str:
    summary = summarise(values)
    return f"{summary.mean:.2f} [{summary.low:.2f}, {summary.high:.2f}]"


def _print_agreement(table: dict[str, np.ndarray]) -> None:
    """Over all estimates of all systems, and within each system."""
    pooled = np.concatenate([values.reshape(-1, 1 + len(KINDS)) for values in table.values()])
    for k, kind in enumerate(KINDS, 1):
        within = [
            spearmanr(values[..., 0].ravel(), values[..., k].ravel(), nan_policy="omit").statistic
            for name, values in table.items()
            if name != FLOOR
        ]
        all_systems = spearmanr(pooled[:, 0], pooled[:, k], nan_policy="omit").statistic
        print(
            f"DNSMOS {kind} and SI-SDR: rank correlation {all_systems:.2f} over all estimates, "
            f"{', '.join(f'{value:.2f}' for value in within)} within each system but {FLOOR}"
        )
    names = list(table)
    agree = []
    for first in range(len(names)):
        for second in range(first + 1, len(names)):
            gain = np.nanmean(table[names[second]] - table[names[first]], axis=1)  # (mixture, measure)
            agree.append(np.sign(gain[:, 0]) == np.sign(gain[:, 1]))
    summary = summarise(np.concatenate(agree).astype(float))
    print(f"of two systems on one mixture, both prefer the same one in {100 * summary.mean:.0f} %")
