"""The best, the median and the worst mixture of a method, as sounds and spectrograms."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from sepnet.atomic import replacing_folder, write_text
from sepnet.data import audio
from sepnet.evaluation import provenance
from sepnet.evaluation import rows as rows_file
from sepnet.evaluation.contender import Contender
from sepnet.evaluation.figures import spectrograms
from sepnet.evaluation.rows import Row
from sepnet.evaluation.statistics import mixture_means
from sepnet.evaluation.table import SI_SDRI
from sepnet.inference.pipeline import Pipeline
from sepnet.metrics import align, improvement, is_silent, si_sdr
from sepnet.stored import read_json
from sepnet.types import Mixture, Mixtures, SepnetError, visible_hints

KINDS = ("best", "median", "worst")
MAX_PEAK = 0.99
TOLERANCE_DB = 0.1  # rounding on another number of threads or another processor stays well below this


@dataclass(frozen=True)
class Example:
    """A mixture that was separated again, and written to files.

    Attributes:
        kind: best, median or worst.
        mixture_id: Its name in the test set.
        si_sdr_improvement: The SI-SDRi of the mixture in the rows, in dB.
        improvements: The SI-SDRi of each source in the rows, in dB; None for a source that was not scored.
        repeated_improvement: The SI-SDRi of the mixture as separated again, in dB.
        gain: The factor by which all files are multiplied, so that none clips.
        sample_rate: In Hz.
        signals: The names of the files, without suffix.
    """

    kind: str
    mixture_id: str
    si_sdr_improvement: float
    improvements: tuple[float | None, ...]
    repeated_improvement: float
    gain: float
    sample_rate: int
    signals: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether the estimates differ from those that were scored."""
        return abs(self.repeated_improvement - self.si_sdr_improvement) > TOLERANCE_DB


def pick(rows: list[Row], separator: str) -> dict[str, str]:
    """Pick the mixtures with the best, the median and the worst SI-SDRi, none of them twice.

    Args:
        rows: Of an evaluation, in any order.
        separator: The name of the method.

    Returns:
        {kind: mixture id}. The median of an even number is the lower one; of equals, the first id is picked.
    """
    scored = mixture_means((row for row in rows if row.separator == separator), SI_SDRI.value)
    ranked = sorted(scored, key=lambda mixture_id: (-scored[mixture_id], mixture_id))
    if not ranked:
        return {}
    candidates = {"best": ranked[0], "worst": ranked[-1], "median": ranked[len(ranked) // 2]}
    picked: dict[str, str] = {}
    for kind, mixture_id in candidates.items():
        if mixture_id not in picked.values():
            picked[kind] = mixture_id
    return {kind: picked[kind] for kind in KINDS if kind in picked}


def examples(rows_csv: Path, contender: Contender, mixtures: Mixtures) -> Path:
    """Separate the best, the median and the worst mixture again, and write ``examples/NAME``.

    Its folders ``best``, ``median`` and ``worst`` contain mixture, estimate_N and reference_N (N from 1,
    estimates in the order of the references) as .wav in 16 bit and as spectrograms in .svg, and example.json.
    Levels are those of the mixture, unless a file would clip: then all files of the example are multiplied by
    the same gain. Earlier examples of the method are replaced when all new ones are written.

    Args:
        rows_csv: The rows of the evaluation.
        contender: One of its methods.
        mixtures: The test set of the evaluation.

    Returns:
        ``examples/NAME``; it does not exist if no mixture was scored.

    Raises:
        SepnetError: A mixture has no references.
    """
    rows = rows_file.read(rows_csv)
    folder = rows_csv.parent / "examples" / contender.name
    picked = pick(rows, contender.name)
    if not picked:
        shutil.rmtree(folder, ignore_errors=True)
        return folder
    index = {mixtures.id(number): number for number in range(len(mixtures))}
    pipeline = contender.pipeline(provenance.pipeline_settings(rows_csv))
    with replacing_folder(folder) as temporary:
        for kind, mixture_id in picked.items():
            own = [row for row in rows if (row.separator, row.mixture_id) == (contender.name, mixture_id)]
            _write_example(temporary / kind, kind, own, pipeline, mixtures[index[mixture_id]])
    return folder


def read(folder: Path) -> list[Example]:
    """Read the examples in ``examples/NAME``, from the best to the worst."""
    files = [folder / kind / "example.json" for kind in KINDS]
    return [read_json(path, Example) for path in files if path.exists()]


def _improvement_db(estimates: Tensor, mixture: Mixture) -> float:
    """The mean SI-SDRi over the sources that are scored."""
    references = mixture.references
    assert references is not None  # it was scored
    gains_db = improvement(si_sdr, estimates, references, mixture.audio[:1].expand_as(references))
    is_target = torch.tensor(mixture.is_target or [True] * len(references))
    return float(gains_db[is_target & ~is_silent(references)].mean())


def _write_example(folder: Path, kind: str, rows: list[Row], pipeline: Pipeline, mixture: Mixture) -> None:
    """Separate a mixture again, and write its sounds, spectrograms and description."""
    if mixture.references is None:
        raise SepnetError(f"mixture {rows[0].mixture_id} has no references: evaluate on a set that has them")
    separation = pipeline.separate(visible_hints(pipeline, mixture))
    estimates, _ = align(separation, mixture.references, needs=pipeline.info.needs, labels=mixture.labels)
    signals = {"mixture": mixture.audio[0]}
    for number, (estimate, reference) in enumerate(zip(estimates, mixture.references, strict=True), 1):
        signals |= {f"estimate_{number}": estimate, f"reference_{number}": reference}
    peak = max(float(signal.abs().max()) for signal in signals.values())
    gain = min(1.0, MAX_PEAK / peak) if peak else 1.0
    for name, signal in signals.items():
        samples = (signal * gain).detach().numpy()
        audio.write(folder / f"{name}.wav", samples, rows[0].sample_rate, subtype="PCM_16")
    spectrograms(folder, signals, rows[0].sample_rate)
    example = Example(
        kind=kind,
        mixture_id=rows[0].mixture_id,
        si_sdr_improvement=mixture_means(rows, SI_SDRI.value)[rows[0].mixture_id],
        improvements=tuple(row.improvement("si_sdr") if row.status == "ok" else None for row in rows),
        repeated_improvement=_improvement_db(estimates, mixture),
        gain=gain,
        sample_rate=rows[0].sample_rate,
        signals=tuple(signals),
    )
    write_text(folder / "example.json", json.dumps(asdict(example), indent=2) + "\n")
