"""python scripts/benchmark.py what=detection|query: how well query by example hears, and what it costs.

``detection`` scores when the query is heard in mixtures in which that is known (data=query_esc10_bursts),
beside saying that it always is. ``query`` times ten seconds of noise with a tagger of the public size, with
random weights, which cost the same, and with the small one that ships.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from omegaconf import DictConfig

from sepnet import artifact
from sepnet.cli import app
from sepnet.data.dataset import MixtureData
from sepnet.data.query_set import QueryList, QuerySet
from sepnet.evaluation.memory import forget_peak, resident_mb
from sepnet.metrics.detection import Counts, event_counts, segment_counts
from sepnet.query.ast_dgmo import AstDgmo
from sepnet.query.detection.segments import Segment
from sepnet.query.event import Event
from sepnet.query.optimisation.dgmo import DGMO
from sepnet.query.optimisation.mask_parameters import gaussian_mixture
from sepnet.query.starts.contrast import SpectralContrast
from sepnet.query.tagging.tagger import Tagger
from sepnet.training.precision import has_fast_bfloat16
from sepnet.types import Mixture, Query, SepnetError

RATE, SECONDS, QUERY_SECONDS = 16000, 10, 3
HOPS = (0.1, 0.5)  # seconds between windows
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
Segments = tuple[Segment, ...]


def detection(config: DictConfig) -> None:
    """Print precision, recall and F1 of segments and events. Raises SepnetError for data without queries."""
    app.require_all(config)
    torch.set_num_threads(1)
    data: MixtureData = artifact.build(config.data)
    mixtures = data.test()
    if not isinstance(mixtures, QuerySet) or not isinstance(data.test_list, QueryList):
        raise SepnetError("detection is for mixtures with a query: data=query_esc10_bursts")
    n_scored = min(config.n_scored, len(mixtures))
    print(f"{n_scored} mixtures; segments of 100 ms, events with a collar of 100 ms")
    print(f"{'':34s} precision recall    F1 | events' F1 | nothing found")
    always: list[Segments] = [((0.0, _seconds(mixtures[index])),) for index in range(n_scored)]
    _row("always active", always, mixtures)
    tagger = Tagger(pretrained=SMALL)
    for hop in HOPS:
        for preset in ("balanced", "selective", "inclusive"):
            found = _found(tagger, mixtures, n_scored, preset=preset, hop_seconds=hop)
            _row(f"{preset}, every {hop:g} s", found, mixtures)
    found = _found(tagger, mixtures, n_scored, detector={"threshold": "percentile"}, hop_seconds=0.5)
    _row("the 92nd percentile, every 0.5 s", found, mixtures)


def query(config: DictConfig) -> None:
    """Print seconds and memory of one query in ten seconds, once everything is loaded."""
    noise = 0.1 * torch.randn(RATE * (SECONDS + QUERY_SECONDS), generator=torch.Generator().manual_seed(0))
    signal, example = noise[: RATE * SECONDS], noise[RATE * SECONDS :]
    mixture = Mixture(signal[None], RATE, queries=(Query(example, RATE, "noise"),))
    print(f"a query of {QUERY_SECONDS} s in {SECONDS} s, 18 steps, {config.repetitions} turns, seconds")
    print("threads | tagger            | embedding terms | tagging | optimisation |   all | peak MB")
    fast = has_fast_bfloat16()
    public = Tagger(**PUBLIC)  # type: ignore[arg-type]
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
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
                stages, whole, peak = _cost(partial(finder.find, mixture), config.repetitions)
                print(
                    f"{threads:7d} | {name:17s} | {'yes' if terms else 'no':15s} | {stages['tagging']:7.2f} "
                    f"| {stages['optimisation']:12.2f} | {whole:5.2f} | {peak:7.0f}"
                )
    finally:
        torch.set_num_threads(before)


def _cost(find: Callable[[], tuple[Event, ...]], turns: int) -> tuple[dict[str, float], float, float]:
    """Median seconds by stage and in all, and the peak of resident memory in MB, after a turn to warm up."""
    find()
    forget_peak()
    stages: list[dict[str, float]] = []
    whole = []
    for _ in range(turns):
        begin = time.perf_counter()
        (event,) = find()
        whole.append(time.perf_counter() - begin)
        stages.append(dict(event.compute_seconds))
    medians = {name: statistics.median(stage[name] for stage in stages) for name in stages[0]}
    return medians, statistics.median(whole), resident_mb("VmHWM")


def _found(tagger: Tagger, mixtures: QuerySet, n_scored: int, **settings: object) -> list[Segments]:
    """The segments of each mixture; the mask does not matter."""
    finder = AstDgmo(tagger=tagger, start=SpectralContrast(), dgmo=None, **settings)  # type: ignore[arg-type]
    given = (mixtures[index].only(finder.info.needs) for index in range(n_scored))
    return [finder.find(mixture)[0].detection.segments for mixture in given]


def _row(name: str, found: list[Segments], mixtures: QuerySet) -> None:
    segments, events = Counts(0, 0, 0), Counts(0, 0, 0)
    for index, mine in enumerate(found):
        true = mixtures.segments(index)
        segments, events = segments + segment_counts(mine, true), events + event_counts(mine, true)
    nothing = sum(not mine for mine in found)
    print(
        f"{name:34s} {segments.precision:9.3f} {segments.recall:6.3f} {segments.f1:5.3f} | {events.f1:10.3f} "
        f"| {nothing} of {len(found)}"
    )


def _seconds(mixture: Mixture) -> float:
    return mixture.audio.shape[-1] / mixture.sample_rate
