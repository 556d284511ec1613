"""A page of a few mixtures with what each method made of them, to hear side by side."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from sepnet.data import audio
from sepnet.evaluation import rows as rows_file
from sepnet.evaluation.contender import Contender
from sepnet.evaluation.rows import Row
from sepnet.evaluation.statistics import mixture_means
from sepnet.evaluation.table import SI_SDRI, lines
from sepnet.evaluation.text import templates
from sepnet.evaluation.worker import one_line
from sepnet.metrics import align
from sepnet.types import Mixtures, SepnetError, visible_hints

PAGE, HIGHEST_PEAK = "listening.html", 0.99


@dataclass(frozen=True)
class Heard:
    """What one method made of a mixture: a file and its SI-SDRi in dB for each source, or why none."""

    name: str
    files: tuple[str, ...] = ()
    improvements: tuple[float, ...] = ()
    refusal: str = ""


@dataclass(frozen=True)
class Piece:
    """One mixture of the page. files: of the mixture and of the references. gain: of all its files."""

    id: str
    mixture: str
    references: tuple[str, ...]
    gain: float
    heard: tuple[Heard, ...]


def choose(rows: Sequence[Row], count: int) -> list[str]:
    """The ids of mixtures from the hardest to the easiest, evenly spread, by the methods' mean SI-SDRi.

    Of those that most methods scored; floors and ceilings have no say.
    """
    scored = [mixture_means(line.rows, SI_SDRI.value) for line in lines(rows) if line.role == "method"]
    most = max((sum(id_ in means for means in scored) for id_ in {i for m in scored for i in m}), default=0)
    means = {
        id_: float(np.mean(found))
        for id_ in sorted({i for m in scored for i in m})
        if len(found := [means[id_] for means in scored if id_ in means]) == most
    }
    ranked = sorted(means, key=lambda id_: (means[id_], id_))
    places = np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int)
    return [ranked[place] for place in places]


def listening(rows_csv: Path, contenders: Sequence[Contender], mixtures: Mixtures, count: int) -> Path:
    """Write listening.html and the sounds that it plays, in ``listening``, beside ``rows_csv``.

    Each method separates the chosen mixtures again. Within a mixture all files have the mixture's level,
    unless one would clip: then all are lowered by one gain. Raises SepnetError where nothing was scored.
    """
    if not (chosen := choose(rows_file.read(rows_csv), count)):
        raise SepnetError(f"no method in {rows_csv} has a score: there is nothing to choose mixtures by")
    folder = rows_csv.parent / "listening"
    shutil.rmtree(folder, ignore_errors=True)
    separators = {contender.name: contender.load() for contender in contenders}
    index = {mixtures.id(number): number for number in range(len(mixtures))}
    rows = rows_file.read(rows_csv)
    pieces = []
    for number, id_ in enumerate(chosen, 1):
        mixture = mixtures[index[id_]]
        assert mixture.references is not None  # it was scored
        signals: dict[str, Tensor] = {"mixture": mixture.audio[0]}
        signals |= {f"reference_{k}": source for k, source in enumerate(mixture.references, 1)}
        references = tuple(signals)[1:]
        heard = []
        for name, separator in separators.items():
            try:
                separation = separator.separate(visible_hints(separator, mixture))
                estimates, _ = align(
                    separation, mixture.references, needs=separator.info.needs, labels=mixture.labels
                )
            except Exception as error:  # as the evaluation, which makes a row of it
                heard.append(Heard(name, refusal=one_line(error)))
                continue
            own = {f"{name}_{k}": source for k, source in enumerate(estimates, 1)}
            signals |= own
            scores = {
                row.source: row.improvement("si_sdr")
                for row in rows
                if (row.separator, row.mixture_id) == (name, id_)
            }
            gains = tuple(scores.get(source, math.nan) for source in range(1, len(own) + 1))
            heard.append(Heard(name, tuple(own), gains))
        gain = _write(folder / str(number), signals, mixture.sample_rate)
        pieces.append(Piece(id_, "mixture", references, gain, tuple(heard)))
    page = rows_csv.parent / PAGE
    page.write_text(templates(html=True).get_template(PAGE).render(pieces=pieces))
    return page


def _write(folder: Path, signals: dict[str, Tensor], sample_rate: int) -> float:
    """One file for each signal; returns the gain of them all."""
    peak = max(float(signal.abs().max()) for signal in signals.values())
    gain = min(1.0, HIGHEST_PEAK / peak) if peak else 1.0
    for name, signal in signals.items():
        audio.write(folder / f"{name}.wav", (signal * gain).detach().numpy(), sample_rate, subtype="PCM_16")
    return gain
