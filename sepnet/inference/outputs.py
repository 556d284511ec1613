"""What is written of a recording once it is separated: its sources, a picture, and how they came about."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from omegaconf import DictConfig

from sepnet.data import audio
from sepnet.data.blocks import SUBTYPE_OF, largest_gain, write_blocks
from sepnet.evaluation.spectrograms import Stretch, recording_figure, spectrogram
from sepnet.inference.checkpoint import Progress, Work
from sepnet.inference.events import UNSAFE
from sepnet.inference.files import Recording
from sepnet.types import SepnetError

MOST_FLAC_CHANNELS = 8
DOUBTFUL = 0.7  # a confidence: below, a stitch is told


def write(config: DictConfig, recording: Recording, header: audio.AudioInfo, work: Work) -> None:
    """The files of the sources, and the record; then the work is removed."""
    progress, rate = work.progress, header.sample_rate
    targets = targets_of(recording, config, progress.labels, progress.n_sources)
    refuse_standing(targets, config, progress.written)
    subtype = config.subtype or SUBTYPE_OF[targets[0].suffix]
    gain = _gain(config.gain, progress.peak, subtype)
    progress.written = [target.name for target in targets]
    work.keep()  # stopped in between, it goes on
    for number, target in enumerate(targets):
        write_blocks(
            target,
            work.blocks(number, gain),
            rate,
            n_channels=work.n_channels,
            n_samples=progress.n_samples,
            subtype=subtype,
        )
    if config.report:
        _draw(recording, work, targets, rate)
    record = _record(config, recording, header, progress, targets, gain)
    with audio.replacing(recording.record) as temporary:
        temporary.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    work.remove()
    _tell(recording, header, progress, targets, gain)


def asked(config: DictConfig) -> dict[str, Any]:
    """The form that the results are to have."""
    return {name: config[name] for name in ("format", "subtype", "gain", "report")}


def _record(
    config: DictConfig,
    recording: Recording,
    header: audio.AudioInfo,
    progress: Progress,
    targets: list[Path],
    gain: float,
) -> dict[str, Any]:
    confidences = [stitch["confidence"] for stitch in progress.stitches if "confidence" in stitch]
    return {
        "files": [target.name for target in targets],
        "seconds": round(header.seconds, 3),
        "sample_rate": header.sample_rate,
        "channels": header.channels,
        "asked": asked(config),
        "gain": gain,
        "peak": gain * progress.peak,
        "left_over_db": _left_over_db(progress),
        "stitches": progress.stitches,
        "least_confidence": min(confidences, default=None),
        "doubtful": [stitch for stitch in progress.stitches if stitch.get("confidence", 1.0) < DOUBTFUL],
        "compute_seconds": round(progress.compute_seconds, 3),
        "separation": progress.meant,
    }


def _tell(
    recording: Recording, header: audio.AudioInfo, progress: Progress, targets: list[Path], gain: float
) -> None:
    left_over = _left_over_db(progress)
    if not progress.power:
        told = "silent"
    elif left_over is None:
        told = "their sum is the mixture"
    else:
        told = f"their sum is within {left_over:.0f} dB of the mixture"
    if gain != 1.0:
        told += f", all multiplied by {gain:g}"
    print(
        f"{recording.file}: {header.seconds:.2f} s at {header.sample_rate} Hz, {told} -> "
        f"{', '.join(str(target) for target in targets)}"
    )
    doubtful = [stitch for stitch in progress.stitches if stitch.get("confidence", 1.0) < DOUBTFUL]
    if doubtful:
        times = ", ".join(clock(stitch["seconds"]) for stitch in doubtful[:5])
        print(
            f"{recording.file}: the sources may have changed places at {times}"
            f"{' and later' if len(doubtful) > 5 else ''}; see {recording.record}"
        )


def _left_over_db(progress: Progress) -> float | None:
    """How far the sum of the sources is from the mixture; None where nothing but rounding is left."""
    if progress.left_over <= 1e-12 * progress.power:
        return None
    return round(10 * math.log10(progress.left_over / progress.power), 1)


def _gain(wanted: str | float | None, peak: float, subtype: str) -> float:
    """What all sources are multiplied by. Raises SepnetError where they would clip."""
    fitting = largest_gain(peak, subtype)
    gain = 1.0 if wanted is None else min(1.0, fitting) if wanted == "auto" else float(wanted)
    if gain > fitting:
        raise SepnetError(
            f"the sources reach {gain * peak:.4g} of full scale, which {subtype} would clip: give "
            f"gain={fitting:g} or less, gain=auto, or subtype=FLOAT; what was separated is kept for that"
        )
    return gain


def targets_of(
    recording: Recording, config: DictConfig, labels: list[str] | None, n_sources: int
) -> list[Path]:
    """The file of each source, named by its label, or s1, s2, ... where it has none."""
    names = labels or [f"s{number + 1}" for number in range(n_sources)]
    return [recording.folder / f"{recording.stem}_{UNSAFE.sub('_', name)}.{config.format}" for name in names]


def check_form(config: DictConfig, n_channels: int) -> None:
    """Raises SepnetError for a form that the results can't have: before anything is separated."""
    suffix = f".{config.format}"
    if suffix not in SUBTYPE_OF:
        known = ", ".join(name.removeprefix(".") for name in SUBTYPE_OF)
        raise SepnetError(f"format={config.format} can't be written: say {known}")
    audio.file_format(Path(f"source{suffix}"), config.subtype or SUBTYPE_OF[suffix])
    if suffix == ".flac" and n_channels > MOST_FLAC_CHANNELS:
        raise SepnetError(
            f"a FLAC holds {MOST_FLAC_CHANNELS} channels, but each source has {n_channels}: take format=wav, "
            "or channels=mean"
        )
    gain = config.gain
    if gain not in (None, "auto") and not (_is_number(gain) and 0 < gain < math.inf):
        raise SepnetError(f"gain={gain} is no factor: say auto, or a positive number")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def refuse_standing(targets: list[Path], config: DictConfig, ours: Sequence[str] = ()) -> None:
    """Raises SepnetError for files that would be written over unasked, but for ``ours``."""
    standing = [str(path) for path in targets if path.exists() and path.name not in ours]
    if standing and not config.overwrite:
        raise SepnetError(
            f"{', '.join(standing)} exist already: give overwrite=true, or another folder with out="
        )


def _draw(recording: Recording, work: Work, targets: list[Path], rate: int) -> None:
    """The sum of the sources, and each of them."""
    n_samples, n_sources = work.progress.n_samples, work.progress.n_sources

    def together(start: int, count: int) -> Float[np.ndarray, " time"]:
        return np.asarray(sum(work.stretch(number, start, count) for number in range(n_sources)))

    signals: list[Stretch] = [together, *(partial(work.stretch, number) for number in range(n_sources))]
    names = ["their sum", *(target.stem.removeprefix(f"{recording.stem}_") for target in targets)]
    recording_figure(
        recording.folder / f"{recording.stem}_report.png",
        [spectrogram(signal, n_samples, rate) for signal in signals],
        names,
        rate,
        n_samples / rate,
    )


def clock(seconds: float) -> str:
    """1:02:03"""
    return str(timedelta(seconds=round(seconds)))
