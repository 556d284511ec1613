"""What is written of a sound that was found by an example of it: a folder for each recording.

<file>_<class>/target.wav, residual.wav      they sum to the recording
               event.json                    what was found, when, how sure, and how the mask came to be
               <class>_comparison.png        mixture, mask, target and residual
               <class>_timeline.png          similarity over time, and the segments
"""

from __future__ import annotations

import glob
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sepnet.atomic import replacing_folder
from sepnet.data import audio
from sepnet.inference.api import find
from sepnet.inference.channels import check_channels, select_channels
from sepnet.inference.fetching import RecordingError
from sepnet.inference.files import EVENT, EVENT_PARTS, Recording, check_name
from sepnet.inference.job import SeparationJob, is_finished
from sepnet.inference.outputs import UNSAFE_IN_NAMES
from sepnet.inference.side_sound import SideSound
from sepnet.query.detection.result import Detection
from sepnet.query.event import Event, EventFinder
from sepnet.query.optimisation.dgmo import OptimisedMask
from sepnet.query.scores import QueryScores, query_scores
from sepnet.types import Mixture, SepnetError

MAX_EVENT_SECONDS = 300.0  # of a recording that is searched as a whole
SUBTYPE = "FLOAT"


def find_in_file(job: SeparationJob, finder: EventFinder, recording: Recording) -> Path:
    """Find the query in one recording, and write what came of it.

    Args:
        job: What is done; its pipeline's channels and its output's ``overwrite`` and ``subtype`` are used.
        finder: What finds.
        recording: The file, and where its folder goes.

    Returns:
        The record.

    Raises:
        RecordingError: It cannot be searched, or a setting has no meaning here; the sentence names the file.
    """
    try:
        _check_settings(job)
        return _find(job, finder, recording)
    except SepnetError as error:
        message = str(error)
        named = message if str(recording.file) in message else f"{recording.file}: {message}"
        raise RecordingError(named) from error


def _check_settings(job: SeparationJob) -> None:
    """Refuse settings that an event cannot honour."""
    settings, output = job.pipeline.settings, job.output
    refused = {
        "n_sources": settings.n_sources is not None,
        "channels=each": settings.channels == "each",
        "format": output.format not in (None, "wav"),
        "gain": output.gain is not None,
        "report": output.report,
        "consistent=false": not settings.consistent,
    }
    if wrong := [name for name, is_set in refused.items() if is_set]:
        raise SepnetError(
            f"{job.model} finds one sound in one channel, and writes target.wav, residual.wav and pictures: "
            f"leave out {', '.join(wrong)}"
        )


def _find(job: SeparationJob, finder: EventFinder, recording: Recording) -> Path:
    if job.query is None:
        raise SepnetError(f"{job.model} finds what a query is an example of: give query=example.wav")
    check_name(recording)
    fingerprint, output = job.fingerprint(recording), {"subtype": job.output.subtype or SUBTYPE}
    for earlier in recording.folder.glob(f"{glob.escape(recording.stem)}_*/{EVENT}"):
        if not job.output.overwrite and is_finished(earlier, fingerprint, output):
            print(f"{recording.file}: found already, see {earlier.parent}")
            return earlier
    rate = job.examine(recording).sample_rate
    with job.open(recording) as reader:
        sound = reader.read(0, reader.frames)
    check_channels(job.pipeline.settings.channels, len(sound))
    mixture = select_channels(Mixture(torch.from_numpy(sound.copy()), rate), job.pipeline.settings.channels)
    query = job.query.sound
    event = find(mixture.audio, rate, (query.audio, query.sample_rate), finder)
    scores = None if job.reference is None else _scores(job.reference, event, mixture)
    name = UNSAFE_IN_NAMES.sub("_", event.name)
    folder = recording.folder / f"{recording.stem}_{name}"
    if folder.exists() and not job.output.overwrite:
        raise SepnetError(f"{folder} exists already: give overwrite=true, or another folder with out=")
    record = describe(event, rate) | {
        "files": list(EVENT_PARTS),
        "file": str(recording.file),
        "query": job.query.name,
        "model": str(job.model),
        "scores": None if scores is None else asdict(scores),
        "output": output,
        "job": fingerprint,
    }
    with replacing_folder(folder) as place:
        for part, signal in zip(EVENT_PARTS, (event.target, event.residual), strict=True):
            audio.write(place / part, signal.numpy(), rate, subtype=output["subtype"])
        (place / EVENT).write_text(json.dumps(_finite(record), indent=2, ensure_ascii=False) + "\n")
        _draw(event, place, name, mixture.audio[0], rate)
    print(f"{recording.file}: {summary(event)}{_score_text(scores)} -> {folder}")
    return folder / EVENT


def summary(event: Event) -> str:
    """One sentence on what was found."""
    found, tags = event.detection, event.tags
    how = (
        f"tagged as {tags.label} ({tags.probability:.2f})"
        if event.class_known
        else "of no class that the tagger knows"
    )
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
        "query_tags": {
            "class": event.tags.label,
            "probability": event.tags.probability,
            "known": event.class_known,
        },
        "query_seconds": len(event.query.audio) / event.query.sample_rate,
        "sample_rate": rate,
        "detection": _detection(event.detection),
        "optimisation": None if event.optimisation is None else _optimisation(event.optimisation),
        "compute_seconds": dict(event.compute_seconds),
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


def _scores(reference: SideSound, event: Event, mixture: Mixture) -> QueryScores:
    samples, rate = reference.sound.audio, reference.sound.sample_rate
    if rate != mixture.sample_rate or len(samples) != mixture.audio.shape[-1]:
        raise SepnetError(
            f"the reference {reference.name} has {len(samples)} samples at {rate} Hz, but the mixture "
            f"{mixture.audio.shape[-1]} at {mixture.sample_rate} Hz: give the sound as it lies in the mixture"
        )
    return query_scores(event.target, mixture.audio[0], samples)


def _score_text(scores: QueryScores | None) -> str:
    if scores is None:
        return ""
    return (
        f"; SI-SDR {scores.si_sdr_db:.2f} dB, of the mixture {scores.si_sdr_mixture_db:.2f} dB: "
        f"{scores.si_sdr_improvement_db:+.2f} dB, {scores.rating}"
    )


def _draw(event: Event, folder: Path, name: str, mixture: Tensor, rate: int) -> None:
    from sepnet.figures import query  # Matplotlib: imported for pictures alone

    detection = event.detection
    query.comparison_figure(
        folder / f"{name}_comparison.png",
        mixture=mixture,
        mask=event.mask_linear,
        target=event.target,
        residual=event.residual,
        sample_rate=rate,
        title=summary(event),
    )
    query.timeline_figure(
        folder / f"{name}_timeline.png",
        times_seconds=detection.times.mean(dim=1).tolist(),
        probability=None if detection.probability is None else detection.probability.tolist(),
        similarity=detection.similarity.tolist(),
        score=detection.score.tolist(),
        threshold=detection.threshold,
        gate=detection.gate.tolist(),
        segments=detection.segments,
        seconds=detection.seconds,
        title=summary(event),
    )


def _finite(node: Any) -> Any:
    """JSON knows no NaN and no infinity: they become null."""
    if isinstance(node, dict):
        return {key: _finite(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_finite(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node
