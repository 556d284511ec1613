"""A page to compare methods by ear: a few mixtures, with the estimates of each method side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from sepnet.atomic import replacing_folder, write_text
from sepnet.data import audio
from sepnet.evaluation import provenance
from sepnet.evaluation import rows as rows_file
from sepnet.evaluation.attempt import one_line
from sepnet.evaluation.contender import Contender
from sepnet.evaluation.rows import Row
from sepnet.evaluation.statistics import mixture_means
from sepnet.evaluation.table import SI_SDRI, lines
from sepnet.evaluation.text import templates
from sepnet.inference.pipeline import Pipeline
from sepnet.metrics import align
from sepnet.types import Mixture, Mixtures, SepnetError, visible_hints

PAGE = "listening.html"
MAX_PEAK = 0.99


@dataclass(frozen=True)
class ListeningEntry:
    """The estimates of one method for one mixture.

    Attributes:
        name: The name of the method.
        files: The files of the estimates, in the order of the references, without suffix.
        improvements: The SI-SDRi in dB of each estimate.
        refusal: The reason why there are no estimates; else empty.
    """

    name: str
    files: tuple[str, ...] = ()
    improvements: tuple[float, ...] = ()
    refusal: str = ""


@dataclass(frozen=True)
class ListeningMixture:
    """A mixture of the page.

    Attributes:
        id: Its name in the test set.
        mixture: Its file, without suffix.
        references: The files of its sources, without suffix.
        gain: The factor by which all its files are multiplied, so that none clips.
        entries: One for each method.
    """

    id: str
    mixture: str
    references: tuple[str, ...]
    gain: float
    entries: tuple[ListeningEntry, ...]


def choose_mixtures(rows: Sequence[Row], max_mixtures: int) -> list[str]:
    """Choose mixtures from the hardest to the easiest, evenly spread, by the methods' mean SI-SDRi.

    Only mixtures that the largest number of methods scored are candidates; floors and ceilings do not count.

    Args:
        rows: The rows of an evaluation.
        max_mixtures: Their largest number.

    Returns:
        Their ids.
    """
    scored = [mixture_means(line.rows, SI_SDRI.value) for line in lines(rows) if line.role == "method"]
    by_mixture: dict[str, list[float]] = {}
    for means in scored:
        for mixture_id, value in means.items():
            by_mixture.setdefault(mixture_id, []).append(value)
    max_methods = max(map(len, by_mixture.values()), default=0)
    difficulty = {
        mixture_id: float(np.mean(values))
        for mixture_id, values in by_mixture.items()
        if len(values) == max_methods
    }
    ranked = sorted(difficulty, key=lambda mixture_id: (difficulty[mixture_id], mixture_id))
    places = np.linspace(0, len(ranked) - 1, min(max_mixtures, len(ranked))).round().astype(int)
    return [ranked[place] for place in places]


def listening(rows_csv: Path, contenders: Sequence[Contender], mixtures: Mixtures, max_mixtures: int) -> Path:
    """Write listening.html beside ``rows_csv``, and the sounds that it plays into the folder ``listening``.

    Each method separates the chosen mixtures again. All files of a mixture have the mixture's level, unless
    one would clip: then all are multiplied by the same gain.

    Args:
        rows_csv: The rows of the evaluation.
        contenders: The methods whose estimates are on the page.
        mixtures: The test set of the evaluation.
        max_mixtures: The largest number of mixtures on the page.

    Returns:
        The path of the page.

    Raises:
        SepnetError: No method has a score.
    """
    rows = rows_file.read(rows_csv)
    if not (chosen := choose_mixtures(rows, max_mixtures)):
        raise SepnetError(f"no method in {rows_csv} has a score to choose mixtures by: evaluate a method")
    settings = provenance.pipeline_settings(rows_csv)
    pipelines = {contender.name: contender.pipeline(settings) for contender in contenders}
    index = {mixtures.id(number): number for number in range(len(mixtures))}
    with replacing_folder(rows_csv.parent / "listening") as folder:
        listed = [
            _write_mixture(
                folder / str(number),
                mixtures[index[mixture_id]],
                pipelines,
                [row for row in rows if row.mixture_id == mixture_id],
            )
            for number, mixture_id in enumerate(chosen, 1)
        ]
    page = rows_csv.parent / PAGE
    write_text(page, templates(html=True).get_template(PAGE).render(mixtures=listed))
    return page


def _write_mixture(
    folder: Path, mixture: Mixture, pipelines: Mapping[str, Pipeline], rows: Sequence[Row]
) -> ListeningMixture:
    """Separate a mixture with each method, and write all sounds; ``rows`` are those of the mixture."""
    assert mixture.references is not None  # it was scored
    signals: dict[str, Tensor] = {"mixture": mixture.audio[0]}
    signals |= {f"reference_{k}": source for k, source in enumerate(mixture.references, 1)}
    references = tuple(signals)[1:]
    entries = []
    for name, pipeline in pipelines.items():
        try:
            separation = pipeline.separate(visible_hints(pipeline, mixture))
            estimates, _ = align(
                separation, mixture.references, needs=pipeline.info.needs, labels=mixture.labels
            )
        except Exception as error:  # the evaluation turns it into a row, too
            entries.append(ListeningEntry(name, refusal=one_line(error)))
            continue
        own = {f"{name}_{k}": source for k, source in enumerate(estimates, 1)}
        signals |= own
        scores = {row.source: row.improvement("si_sdr") for row in rows if row.separator == name}
        gains_db = tuple(scores.get(source, math.nan) for source in range(1, len(own) + 1))
        entries.append(ListeningEntry(name, tuple(own), gains_db))
    gain = _write_sounds(folder, signals, mixture.sample_rate)
    return ListeningMixture(rows[0].mixture_id, "mixture", references, gain, tuple(entries))


def _write_sounds(folder: Path, signals: dict[str, Tensor], sample_rate: int) -> float:
    """Write a file for each signal, and return the gain by which all of them were multiplied."""
    peak = max(float(signal.abs().max()) for signal in signals.values())
    gain = min(1.0, MAX_PEAK / peak) if peak else 1.0
    for name, signal in signals.items():
        audio.write(folder / f"{name}.wav", (signal * gain).detach().numpy(), sample_rate, subtype="PCM_16")
    return gain
