"""report.html, report.md and summary.md, from rows.csv, provenance.json and the examples beside it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sepnet.atomic import write_text
from sepnet.evaluation import figures, provenance
from sepnet.evaluation import rows as rows_file
from sepnet.evaluation.breakdown import Breakdown, breakdowns
from sepnet.evaluation.columns import columns, markdown_table
from sepnet.evaluation.comparison import Comparison, compare
from sepnet.evaluation.examples import read as read_examples
from sepnet.evaluation.published import compare_with_published
from sepnet.evaluation.published import remarks as published_remarks
from sepnet.evaluation.rows import Row
from sepnet.evaluation.table import QUANTITIES, SI_SDRI, Line, lines
from sepnet.evaluation.text import number, templates
from sepnet.types import SepnetError

PAGES = ("report.html", "report.md", "summary.md")
MACS_MEANING = (
    "billions of multiply-accumulates for a second of audio, including optimisation at test time: those of "
    "matrix products, convolutions and recurrent layers of PyTorch, without Fourier transforms, elementwise "
    "arithmetic and NumPy"
)
REAL_TIME_MEANING = (
    "seconds of compute for a second of audio, as a median over mixtures: on one thread with other processes "
    "beside it, and on two threads of a single process; lower is better"
)
OUTLIER_FACTOR = 2.0  # a ceiling this many times above all others would leave them no room in the figures
FULL_TINT_DB = 6.0  # this difference and larger ones have the strongest colour
PESQ_BANDS = {8000: "narrow band, P.862.1", 16000: "wide band, P.862.2"}


@dataclass(frozen=True)
class Picture:
    """A figure of the page.

    Attributes:
        path: Relative to the page.
        name: The method or the facet that it shows.
        alt: Its content in words.
    """

    path: str
    name: str
    alt: str


@dataclass(frozen=True)
class Cell:
    """A cell of the matrix of comparisons.

    Attributes:
        comparison: Of the method in its row with the method in its column.
        tint: The strength of its colour, 0 to 1.
    """

    comparison: Comparison
    tint: float


def report(rows_csv: Path, *, title: str = "Evaluation of source separation") -> Path:
    """Write report.html, report.md, summary.md and figures/ beside ``rows_csv``.

    Everything is computed from the rows, and the page loads nothing from other places. summary.md is a table
    with fewer columns. Without any rows or scores, the report says so.

    Args:
        rows_csv: Of the evaluation.
        title: Of the page.

    Returns:
        The path of report.html.

    Raises:
        SepnetError: There is no ``rows_csv``.
    """
    rows_csv = Path(rows_csv)
    if not rows_csv.exists():
        raise SepnetError(f"there is no file {rows_csv}: run the evaluation first")
    folder, rows, measures = rows_csv.parent, rows_file.read(rows_csv), rows_file.measures_of(rows_csv)
    table = lines(rows)
    outlier = _outlying_ceiling(table)
    drawn = [line for line in table if line is not outlier]
    origin = provenance.read(rows_csv)
    pairs = compare({line.name: line.improvements for line in table if line.improvements})
    parts = breakdowns(table)
    examples = {line.name: read_examples(folder / "examples" / line.name) for line in table}
    examples = {name: entries for name, entries in examples.items() if entries}
    content = {
        "title": title,
        "lines": table,
        "table": markdown_table(table, columns("full", measures)),
        "summary": markdown_table(table, columns("summary", measures)),
        "quantities": [quantity for quantity in QUANTITIES if quantity.measure in measures],
        "spread": SI_SDRI.measure in measures,
        "data": _data(rows),
        "macs_meaning": MACS_MEANING,
        "real_time_meaning": REAL_TIME_MEANING,
        "headline": _headline(table, outlier),
        "notes": _notes(table, outlier)
        + published_remarks(compare_with_published(table, origin.get("test_set"))),
        "remarks": {line.name: remarks for line in table if (remarks := line.remarks(measures))},
        "pairs": pairs,
        "matrix": _matrix(table, pairs),
        "box": _box_plot(folder, drawn),
        "breakdowns": parts,
        "panels": _panels(folder, drawn, parts),
        "scatters": _scatters(folder, drawn),
        "examples": examples,
        "anchors": {name: f"examples-{position}" for position, name in enumerate(examples, 1)},
        "opened": next((line.name for line in table if line.name in examples and line.role == "method"), ""),
        "provenance": origin,
        "origin": provenance.in_a_line(origin),
        "pipeline": provenance.pipeline_in_words(origin.get("pipeline")),
        "pesq_bands": [
            PESQ_BANDS[rate] for rate in sorted({r.sample_rate for r in rows}) if rate in PESQ_BANDS
        ],
    }
    for name in PAGES:
        template = templates(html=name.endswith("html")).get_template(name)
        write_text(folder / name, template.render(content))
    return folder / "report.html"


def _data(rows: Sequence[Row]) -> str:
    """The amount of audio, in words."""
    mixtures = {row.mixture_id: row for row in rows}
    if not mixtures:
        return "no mixtures"
    seconds = sum(row.seconds for row in mixtures.values())
    sources = sorted({row.n_sources for row in mixtures.values()})
    rates = sorted({row.sample_rate for row in mixtures.values()})
    return (
        f"{len(mixtures)} mixture{'s' * (len(mixtures) > 1)} of {' or '.join(map(str, sources))} sources, "
        f"{seconds / 60:.1f} minutes at {' and '.join(f'{rate / 1000:g}' for rate in rates)} kHz"
    )


def _outlying_ceiling(table: Sequence[Line]) -> Line | None:
    """The ceiling that is far above all others, such as a mask that restores the phase."""
    scored = [line for line in table if line.improvements]
    best = max(scored, key=_mean_db, default=None)
    others = [line for line in scored if line is not best]
    if best is None or best.role != "ceiling" or all(line.role != "ceiling" for line in others):
        return None
    return best if _mean_db(best) > OUTLIER_FACTOR * max(1.0, *map(_mean_db, others)) else None


def _mean_db(line: Line) -> float:
    return line.scores[SI_SDRI.key].mean


def _headline(table: Sequence[Line], outlier: Line | None) -> str:
    """The result in a sentence or two."""
    if not table:
        return "There are no rows: nothing has been evaluated yet."
    if not any(line.improvements for line in table):
        return "No source was scored: every row is excluded, refused, failed or without SI-SDR."
    parts = []
    methods = [line for line in table if line.role == "method" and line.improvements]
    if methods:
        best = methods[0].scores[SI_SDRI.key]
        interval = f" [{number(best.low, 1)}, {number(best.high, 1)}]" if best.n > 1 else ""
        parts.append(f"{methods[0].name} improves most, by {number(best.mean, 1)} dB{interval} of SI-SDR.")
    ceilings = [
        line for line in table if line.role == "ceiling" and line.improvements and line is not outlier
    ]
    if ceilings:
        top = ceilings[0]
        parts.append(f"The ceiling, {top.name}, is at {number(top.scores[SI_SDRI.key].mean, 1)} dB.")
    return " ".join(parts) or "Only the floor was scored."


def _notes(table: Sequence[Line], outlier: Line | None) -> list[str]:
    """What a reader needs to know before comparing the lines."""
    notes = []
    if outlier is not None:
        height = number(outlier.scores[SI_SDRI.key].mean, 1)
        notes.append(
            f"The figures leave out the ceiling {outlier.name}, which is far above the rest, at {height} dB."
        )
    for role, what in (("floor", "the mixture itself"), ("ceiling", "an oracle")):
        if table and all(line.role != role for line in table):
            notes.append(f"This table has no {role} ({what}), so its numbers are hard to judge.")
    scored = [line for line in table if line.improvements]
    if any(line.improvements.keys() != scored[0].improvements.keys() for line in scored):
        usual = Counter(len(line.improvements) for line in scored).most_common(1)[0][0]
        differing = [(line.name, n) for line in scored if (n := len(line.improvements)) != usual]
        counts = ", ".join(f"{name} {n}" for name, n in [*differing, ("others", usual)])
        notes.append(f"The means are over different mixtures and cannot be compared directly: {counts}.")
    return notes


def _matrix(table: Sequence[Line], pairs: Sequence[Comparison]) -> list[tuple[str, list[Cell | None]]]:
    """For each separator, its comparison with each; None for itself, and if they share no mixture."""
    names = [line.name for line in table if line.improvements]
    known = {frozenset((pair.better, pair.worse)): pair for pair in pairs}
    rows: list[tuple[str, list[Cell | None]]] = []
    for name in names:
        own = [known.get(frozenset((name, other))) if name != other else None for other in names]
        rows.append((name, [_matrix_cell(pair.from_side_of(name)) if pair else None for pair in own]))
    return rows


def _matrix_cell(pair: Comparison) -> Cell:
    return Cell(pair, min(1.0, abs(pair.mean) / FULL_TINT_DB) if pair.differs else 0.0)


def _panels(folder: Path, table: Sequence[Line], parts: Sequence[Breakdown]) -> list[Picture]:
    roles = {line.name: line.role for line in table}
    pictures = []
    for part in parts:
        path = f"figures/by-{part.facet.key}.svg"
        means = {
            name: [summary.mean for summary in scores]
            for name, scores in part.scores.items()
            if name in roles
        }
        labels = [f"{each.label} ({each.n_mixtures})" for each in part.bins]
        figures.panel(folder / path, means, roles, labels)
        alt = f"SI-SDR improvement of each method by {part.facet.label.lower()}, as in the table below."
        pictures.append(Picture(path, part.facet.label, alt))
    return pictures


def _box_plot(folder: Path, table: Sequence[Line]) -> Picture | None:
    values = {line.name: list(line.improvements.values()) for line in table if line.improvements}
    if not values:
        return None
    roles = {line.name: line.role for line in table}
    figures.box_plot(folder / "figures/improvement.svg", values, roles, "SI-SDR improvement (dB)")
    medians = "; ".join(f"{name} {number(float(np.median(own)), 1)} dB" for name, own in values.items())
    return Picture(
        "figures/improvement.svg", "", f"Box plot of SI-SDR improvement by method. Medians: {medians}."
    )


def _scatters(folder: Path, table: Sequence[Line]) -> list[Picture]:
    points = {}
    for line in table:
        pairs = [(row.mixture_scores.get("si_sdr", math.nan), row.improvement("si_sdr")) for row in line.rows]
        defined = np.array([pair for pair in pairs if not any(map(math.isnan, pair))])
        if line.role != "floor" and len(defined):
            points[line] = defined
    if not points:
        return []
    all_points = np.concatenate(list(points.values()))
    limits = (_limits(all_points[:, 0]), _limits(np.append(all_points[:, 1], 0.0)))
    pictures = []
    for position, (line, own) in enumerate(points.items(), 1):
        path = f"figures/scatter-{position}.svg"
        figures.scatter(folder / path, *own.T.tolist(), role=line.role, limits=limits)
        n_better = int((own[:, 1] > 0).sum())
        alt = (
            f"SI-SDRi of {line.name} against the SI-SDR of the mixture: "
            f"above 0 for {n_better} of {len(own)} sources."
        )
        pictures.append(Picture(path, line.name, alt))
    return pictures


def _limits(values: np.ndarray) -> tuple[float, float]:
    """The range between the quantiles at 0.5 % and 99.5 %, with a margin."""
    low, high = np.quantile(values, (0.005, 0.995))
    margin = max(0.06 * (high - low), 0.5)
    return float(low - margin), float(high + margin)
