"""Speed of scoring beside the same measures one by one, as asteroid computes them: what=scoring.

asteroid's ``get_metrics`` scores a mixture at a time in one process: for the mixture and for the estimates
mir_eval's ``bss_eval_sources``, then pesq and pystoi source by source. Here the mixture is scored without
permutations, which favours asteroid's way: the mixture is the same signal for each source.
"""

from __future__ import annotations

import multiprocessing
import os
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig

from sepnet import artifact
from sepnet.cli import app
from sepnet.data.dataset import MixtureData
from sepnet.engines.local import THREAD_VARIABLES, environment
from sepnet.evaluation.scoring import score
from sepnet.metrics import align
from sepnet.types import Separation, SepnetError

MEASURES = ("si_sdr", "sdr", "pesq", "estoi")
TURNS = 8
PESQ_BAND = {8000: "nb", 16000: "wb"}
Signals = NDArray[np.float32]
Scores = dict[str, list[float]]
"""For each measure, also with ``input_`` before it for the mixture: a value per source."""


@dataclass(frozen=True)
class Case:
    """One mixture (time,), its references and the estimates (source, time), these in arbitrary order."""

    mixture: Signals
    references: Signals
    estimates: Signals
    sample_rate: int


def run(config: DictConfig) -> None:
    """Print the seconds that both take on the same mixtures and cores, and how far their values differ."""
    app.plain(config)
    cases = _cases(artifact.build(config.data), config.n_scored)
    chosen = np.linspace(0, len(cases) - 1, min(config.n_peer or len(cases), len(cases))).round().astype(int)
    cores, seconds = os.cpu_count() or 1, [case.mixture.shape[-1] / case.sample_rate for case in cases]
    print(
        f"{', '.join(MEASURES)} of mixture and estimates: {len(cases)} mixtures of "
        f"{len(cases[0].references)} sources, {sum(seconds):.0f} s at {cases[0].sample_rate} Hz, "
        f"{cores} cores"
    )
    ours, theirs, ours_seconds, theirs_seconds = _race(cases, chosen.tolist(), cores)
    ours_rate = ours_seconds / sum(seconds)
    theirs_rate = theirs_seconds / sum(seconds[index] for index in chosen)
    for name, taken, n_mixtures, rate in (
        ("sepnet", ours_seconds, len(cases), ours_rate),
        ("one by one", theirs_seconds, len(chosen), theirs_rate),
    ):
        print(f"{name:10s} {taken:8.1f} s for {n_mixtures} mixtures: {rate:.4f} s for a second of audio")
    print(f"sepnet is {theirs_rate / ours_rate:.1f} times faster; largest differences of a value:")
    for name in theirs[0]:
        pairs = [(ours[index][name], other[name]) for index, other in zip(chosen, theirs, strict=True)]
        print(f"  {name:14s} {max(np.abs(np.subtract(*pair)).max() for pair in pairs):.1e}")


def _cases(data: MixtureData, n_scored: int) -> list[Case]:
    """The first mixtures of the test set, with estimates of the ideal ratio mask in reverse order."""
    mixtures, separator = data.test(), artifact.load("irm")
    cases = []
    for index in range(min(n_scored, len(mixtures))):
        mixture = mixtures[index]
        assert mixture.references is not None
        estimates = separator.separate(mixture.only(separator.info.needs)).sources.flip(0)
        signals = (mixture.audio[0].numpy(), mixture.references.numpy(), estimates.numpy())
        cases.append(Case(*signals, mixture.sample_rate))
    return cases


def _race(
    cases: Sequence[Case], chosen: Sequence[int], n_processes: int
) -> tuple[list[Scores], list[Scores], float, float]:
    """Our scores of all cases, theirs of the chosen ones, and the seconds that each took.

    The two alternate, so that other load on the machine slows both. Ours run in warm processes of one thread
    each, theirs in this process with the threads that its libraries choose.
    """
    ours: list[Scores] = []
    theirs: list[Scores] = []
    ours_seconds = theirs_seconds = 0.0
    context = multiprocessing.get_context("spawn")
    with (
        environment(dict.fromkeys(THREAD_VARIABLES, "1")),
        ProcessPoolExecutor(n_processes, context, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        list(pool.map(score_case, [cases[0]] * (4 * n_processes)))  # so that each process has imported all
        one_by_one(cases[0])
        for turn in np.array_split(np.arange(len(cases)), min(TURNS, len(cases))):
            begin = time.perf_counter()
            ours += pool.map(score_case, [cases[index] for index in turn])
            middle = time.perf_counter()
            theirs += [one_by_one(cases[index]) for index in turn if index in chosen]
            ours_seconds += middle - begin
            theirs_seconds += time.perf_counter() - middle
    return ours, theirs, ours_seconds, theirs_seconds


def score_case(case: Case) -> Scores:
    """Score a case as an evaluation does: order by SI-SDR, then each measure for all sources at once."""
    references, mixture = torch.from_numpy(case.references), torch.from_numpy(case.mixture)
    estimates, _ = align(Separation(torch.from_numpy(case.estimates)), references)
    result: Scores = {}
    for prefix, signals in (("input_", mixture.expand_as(references)), ("", estimates)):
        scores = score(MEASURES, signals, references, case.sample_rate)
        result |= {f"{prefix}{measure}": [source[measure] for source in scores] for measure in MEASURES}
    return result


def one_by_one(case: Case) -> Scores:
    """Score a case by the calls of asteroid's get_metrics, in its order.

    Raises:
        SepnetError: mir_eval, pesq or pystoi is not installed.
    """
    try:
        from mir_eval.separation import bss_eval_sources
        from pesq import pesq
        from pystoi import stoi
    except ImportError as error:
        raise SepnetError(f"what=scoring compares with {error.name}: pip install 'sepnet[dev]'") from error
    result: Scores = {}
    mixtures = np.stack([case.mixture] * len(case.references))
    for prefix, signals, permuted in (("input_", mixtures, False), ("", case.estimates, True)):
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of its end in mir_eval 0.9
            sdr, _, _, order = bss_eval_sources(case.references, signals, compute_permutation=permuted)
        pairs = list(zip(case.references, signals[order], strict=True))
        band = PESQ_BAND[case.sample_rate]
        result |= {
            f"{prefix}si_sdr": [_si_sdr(reference, signal) for reference, signal in pairs],
            f"{prefix}sdr": sdr.tolist(),
            f"{prefix}pesq": [pesq(case.sample_rate, *pair, band) for pair in pairs],
            f"{prefix}estoi": [float(stoi(*pair, case.sample_rate, extended=True)) for pair in pairs],
        }
    return result


def _si_sdr(reference: Signals, signal: Signals) -> float:
    """Le Roux et al. 2019, as written there."""
    target = reference * (np.dot(signal, reference) / np.dot(reference, reference))
    return float(10 * np.log10(np.sum(target**2) / np.sum((signal - target) ** 2)))
