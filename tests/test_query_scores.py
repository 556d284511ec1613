"""Scores and pictures of what was found by example: closed forms, invariances, and files that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch

from sepnet.figures.query import comparison_figure, timeline_figure
from sepnet.query.scores import (
    cross_correlation,
    energy_ratio_db,
    query_scores,
    rating,
    spectral_convergence,
)
from sepnet.types import SepnetError

RATE = 8000


def noise(seed: int, samples: int = 6000) -> torch.Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def orthogonal(seed: int, to: torch.Tensor, energy_db: float) -> torch.Tensor:
    """Noise without any of ``to`` in it, so many dB under it."""
    other = noise(seed, len(to)).double()
    other -= to * (other @ to.double()) / (to.double() @ to.double())
    return (other * to.norm() / other.norm() * 10 ** (energy_db / 20)).float()


@pytest.mark.parametrize(
    ("error_db", "name"), [(-12.0, "excellent"), (-7.0, "good"), (-2.0, "fair"), (3.0, "poor")]
)
def test_scores_in_closed_form(error_db: float, name: str) -> None:
    reference = noise(0)
    target = reference + orthogonal(1, reference, error_db)
    mixture = reference + orthogonal(2, reference, 1.0)
    scores = query_scores(target, mixture, reference)
    assert scores.si_sdr_db == pytest.approx(-error_db, abs=1e-3)
    assert scores.si_sdr_mixture_db == pytest.approx(-1.0, abs=1e-3)
    assert scores.si_sdr_improvement_db == pytest.approx(1.0 - error_db, abs=1e-3)
    assert scores.sdr_db >= scores.si_sdr_db - 1e-3  # any filter is forgiven, a gain among them
    assert scores.sdr_improvement_db == pytest.approx(scores.sdr_db - scores.sdr_mixture_db)
    assert scores.energy_ratio_db == pytest.approx(10 * np.log10(1 + 10 ** (error_db / 10)), abs=1e-3)
    assert scores.cross_correlation == pytest.approx((1 + 10 ** (error_db / 10)) ** -0.5, abs=2e-3)
    assert scores.rating == name


def test_a_perfect_target_scores_perfectly_and_silence_worst() -> None:
    reference, mixture = noise(0), noise(0) + noise(1)
    perfect = query_scores(reference, mixture, reference)
    assert perfect.spectral_convergence == pytest.approx(0.0, abs=1e-6)
    assert perfect.cross_correlation == pytest.approx(1.0)
    assert perfect.energy_ratio_db == pytest.approx(0.0)
    assert (perfect.rating, perfect.si_sdr_db > 100) == ("excellent", True)
    silent = query_scores(torch.zeros_like(reference), mixture, reference)
    assert silent.spectral_convergence == pytest.approx(1.0)
    assert silent.cross_correlation == 0.0
    assert silent.energy_ratio_db < -150
    assert (silent.rating, silent.si_sdr_db) == ("poor", pytest.approx(-120.0))


def test_words_change_at_their_limits() -> None:
    limits = {10.01: "excellent", 10.0: "good", 5.01: "good", 5.0: "fair", 0.01: "fair", 0.0: "poor"}
    assert {level: rating(level) for level in limits} == limits


def test_spectral_convergence_is_the_share_of_a_gain() -> None:
    reference = noise(3)
    for gain in (0.25, 1.75, -1.75):  # magnitudes don't know the sign
        expected = abs(abs(gain) - 1)
        assert spectral_convergence(gain * reference, reference) == pytest.approx(expected, rel=1e-5)


def test_cross_correlation_does_not_know_level_delay_and_sign_and_agrees_with_a_loop() -> None:
    reference = noise(4, 600)
    assert cross_correlation(-3.0 * torch.roll(reference, 40), reference) > 0.9
    estimate = 0.5 * reference + noise(5, 600)
    found = np.correlate(estimate.double().numpy(), reference.double().numpy(), "full")
    expected = np.abs(found).max() / float(estimate.double().norm() * reference.double().norm())
    assert cross_correlation(estimate, reference) == pytest.approx(expected, rel=1e-9)


def test_energy_ratio_is_that_of_a_gain() -> None:
    reference = noise(6)
    assert energy_ratio_db(0.5 * reference, reference) == pytest.approx(-6.0206, abs=1e-3)


def test_what_can_t_be_scored_is_refused() -> None:
    reference = noise(0)
    with pytest.raises(
        SepnetError, match="the target has 6000, the mixture has 6000, the reference has 5990"
    ):
        query_scores(reference, reference, reference[:-10])
    with pytest.raises(SepnetError, match="have 100 samples"):
        query_scores(reference[:100], reference[:100], reference[:100])
    with pytest.raises(SepnetError, match="the reference is silent"):
        query_scores(reference, reference, torch.zeros_like(reference))


# Pictures


def compared(path: Path, **changes: Any) -> None:
    mixture = noise(0, 2 * RATE)
    settings: dict[str, Any] = {
        "mixture": mixture,
        "mask": torch.rand(129, 80, generator=torch.Generator().manual_seed(0)),
        "target": 0.4 * mixture,
        "residual": 0.6 * mixture,
        "sample_rate": RATE,
        "title": "dog_bark: costs $5 and $6",
    }
    comparison_figure(path, **settings | changes)


def test_the_comparison_is_a_picture_of_what_it_is_given(tmp_path: Path) -> None:
    compared(tmp_path / "new" / "one.png")
    compared(tmp_path / "again.png")
    one = (tmp_path / "new" / "one.png").read_bytes()
    assert one == (tmp_path / "again.png").read_bytes()
    assert min(matplotlib.image.imread(tmp_path / "again.png").shape[:2]) > 500
    compared(tmp_path / "other.png", mask=np.zeros((129, 80)), title="")
    assert (tmp_path / "other.png").read_bytes() != one
    with pytest.raises(SepnetError, match="target 16000, residual 100"):
        compared(tmp_path / "bad.png", residual=noise(1, 100))


def timeline(path: Path, **changes: Any) -> None:
    settings: dict[str, Any] = {
        "times_seconds": [0.5, 1.0, 1.5],
        "probability": [0.1, 0.9, 0.4],
        "similarity": [0.2, 0.8, -0.3],
        "threshold": 0.3,
        "gate": [False, True, True],
        "segments": [(0.5, 2.0)],
        "seconds": 2.0,
    }
    timeline_figure(path, **settings | changes)


def test_the_timeline_shows_each_of_its_parts(tmp_path: Path) -> None:
    pictures = set()
    for k, change in enumerate(
        (
            {},
            {"probability": None, "threshold": None},
            {"gate": np.array([False, False, False]), "segments": []},
            {"truth": [(0.0, 1.0)], "score": [0.1, 0.7, 0.1]},
            {"truth": []},
        )
    ):
        timeline(tmp_path / f"{k}.png", **change)
        pictures.add((tmp_path / f"{k}.png").read_bytes())
    assert len(pictures) == 5
    with pytest.raises(SepnetError, match="3 windows, but similarity has 2 values"):
        timeline(tmp_path / "bad.png", similarity=[0.1, 0.2])
