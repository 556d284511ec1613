"""Detection of queries by example: python benchmarks/run.py what=detection data=query_esc10_bursts.

Scores when the sound of a query is detected as active, on mixtures for which the truth is known. Declaring it
active throughout is the first row, for comparison.
"""

from __future__ import annotations

import torch
from omegaconf import DictConfig

from sepnet import artifact
from sepnet.cli import app
from sepnet.data.dataset import MixtureData
from sepnet.data.query_set import QueryList, QuerySet
from sepnet.metrics.detection import Counts, event_counts, segment_counts
from sepnet.query.ast_dgmo import AstDgmo
from sepnet.query.detection.segments import Segment
from sepnet.query.starts.contrast import SpectralContrast
from sepnet.query.tagging.tagger import Tagger
from sepnet.types import Mixture, SepnetError

TAGGER = "ast-tagger-esc10"
HOPS = (0.1, 0.5)  # seconds between windows
Segments = tuple[Segment, ...]


def run(config: DictConfig) -> None:
    """Print precision, recall and F1 of segments, and F1 of events.

    Raises:
        SepnetError: The data have no queries.
    """
    app.plain(config)
    torch.set_num_threads(1)
    data: MixtureData = artifact.build(config.data)
    mixtures = data.test()
    if not isinstance(mixtures, QuerySet) or not isinstance(data.test_list, QueryList):
        raise SepnetError("detection is for mixtures with a query: data=query_esc10_bursts")
    n_scored = min(config.n_scored, len(mixtures))
    print(f"{n_scored} mixtures; segments of 100 ms, events with a collar of 100 ms")
    print(f"{'':34s} precision recall    F1 | events' F1 | nothing detected")
    always_active: list[Segments] = [((0.0, _seconds(mixtures[index])),) for index in range(n_scored)]
    _print_scores("always active", always_active, mixtures)
    tagger = Tagger(pretrained=TAGGER)
    for hop in HOPS:
        for preset in ("balanced", "selective", "inclusive"):
            detected = _detect(tagger, mixtures, n_scored, preset=preset, hop_seconds=hop)
            _print_scores(f"{preset}, every {hop:g} s", detected, mixtures)
    detected = _detect(tagger, mixtures, n_scored, detector={"threshold": "percentile"}, hop_seconds=0.5)
    _print_scores("the 92nd percentile, every 0.5 s", detected, mixtures)


def _detect(tagger: Tagger, mixtures: QuerySet, n_scored: int, **settings: object) -> list[Segments]:
    """The segments of each mixture; its mask is of no interest here."""
    finder = AstDgmo(tagger=tagger, start=SpectralContrast(), dgmo=None, **settings)  # type: ignore[arg-type]
    inputs = (mixtures[index].only(finder.info.needs) for index in range(n_scored))
    return [finder.find(mixture)[0].detection.segments for mixture in inputs]


def _print_scores(name: str, detected: list[Segments], mixtures: QuerySet) -> None:
    segments, events = Counts(0, 0, 0), Counts(0, 0, 0)
    for index, estimated in enumerate(detected):
        true = mixtures.segments(index)
        segments = segments + segment_counts(estimated, true)
        events = events + event_counts(estimated, true)
    n_without = sum(not estimated for estimated in detected)
    print(
        f"{name:34s} {segments.precision:9.3f} {segments.recall:6.3f} {segments.f1:5.3f} | {events.f1:10.3f} "
        f"| {n_without} of {len(detected)}"
    )


def _seconds(mixture: Mixture) -> float:
    return mixture.audio.shape[-1] / mixture.sample_rate
