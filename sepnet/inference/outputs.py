"""What is written of a separated recording: its sources, a picture, and a record of how they came about."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from sepnet.atomic import exists, replacing
from sepnet.data import audio
from sepnet.inference.checkpoint import Progress, SeparationCheckpoint
from sepnet.inference.files import Recording
from sepnet.inference.opinions import predict_opinion
from sepnet.metrics import Opinion
from sepnet.ranges import PositiveFloat, Text
from sepnet.settings import check_fields
from sepnet.types import SepnetError

if TYPE_CHECKING:
    from sepnet.figures.spectrogram import ReadSignal

MAX_RESIDUAL_DB = -30.0  # above it, a model leaves out some of the mixture, such as noise
MIN_CONFIDENCE = 0.7  # of a stitch; below it the sources may have changed places
MAX_LISTED_STITCHES = 5
RESIDUAL = "residual"  # the name of what the sources leave out
UNSAFE_IN_NAMES = re.compile(r"[^\w.-]+")


@dataclass(frozen=True, kw_only=True)
class OutputSettings:
    """How the sources of a recording are written.

    Attributes:
        format: Of the files: wav, flac, ogg, aiff; None: wav.
        subtype: Of the samples, as soundfile names them; None: FLOAT, and PCM_24 for flac.
        gain: By which all sources are multiplied; ``auto``: as much as is needed to keep integers from
            clipping; None: 1.
        report: Whether a picture of the spectrograms is written, too, and DNSMOS where it is installed.
        overwrite: Whether files that exist are written over, and finished jobs done again.

    Raises:
        SepnetError: A value is out of range, or the format cannot hold such samples.
    """

    format: Text | None = None
    subtype: Text | None = None
    gain: PositiveFloat | Literal["auto"] | None = None
    report: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.suffix not in audio.SUBTYPE_OF:
            known = ", ".join(name.removeprefix(".") for name in audio.SUBTYPE_OF)
            raise SepnetError(f"format={self.format} cannot be written: give {known}")
        audio.file_format(Path(f"source{self.suffix}"), self.sample_type)

    @property
    def suffix(self) -> str:
        """Of the files, with its dot."""
        return f".{self.format or 'wav'}"

    @property
    def sample_type(self) -> str:
        """The subtype that is written."""
        return self.subtype or audio.SUBTYPE_OF[self.suffix]

    def describe(self) -> dict[str, Any]:
        """The form of the results in plain containers, for their record."""
        return {
            "format": self.suffix.removeprefix("."),
            "subtype": self.sample_type,
            "gain": self.gain,
            "report": self.report,
        }

    def check_layout(self, n_channels: int, sample_rate: int) -> None:
        """Refuse a format that cannot hold so many channels or this rate, before anything is separated."""
        audio.check_layout(Path(f"source{self.suffix}"), n_channels, sample_rate)

    def paths(
        self, recording: Recording, labels: Sequence[str] | None, n_sources: int, *, residual: bool
    ) -> list[Path]:
        """The file of each source, named by its label or s1, s2, ..., and then that of the residual."""
        names = list(labels or (f"s{number + 1}" for number in range(n_sources)))
        if residual and RESIDUAL in names:
            raise SepnetError(f"the model has a source named {RESIDUAL} itself: leave out residual=true")
        names += [RESIDUAL] if residual else []
        safe = [UNSAFE_IN_NAMES.sub("_", name) for name in names]
        return [recording.folder / f"{recording.stem}_{name}{self.suffix}" for name in safe]

    def check_overwrite(self, paths: Sequence[Path], own: Sequence[str] = ()) -> None:
        """Refuse to write over files unasked, but for those named in ``own``, which this job has begun."""
        existing = [str(path) for path in paths if exists(path) and path.name not in own]
        if existing and not self.overwrite:
            raise SepnetError(
                f"{', '.join(existing)} exist already: give overwrite=true, or another folder with out="
            )


def write_sources(
    recording: Recording,
    header: audio.AudioInfo,
    checkpoint: SeparationCheckpoint,
    output: OutputSettings,
    *,
    residual: bool,
) -> None:
    """Write the sources and their record, print a line about them, and remove the checkpoint.

    Args:
        recording: Where they go.
        header: Of the recording.
        checkpoint: With all chunks.
        output: How they are written.
        residual: Whether the last one in the checkpoint is what the others leave out.

    Raises:
        SepnetError: Files exist, cannot be written, or would clip; the checkpoint is then kept.
    """
    progress, rate = checkpoint.progress, header.sample_rate
    paths = output.paths(recording, progress.labels, progress.n_sources - residual, residual=residual)
    output.check_overwrite(paths, progress.written)
    gain = _gain(output, progress.peak)
    progress.written = [path.name for path in paths]
    checkpoint.save_progress()  # stopped in between, the next run may write over them
    for number, path in enumerate(paths):
        audio.write_blocks(
            path,
            checkpoint.blocks(number, gain),
            rate,
            n_channels=checkpoint.n_channels,
            n_samples=progress.n_samples,
            subtype=output.sample_type,
        )
    record = _record(output, header, progress, paths, gain)
    if output.report:
        opinions = [
            predict_opinion(partial(checkpoint.excerpt, number), progress.n_samples, rate)
            for number in range(progress.n_sources)
        ]
        record["dnsmos"] = [None if opinion is None else opinion._asdict() for opinion in opinions]
        _draw(recording, checkpoint, paths, rate, opinions, residual=residual)
    with replacing(recording.record) as temporary:
        temporary.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    checkpoint.remove()
    _print_summary(recording, header, progress, paths, gain)


def _record(
    output: OutputSettings, header: audio.AudioInfo, progress: Progress, paths: list[Path], gain: float
) -> dict[str, Any]:
    confidences = [stitch["confidence"] for stitch in progress.stitches if "confidence" in stitch]
    return {
        "files": [path.name for path in paths],
        "seconds": round(header.seconds, 3),
        "defect": header.defect,
        "sample_rate": header.sample_rate,
        "channels": header.channels,
        "output": output.describe(),
        "gain": gain,
        "peak": gain * progress.peak,
        "residual_db": _residual_db(progress),
        "stitches": progress.stitches,
        "min_confidence": min(confidences, default=None),
        "uncertain_stitches": _uncertain(progress),
        "compute_seconds": round(progress.compute_seconds, 3),
        "job": progress.job,
    }


def _print_summary(
    recording: Recording, header: audio.AudioInfo, progress: Progress, paths: list[Path], gain: float
) -> None:
    residual_db = _residual_db(progress)
    if not progress.mixture_energy:
        text = "silent"
    elif residual_db is not None and residual_db > MAX_RESIDUAL_DB:
        text = f"the sources leave out {residual_db:.0f} dB of the mixture"
    elif residual_db is None:
        text = "the sources sum to the mixture"
    else:
        text = f"the sources sum to the mixture within {residual_db:.0f} dB"
    if gain != 1.0:
        text += f", all multiplied by {gain:g}"
    print(
        f"{recording.file}: {header.seconds:.2f} s at {header.sample_rate} Hz, {text} -> "
        f"{', '.join(str(path) for path in paths)}"
    )
    if uncertain := _uncertain(progress):
        times = ", ".join(clock(stitch["seconds"]) for stitch in uncertain[:MAX_LISTED_STITCHES])
        more = " and later" if len(uncertain) > MAX_LISTED_STITCHES else ""
        print(
            f"{recording.file}: the sources may have changed places at {times}{more}; see {recording.record}"
        )


def _uncertain(progress: Progress) -> list[dict[str, Any]]:
    return [stitch for stitch in progress.stitches if stitch.get("confidence", 1.0) < MIN_CONFIDENCE]


def _residual_db(progress: Progress) -> float | None:
    """The level of mixture - sum of sources relative to the mixture; None where only rounding is left."""
    if progress.residual_energy <= 1e-12 * progress.mixture_energy:
        return None
    return round(10 * math.log10(progress.residual_energy / progress.mixture_energy), 1)


def _gain(output: OutputSettings, peak: float) -> float:
    """The factor of all sources. Raises SepnetError where they would clip."""
    largest = audio.largest_gain(peak, output.sample_type)
    if output.gain == "auto":
        return min(1.0, largest)
    gain = 1.0 if output.gain is None else float(output.gain)
    if gain > largest and output.sample_type in audio.FLOATS:
        raise SepnetError(
            f"gain={gain:g} would bring the sources beyond the largest number that floats hold: give "
            f"gain={largest:g} or less; nothing is separated again for that"
        )
    if gain > largest:
        raise SepnetError(
            f"the sources reach {gain * peak:.4g} of full scale, which {output.sample_type} would clip: give "
            f"gain={largest:g} or less, gain=auto, or subtype=FLOAT; nothing is separated again for that"
        )
    return gain


def _draw(
    recording: Recording,
    checkpoint: SeparationCheckpoint,
    paths: list[Path],
    rate: int,
    opinions: Sequence[Opinion | None],
    *,
    residual: bool,
) -> None:
    """Spectrograms of the sum of the sources, which with the residual is the recording, and of each."""
    from sepnet.figures.recording import recording_figure  # Matplotlib: imported for a picture alone

    n_samples, n_sources = checkpoint.progress.n_samples, checkpoint.progress.n_sources

    def total(start: int, n: int) -> Float[np.ndarray, " time"]:
        return np.asarray(sum(checkpoint.excerpt(number, start, n) for number in range(n_sources)))

    signals: list[ReadSignal] = [total, *(partial(checkpoint.excerpt, number) for number in range(n_sources))]
    titles = [path.stem.removeprefix(f"{recording.stem}_") for path in paths]
    titles = [
        title if opinion is None else f"{title}   {opinion}"
        for title, opinion in zip(titles, opinions, strict=True)
    ]
    recording_figure(
        recording.folder / f"{recording.stem}_report.png",
        signals,
        ["recording" if residual else "sum of the sources", *titles],
        n_samples=n_samples,
        sample_rate=rate,
    )


def clock(seconds: float) -> str:
    """A time as 1:02:03."""
    return str(timedelta(seconds=round(seconds)))
