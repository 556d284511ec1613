"""report.html, report.md and summary.md, from rows.csv, provenance.json and the examples beside it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sepnet.evaluation import figures, provenance
from sepnet.evaluation import rows as rows_file
from sepnet.evaluation.breakdown import Breakdown, breakdowns
from sepnet.evaluation.comparison import Comparison, compare
from sepnet.evaluation.examples import read as read_examples
from sepnet.evaluation.rows import Row
from sepnet.evaluation.table import QUANTITIES, SI_SDRI, Line, lines
from sepnet.evaluation.text import number, templates
from sepnet.types import SepnetError

PAGES = ("report.html", "report.md", "summary.md")
MACS_MEANING = (
    "billions of multiply-accumulates for a second of audio, optimisation at test time included; matrix "
    "products, convolutions and recurrent layers of PyTorch count, Fourier transforms, elementwise "
    "arithmetic and NumPy do not"
)
REAL_TIME_MEANING = (
    "seconds of compute for a second of audio, the median over mixtures: on one thread while other mixtures "
    "are separated beside it, and on two threads alone on the machine; lower is better"
)
FAR = 2.0  # times the best of the others: from there on a ceiling would squeeze all else in the figures
FULL_TINT_DB = 6.0  # a difference that is shown in the strongest colour
PESQ_BANDS = {8000: "narrow band, P.862.1", 16000: "wide band, P.862.2"}


@dataclass(frozen=True)
class Picture:
    """A figure of the page: its path from the page, who it shows, and its content in words."""

    path: str
    name: str
    alt: str


@dataclass(frozen=True)
class Cell:
    """A pair in the matrix: who is in its row against who is in its column. tint: 0 to 1, how strong."""

    comparison: Comparison
    tint: float


def report(rows_csv: Path, *, title: str = "Evaluation of source separation") -> Path:
    """Write report.html, report.md, summary.md and figures/ beside ``rows_csv``; return the first's path.

    summary.md is the table in few columns, for a page that shows several.

    Everything is computed from the rows alone, and the page loads nothing from elsewhere. Rows without a
    single score, and no rows at all, make a report that says so. Raises SepnetError if there is no file.
    """
    rows_csv = Path(rows_csv)
    if not rows_csv.exists():
        raise SepnetError(f"there is no file {rows_csv}: run the evaluation first")
    folder, rows, measures = rows_csv.parent, rows_file.read(rows_csv), rows_file.measures_of(rows_csv)
    table = lines(rows)
    far = _far(table)
    drawn = [line for line in table if line is not far]
    origin = provenance.read(rows_csv)
    pairs = compare({line.name: line.improvements for line in table if line.improvements})
    parts = breakdowns(table)
    heard = {line.name: found for line in table if (found := read_examples(folder / "examples" / line.name))}
    content = {
        "title": title,
        "lines": table,
        "quantities": [quantity for quantity in QUANTITIES if quantity.measure in measures],
        "spread": SI_SDRI.measure in measures,
        "data": _data(rows),
        "macs_meaning": MACS_MEANING,
        "real_time_meaning": REAL_TIME_MEANING,
        "headline": _headline(table, far),
        "notes": _notes(table, far),
        "remarks": {line.name: told for line in table if (told := line.remarks(measures))},
        "pairs": pairs,
        "matrix": _matrix(table, pairs),
        "box": _box_plot(folder, drawn),
        "breakdowns": parts,
        "panels": _panels(folder, drawn, parts),
        "scatters": _scatters(folder, drawn),
        "examples": heard,
        "anchors": {name: f"examples-{position}" for position, name in enumerate(heard, 1)},
        "opened": next((line.name for line in table if line.name in heard and line.role == "method"), ""),
        "provenance": origin,
        "origin": _origin(origin),
        "pesq_bands": [
            PESQ_BANDS[rate] for rate in sorted({r.sample_rate for r in rows}) if rate in PESQ_BANDS
        ],
    }
    for name in PAGES:
        (folder / name).write_text(templates(html=name.endswith("html")).get_template(name).render(content))
    return folder / "report.html"


def _origin(found: Mapping[str, Any]) -> str:
    """Where a table comes from, in a line: data, software, machine, weights."""
    if not found:
        return "Of unknown origin: there is no provenance.json beside the rows."
    runs = found["runs"]
    commits = {_commit(run["git_commit"]) for run in runs}
    torch = {f"torch {run['packages']['torch']}" for run in runs if "torch" in run["packages"]}
    machines = {f"{run['cpu']}, {run['cpus']} cores" for run in runs}
    weights = {name: version for name, version in found["versions"].items() if version}
    trained = [f"{name} {v[:12]}" for name, v in weights.items() if not v.startswith(provenance.SETTINGS)]
    parts = [f"Data {found['data_fingerprint']}", f"commit {' and '.join(sorted(commits))}"]
    parts += [" and ".join(sorted(some)) for some in (torch, machines) if some]
    parts += [f"weights: {', '.join(trained)}"] if trained else []
    return "; ".join(parts) + "."


def _commit(name: str | None) -> str:
    """A short name of a commit, with what follows its digits."""
    return f"{name[:12]}{name[40:]}" if name else "unknown"


def _data(rows: Sequence[Row]) -> str:
    """How much was scored, in words."""
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


def _far(table: Sequence[Line]) -> Line | None:
    """The ceiling that lies far above all others, as a mask that brings the phase back does."""
    scored = [line for line in table if line.improvements]
    best = max(scored, key=_mean_db, default=None)
    others = [line for line in scored if line is not best]
    if best is None or best.role != "ceiling" or all(line.role != "ceiling" for line in others):
        return None
    return best if _mean_db(best) > FAR * max(1.0, *map(_mean_db, others)) else None


def _mean_db(line: Line) -> float:
    return line.scores[SI_SDRI.key].mean


def _headline(table: Sequence[Line], far: Line | None) -> str:
    """The result in a sentence or two."""
    if not table:
        return "There are no rows: nothing was evaluated yet."
    if not any(line.improvements for line in table):
        return "Not one source was scored: every row is excluded, refused, failed or without SI-SDR."
    parts = []
    methods = [line for line in table if line.role == "method" and line.improvements]
    if methods:
        best = methods[0].scores[SI_SDRI.key]
        interval = f" [{number(best.low, 1)}, {number(best.high, 1)}]" if best.n > 1 else ""
        parts.append(f"{methods[0].name} improves most, by {number(best.mean, 1)} dB{interval} of SI-SDR.")
    ceilings = [line for line in table if line.role == "ceiling" and line.improvements and line is not far]
    if ceilings:
        top = ceilings[0]
        parts.append(f"The ceiling, {top.name}, is at {number(top.scores[SI_SDRI.key].mean, 1)} dB.")
    return " ".join(parts) or "Only the floor was scored."


def _notes(table: Sequence[Line], far: Line | None) -> list[str]:
    """What a reader has to know before comparing the lines."""
    notes = []
    if far is not None:
        height = number(far.scores[SI_SDRI.key].mean, 1)
        notes.append(
            f"The ceiling {far.name}, at {height} dB, is so far above that the figures leave it out."
        )
    for role, what in (("floor", "the mixture itself"), ("ceiling", "an oracle")):
        if table and all(line.role != role for line in table):
            notes.append(f"This table has no {role} ({what}), so it is hard to say what a number is worth.")
    scored = [line for line in table if line.improvements]
    if any(line.improvements.keys() != scored[0].improvements.keys() for line in scored):
        most = Counter(len(line.improvements) for line in scored).most_common(1)[0][0]
        few = [(line.name, n) for line in scored if (n := len(line.improvements)) != most]
        counts = ", ".join(f"{name} {n}" for name, n in [*few, ("others", most)])
        notes.append(f"The means are over different mixtures and don't compare directly: {counts}.")
    return notes


def _matrix(table: Sequence[Line], pairs: Sequence[Comparison]) -> list[tuple[str, list[Cell | None]]]:
    """For each separator that was scored, its comparison with each; None for itself and where none is."""
    names = [line.name for line in table if line.improvements]
    known = {frozenset((pair.better, pair.worse)): pair for pair in pairs}
    rows: list[tuple[str, list[Cell | None]]] = []
    for name in names:
        own = [known.get(frozenset((name, other))) if name != other else None for other in names]
        rows.append((name, [_matrix_cell(pair.seen_from(name)) if pair else None for pair in own]))
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
    shown = {line.name: list(line.improvements.values()) for line in table if line.improvements}
    if not shown:
        return None
    roles = {line.name: line.role for line in table}
    figures.box_plot(folder / "figures/improvement.svg", shown, roles, "SI-SDR improvement (dB)")
    medians = "; ".join(f"{name} {number(float(np.median(values)), 1)} dB" for name, values in shown.items())
    return Picture(
        "figures/improvement.svg", "", f"Box plot of SI-SDR improvement by method. Medians: {medians}."
    )


def _scatters(folder: Path, table: Sequence[Line]) -> list[Picture]:
    points = {}
    for line in table:
        both = [(row.mixture_scores.get("si_sdr", math.nan), row.improvement("si_sdr")) for row in line.rows]
        known = np.array([pair for pair in both if not any(map(math.isnan, pair))])
        if line.role != "floor" and len(known):
            points[line] = known
    if not points:
        return []
    every = np.concatenate(list(points.values()))
    limits = (_limits(every[:, 0]), _limits(np.append(every[:, 1], 0.0)))
    pictures = []
    for position, (line, pairs) in enumerate(points.items(), 1):
        path = f"figures/scatter-{position}.svg"
        figures.scatter(folder / path, *pairs.T.tolist(), role=line.role, limits=limits)
        better = int((pairs[:, 1] > 0).sum())
        alt = (
            f"SI-SDRi of {line.name} against the SI-SDR of the mixture: "
            f"above 0 for {better} of {len(pairs)} sources."
        )
        pictures.append(Picture(path, line.name, alt))
    return pictures


def _limits(values: np.ndarray) -> tuple[float, float]:
    """All but the outermost half per cent on each side, with a margin."""
    low, high = np.quantile(values, (0.005, 0.995))
    margin = max(0.06 * (high - low), 0.5)
    return float(low - margin), float(high + margin)
