"""Published figures of models, and how they compare with what an evaluation measured.

A figure counts for a test set alone: it is compared with rows of the same set, which the provenance of an
evaluation names (``test_set``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepnet.evaluation import provenance
from sepnet.evaluation.columns import score_text
from sepnet.evaluation.publish import ROWS, read_table
from sepnet.evaluation.statistics import Summary
from sepnet.evaluation.table import SI_SDRI, Line
from sepnet.evaluation.text import number


@dataclass(frozen=True)
class PublishedFigure:
    """What the authors of a model measured.

    Attributes:
        name: The model, by its name on the hub.
        data: The test set, for people.
        test_set: The same set in the words of ``FixedSet.name``; None for a set that sepnet does not make.
        si_sdri_db: Mean improvement of SI-SDR, in dB.
        source: Where the figure stands.
    """

    name: str
    data: str
    test_set: str | None
    si_sdri_db: float
    source: str


@dataclass(frozen=True)
class Measured:
    """What an evaluation measured of a model whose figure is published.

    Attributes:
        figure: The published figure.
        summary: Of the mean of the evaluation.
    """

    figure: PublishedFigure
    summary: Summary

    @property
    def differs(self) -> bool:
        """Whether the published figure lies outside the interval of the mean, of two mixtures or more."""
        return self.summary.n > 1 and not self.summary.low <= self.figure.si_sdri_db <= self.summary.high


LIBRI2MIX = "Libri2Mix test, min, clean, {} kHz"
LIBRI3MIX = "Libri3Mix test, min, clean, {} kHz"
FIGURES = (
    PublishedFigure(
        "JorisCos/ConvTasNet_Libri2Mix_sepclean_8k",
        LIBRI2MIX.format(8),
        "libri2mix_test-clean, min, 8 kHz",
        14.76,
        "model card",
    ),
    PublishedFigure(
        "JorisCos/ConvTasNet_Libri2Mix_sepclean_16k",
        LIBRI2MIX.format(16),
        "libri2mix_test-clean, min, 16 kHz",
        15.24,
        "model card",
    ),
    PublishedFigure(
        "speechbrain/sepformer-libri2mix",
        LIBRI2MIX.format(8),
        "libri2mix_test-clean, min, 8 kHz",
        20.6,
        "model card; 20.4 in the paper of SepFormer",
    ),
    PublishedFigure(
        "speechbrain/sepformer-libri3mix",
        LIBRI3MIX.format(8),
        "libri3mix_test-clean, min, 8 kHz",
        19.0,
        "model card",
    ),
    PublishedFigure(
        "speechbrain/sepformer-wsj02mix", "WSJ0-2mix test, min, 8 kHz", None, 22.4, "speechbrain's recipe"
    ),
    PublishedFigure(
        "speechbrain/sepformer-wsj03mix", "WSJ0-3mix test, min, 8 kHz", None, 19.8, "speechbrain's recipe"
    ),
    PublishedFigure(
        "speechbrain/resepformer-wsj02mix", "WSJ0-2mix test, min, 8 kHz", None, 18.6, "model card"
    ),
)


def compare_with_published(table: Sequence[Line], test_set: str | None) -> list[Measured]:
    """Find the lines of models that have a published figure for a test set.

    Args:
        table: The lines of an evaluation, which are called as on the hub, with dashes for slashes.
        test_set: Its test set; None: an unnamed one.

    Returns:
        The comparisons, in the order of ``FIGURES``.
    """
    lines = {line.name: line for line in table if line.improvements}
    return [
        Measured(figure, lines[label].scores[SI_SDRI.key])
        for figure in FIGURES
        if test_set is not None
        and figure.test_set == test_set
        and (label := figure.name.replace("/", "-")) in lines
    ]


def remarks(measured: Sequence[Measured]) -> list[str]:
    """Say of each model whose measured mean disagrees with the published figure by how much."""
    return [
        f"{each.figure.name} reaches {score_text(each.summary, 2)} dB, but "
        f"{number(each.figure.si_sdri_db, 2)} dB are published for {each.figure.data} "
        f"({each.figure.source}): they differ by more than the interval."
        for each in measured
        if each.differs
    ]


def published_table(folders: Sequence[Path]) -> str:
    """Make the table of published figures and of what was measured.

    Args:
        folders: Of evaluations. Of several with the same model and test set the last counts.

    Returns:
        A table in Markdown with a row for each of ``FIGURES``; what nobody has measured is empty.

    Raises:
        SepnetError: A folder holds no evaluation.
    """
    found: dict[PublishedFigure, Measured] = {}
    for folder in folders:
        table = read_table(folder)
        origin: Mapping[str, object] = provenance.read(folder / ROWS)
        test_set = origin.get("test_set")
        for each in compare_with_published(table, test_set if isinstance(test_set, str) else None):
            found[each.figure] = each
    head = ("Name", "Data", "Published SI-SDRi (dB)", "Source", "Measured by sepnet (dB)", "Mixtures")
    lines = [f"| {' | '.join(head)} |", "|:--|:--|--:|:--|--:|--:|"]
    for figure in FIGURES:
        measured = found.get(figure)
        cells = ["", ""]
        if measured is not None:
            mark = ", differs" if measured.differs else ""
            cells = [score_text(measured.summary, 2) + mark, str(measured.summary.n)]
        published = number(figure.si_sdri_db, 2 if figure.si_sdri_db * 10 % 1 else 1)
        lines.append(f"| {' | '.join([f'`{figure.name}`', figure.data, published, figure.source, *cells])} |")
    return "\n".join(lines)
