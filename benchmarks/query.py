"""Time and memory of query by example: python benchmarks/run.py what=query.

A query in ten seconds of noise, with a tagger of the public size and with the small one that is shipped. The
former has random weights, which cost as much as trained ones.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from omegaconf import DictConfig

from sepnet.evaluation.memory import forget_peak, resident_mb
from sepnet.query.ast_dgmo import AstDgmo
from sepnet.query.event import Event
from sepnet.query.optimisation.dgmo import DGMO
from sepnet.query.optimisation.mask_parameters import gaussian_mixture
from sepnet.query.starts.contrast import SpectralContrast
from sepnet.query.tagging.tagger import Tagger
from sepnet.training.precision import has_fast_bfloat16
from sepnet.types import Mixture, Query

RATE, SECONDS, QUERY_SECONDS = 16000, 10, 3
THREADS = (1, 2)
SMALL = "ast-tagger-esc10"
PUBLIC = {  # the sizes of MIT/ast-finetuned-audioset-10-10-0.4593
    "labels": [f"class {k}" for k in range(527)],
    "hidden": 768,
    "n_layers": 12,
    "n_heads": 12,
    "n_mels": 128,
    "frequency_stride": 10,
    "time_stride": 10,
    "max_seconds": 10.24,
}


def run(config: DictConfig) -> None:
    """Print the seconds by stage and the peak memory of one query in ten seconds, without loading."""
    noise = 0.1 * torch.randn(RATE * (SECONDS + QUERY_SECONDS), generator=torch.Generator().manual_seed(0))
    signal, example = noise[: RATE * SECONDS], noise[RATE * SECONDS :]
    mixture = Mixture(signal[None], RATE, queries=(Query(example, RATE, "noise"),))
    print(f"a query of {QUERY_SECONDS} s in {SECONDS} s, 18 steps, {config.repetitions} repetitions, seconds")
    print("threads | tagger            | embedding terms | tagging | optimisation |   all | peak MB")
    fast = has_fast_bfloat16()
    public = Tagger(**PUBLIC)  # type: ignore[arg-type]
    before = torch.get_num_threads()
    try:
        for threads in THREADS:
            torch.set_num_threads(threads)
            for name, tagger, hop, terms in (
                ("public size", public, 0.5, False),
                (SMALL, Tagger(pretrained=SMALL), 0.1, True),
            ):
                finder = AstDgmo(
                    tagger=tagger,
                    start=SpectralContrast(),
                    dgmo=DGMO(lr=0.28, parameters=gaussian_mixture),
                    hop_seconds=hop,
                    loss_embedding="tagger" if terms else "none",
                    half_precision=fast and not terms,
                    detector={"min_threshold": 1e-9, "max_threshold": 1e-8},
                )
                stages, total, peak = _cost(partial(finder.find, mixture), config.repetitions)
                print(
                    f"{threads:7d} | {name:17s} | {'yes' if terms else 'no':15s} | {stages['tagging']:7.2f} "
                    f"| {stages['optimisation']:12.2f} | {total:5.2f} | {peak:7.0f}"
                )
    finally:
        torch.set_num_threads(before)


def _cost(find: Callable[[], tuple[Event, ...]], repetitions: int) -> tuple[dict[str, float], float, float]:
    """Median seconds by stage and in all, and the peak resident memory in MB, after one to warm up."""
    find()
    forget_peak()
    stages: list[dict[str, float]] = []
    totals = []
    for _ in range(repetitions):
        begin = time.perf_counter()
        (event,) = find()
        totals.append(time.perf_counter() - begin)
        stages.append(dict(event.compute_seconds))
    medians = {name: statistics.median(stage[name] for stage in stages) for name in stages[0]}
    return medians, statistics.median(totals), resident_mb("VmHWM")
