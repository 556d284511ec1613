"""What scripts/separate.py writes of a sound that was found by example: a folder for each file.

<file>_<class>/target.wav, residual.wav
               event.json                  what was found, when, how sure, and how the mask came to be
               <class>_comparison.png      mixture, mask, target and residual
               <class>_timeline.png        likeness over time, and the segments
"""

from __future__ import annotations

import contextlib
import glob
import json
import math
import re
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from sepnet import artifact, inference
from sepnet.data import audio
from sepnet.evaluation.query_figures import comparison_figure, timeline_figure
from sepnet.evaluation.query_scores import QueryScores, query_scores
from sepnet.inference.files import EVENT, EVENT_PARTS, Recording
from sepnet.query.detection.detector import Detection
from sepnet.query.event import Event, EventFinder
from sepnet.query.optimisation.dgmo import OptimisedMask
from sepnet.types import SepnetError

UNSAFE = re.compile(r"[^\w.-]+")  # in a class, for a file name
Sound = tuple[np.ndarray, int]


def write_event(
    config: DictConfig,
    finder: EventFinder,
    recording: Recording,
    mixture: np.ndarray,
    rate: int,
    query: Sound | None,
    meant: dict[str, Any],
) -> None:
    """Find the query in a mixture (channel, time), and write what came of it.

    meant: what tells this search from any other; done already, it is not done again.

    Raises SepnetError without a query, for a reference that does not fit, and where files would be
    overwritten unasked.
    """
    if query is None:
        raise SepnetError(f"{config.model} finds what a query is an example of: give query=example.wav")
    if not config.overwrite and (there := _standing(recording, meant)):
        print(f"{recording.file}: found already, see {there}")
        return
    event = inference.find(mixture, rate, query, finder)
    scores = None if config.reference is None else _scores(config, event, mixture, rate)
    name = UNSAFE.sub("_", event.name)
    folder = recording.folder / f"{recording.stem}_{name}"
    if folder.exists() and not config.overwrite:
        raise SepnetError(f"{folder} exists already: give overwrite=true, or another folder with out=")
    told = describe(event, rate) | {
        "file": str(recording.file),
        "query": str(config.query),
        "model": str(config.model),
        "settings": artifact.describe(config.model, settings(config)),
        "scores": None if scores is None else asdict(scores),
        "search": meant,
    }
    with _whole(folder) as place:
        for part, sound in zip(EVENT_PARTS, (event.target, event.residual), strict=True):
            audio.write(place / part, sound.numpy(), rate, subtype=config.subtype or "FLOAT")
        (place / EVENT).write_text(json.dumps(_finite(told), indent=2, ensure_ascii=False) + "\n")
        _draw(event, place, name, mixture, rate)
    print(f"{recording.file}: {summary(event)}{_worth(scores)} -> {folder}")


def _standing(recording: Recording, meant: dict[str, Any]) -> Path | None:
    """The folder that just this search has left, if there is one."""
    for record in recording.folder.glob(f"{glob.escape(recording.stem)}_*/{EVENT}"):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if json.loads(record.read_text()).get("search") == meant:
                return record.parent
    return None


def settings(config: DictConfig) -> dict[str, Any]:
    """What ``set`` says in the place of the model's file. Raises SepnetError where it is no mapping."""
    if config.set is not None and not isinstance(config.set, DictConfig):
        raise SepnetError(f"set={config.set} names no setting: write set={{preset: selective}}")
    return dict(config.set or {})


@contextlib.contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder to write to that takes its name once all is in it; interrupted, it leaves nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        place = Path(temporary) / folder.name
        place.mkdir()
        yield place
        if folder.exists():
            folder.rename(Path(temporary) / "before")
        place.rename(folder)


def summary(event: Event) -> str:
    """One sentence on what was found."""
    found, tags = event.detection, event.tags
    sure = tags.probability
    how = f"heard as {tags.label} ({sure:.2f})" if event.class_known else "of no class that the tagger knows"
    if not found.found:
        miss = found.nearest_miss
        near = (
            ""
            if miss is None
            else f"; nearest at {miss.start:.1f} to {miss.end:.1f} s ({miss.similarity:.2f})"
        )
        return f"{event.name}, {how}, is not found (confidence {found.confidence:.2f}{near})"
    spans = ", ".join(f"{start:.1f} to {end:.1f} s" for start, end in found.segments)
    return f"{event.name}, {how}, found at {spans} (confidence {found.confidence:.2f})"


def describe(event: Event, rate: int) -> dict[str, Any]:
    """The event in plain containers: times in seconds, frames and bands left out."""
    return {
        "class": event.name,
        "heard": {
            "class": event.tags.label,
            "probability": event.tags.probability,
            "known": event.class_known,
        },
        "query_seconds": len(event.query.audio) / event.query.sample_rate,
        "sample_rate": rate,
        "detection": _detection(event.detection),
        "optimisation": None if event.optimisation is None else _optimisation(event.optimisation),
        "seconds": dict(event.compute_seconds),
    }


def _detection(found: Detection) -> dict[str, Any]:
    return {
        "found": found.found,
        "confidence": found.confidence,
        "segments": [list(segment) for segment in found.segments],
        "threshold": found.threshold,
        "nearest_miss": None if found.nearest_miss is None else asdict(found.nearest_miss),
        "windows": {
            "begin_and_end": found.times.tolist(),
            "probability": None if found.probability is None else found.probability.tolist(),
            "similarity": found.similarity.tolist(),
            "score": found.score.tolist(),
            "gate": found.gate.tolist(),
        },
    }


def _optimisation(optimised: OptimisedMask) -> dict[str, Any]:
    return {
        "guard": asdict(optimised.decision),
        "loss": list(optimised.losses),
        "terms": {name: list(values) for name, values in optimised.terms.items()},
    }


def _scores(config: DictConfig, event: Event, mixture: np.ndarray, rate: int) -> QueryScores:
    reference, own_rate = audio.read(config.reference)
    if own_rate != rate or reference.shape[-1] != mixture.shape[-1]:
        raise SepnetError(
            f"the reference {config.reference} has {reference.shape[-1]} samples at {own_rate} Hz, but the "
            f"mixture {mixture.shape[-1]} at {rate} Hz: give the sound as it lies in the mixture"
        )
    true = torch.from_numpy(np.ascontiguousarray(reference.mean(axis=0), dtype=np.float32))
    return query_scores(event.target, torch.from_numpy(np.ascontiguousarray(mixture[0])), true)


def _worth(scores: QueryScores | None) -> str:
    if scores is None:
        return ""
    return (
        f"; SI-SDR {scores.si_sdr_db:.2f} dB, of the mixture {scores.si_sdr_mixture_db:.2f} dB: "
        f"{scores.si_sdr_improvement_db:+.2f} dB, {scores.word}"
    )


def _draw(event: Event, folder: Path, name: str, mixture: np.ndarray, rate: int) -> None:
    found = event.detection
    comparison_figure(
        folder / f"{name}_comparison.png",
        mixture=torch.from_numpy(np.ascontiguousarray(mixture[0])),
        mask=event.mask_linear,
        target=event.target,
        residual=event.residual,
        sample_rate=rate,
        title=summary(event),
    )
    timeline_figure(
        folder / f"{name}_timeline.png",
        times_seconds=found.times.mean(dim=1).tolist(),
        probability=None if found.probability is None else found.probability.tolist(),
        similarity=found.similarity.tolist(),
        score=found.score.tolist(),
        threshold=found.threshold,
        gate=found.gate.tolist(),
        segments=found.segments,
        seconds=found.seconds,
        title=summary(event),
    )


def _finite(node: Any) -> Any:
    """JSON knows no NaN and no infinity: they become null."""
    if isinstance(node, dict):
        return {key: _finite(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_finite(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node
