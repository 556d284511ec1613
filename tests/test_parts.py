"""The parts of a training: their table, the law that is fitted to them, and the figure."""

from __future__ import annotations

from pathlib import Path

import pytest

from sepnet.evaluation.parts import TrainingPart, fit, parts_figure, parts_table
from sepnet.types import SepnetError


def part(minutes: float, dev_db: float, test_db: float | None = None) -> TrainingPart:
    return TrainingPart(
        settings="experiment=pit_long data.seed=3",
        minutes=minutes,
        hours_of_audio=2 * minutes,
        dev_db=dev_db,
        test_db=test_db,
    )


LAWFUL = [part(60, 5.0), part(60, 6.5, 5.9), part(120, 8.0), part(240, 9.5, 8.1)]
"""1, 2, 4, 8 hours of processor, and 1.5 dB for each doubling."""


def test_the_law_is_found_and_predicts_the_last_part() -> None:
    assert fit(LAWFUL) == pytest.approx((5.0, 1.5))
    assert "5.00 dB after one core hour, and 1.50 dB more with each doubling" in parts_table(LAWFUL)
    missed = parts_table([*LAWFUL[:3], part(240, 9.0)])
    assert "it predicts 9.50 dB there; 9.00 dB were reached" in missed


def test_the_table_adds_up_costs() -> None:
    lines = parts_table(LAWFUL[:3]).splitlines()
    assert len(lines) == 5  # too few for a law that predicts one of them
    assert lines[2] == "| `experiment=pit_long data.seed=3` | 60 | 1.0 | 120 | 5.00 | \N{EN DASH} |"
    assert lines[4].endswith("| 120 | 4.0 | 480 | 8.00 | \N{EN DASH} |")
    assert lines[3].endswith("| 6.50 | 5.90 |")


def test_the_figure_shows_both_scores_and_the_law(tmp_path: Path) -> None:
    parts_figure(LAWFUL, tmp_path / "parts.svg")
    drawn = (tmp_path / "parts.svg").read_bytes()
    assert drawn.startswith(b"<?xml")
    parts_figure(LAWFUL, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == drawn
    with pytest.raises(SepnetError, match="2 parts of training are too few for a figure"):
        parts_figure(LAWFUL[:2], tmp_path / "none.svg")
