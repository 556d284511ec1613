"""Means and intervals against closed forms and simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sepnet.evaluation.rows import Row
from sepnet.evaluation.statistics import (
    median_interval,
    mixture_means,
    resampled_means,
    share_above,
    summarise,
)


def row(mixture_id: str, source: int, value: float, status: str = "ok") -> Row:
    return Row(
        separator="any",
        mixture_id=mixture_id,
        source=source,
        n_sources=2,
        seconds=1.0,
        sample_rate=8000,
        status=status,  # type: ignore[arg-type]
        reason="",
        permutation=source,
        scores={"si_sdr": value},
        mixture_scores={},
        compute_seconds=None,
        peak_memory_mb=None,
        parameters=0,
        role="method",
    )


def test_the_interval_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(0).normal(10, 3, 400)
    summary = summarise(values)
    half = 1.959964 * values.std() / math.sqrt(400)
    assert (summary.n, summary.mean) == (400, pytest.approx(values.mean()))
    assert summary.median == np.median(values)
    assert summary.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert summary.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_the_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    for confidence in (0.95, 0.7):
        covered = 0
        for seed in range(400):
            summary = summarise(rng.normal(3, 2, 40), confidence=confidence, n_resamples=400, seed=seed)
            covered += summary.low <= 3 <= summary.high
        # Of 40 values the percentile interval is a little short; the rest is 2.5 binomial deviations.
        assert confidence - 0.06 < covered / 400 < confidence + 0.055


def test_resampled_means_have_the_moments_of_the_bootstrap() -> None:
    values = np.random.default_rng(2).exponential(size=50)
    means = resampled_means(values, n_resamples=40_000, seed=0)
    assert means.shape == (40_000,)
    assert means.mean() == pytest.approx(values.mean(), abs=5 * values.std() / math.sqrt(50 * 40_000))
    assert means.var() == pytest.approx(values.var() / 50, rel=0.05)


def test_resampling_in_parts_leaves_no_part_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sepnet.evaluation.statistics.RESAMPLES_AT_ONCE", 64)
    means = resampled_means(np.arange(1.0, 11.0), n_resamples=1000, seed=0)
    assert ((means >= 1) & (means <= 10)).all()
    assert means.std() == pytest.approx(math.sqrt(8.25 / 10), rel=0.1)


def test_a_summary_is_repeatable_and_moves_with_its_values() -> None:
    values = np.random.default_rng(3).normal(size=30)
    first, moved = summarise(values), summarise(values * 2 + 5)
    assert summarise(values) == first
    for name in ("mean", "median", "low", "high"):
        assert getattr(moved, name) == pytest.approx(getattr(first, name) * 2 + 5)


def test_undefined_values_are_left_out_and_few_values_have_no_interval() -> None:
    nan = math.nan
    assert summarise(np.array([1.0, nan, 3.0])) == summarise(np.array([1.0, 3.0]))
    one = summarise(np.array([nan, 4.0]))
    assert (one.n, one.mean, one.median) == (1, 4.0, 4.0)
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    none = summarise(np.array([nan]))
    assert none.n == 0
    assert math.isnan(none.mean)


def test_sources_are_averaged_within_their_mixture() -> None:
    rows = [
        row("a", 1, 10.0),
        row("a", 2, 20.0),
        row("b", 1, 1.0),
        row("b", 2, math.nan),
        row("c", 1, 5.0),
        row("c", 2, 99.0, status="excluded"),
        row("d", 1, 99.0, status="failed"),
        row("e", 1, math.nan),
    ]
    assert mixture_means(rows, lambda r: r.scores["si_sdr"]) == {"a": 15.0, "b": 1.0, "c": 5.0}


def test_the_mixture_is_the_unit() -> None:
    """Sources that repeat each other must not narrow the interval, as counting them one by one would."""
    values = np.random.default_rng(4).normal(size=60)
    rows = [row(f"{index:02d}", source, value) for index, value in enumerate(values) for source in (1, 2)]
    means = mixture_means(rows, lambda r: r.scores["si_sdr"])
    assert summarise(np.array(list(means.values()))) == summarise(values)


def test_the_interval_of_the_median_is_that_of_the_binomial() -> None:
    values = np.arange(1.0, 21.0)  # the order statistics are their own ranks
    # P(X <= 5) = 0.0207 < 0.025 <= P(X <= 6) for X ~ binomial(20, 1/2), so ranks 6 and 15 (Conover, table A3)
    assert median_interval(np.random.default_rng(0).permutation(values)) == (6.0, 15.0)
    assert median_interval(np.append(values, math.nan)) == (6.0, 15.0)
    assert median_interval(np.arange(6.0)) == (0.0, 5.0)
    for few in (5, 1, 0):
        assert all(math.isnan(bound) for bound in median_interval(np.arange(float(few))))
    rng = np.random.default_rng(1)
    intervals = [median_interval(rng.exponential(1, 40)) for _ in range(1500)]
    covered = np.mean([low <= math.log(2) <= high for low, high in intervals])
    assert 0.95 <= covered <= 0.98  # at least what it says, since ranks are whole


def test_the_share_above_a_threshold_and_wilsons_interval() -> None:
    values = np.array([1.0] * 8 + [0.0, -1.0, math.nan])
    found = share_above(values)  # a gain of nothing is none
    assert (found.n, found.share) == (10, 0.8)
    assert found.low == pytest.approx(0.490162, abs=1e-6)  # the roots of (p - 0.8)^2 = z^2 p (1 - p) / 10
    assert found.high == pytest.approx(0.943318, abs=1e-6)
    for bound in (found.low, found.high):
        assert (bound - 0.8) ** 2 == pytest.approx(1.959964**2 * bound * (1 - bound) / 10, rel=1e-6)
    everyone = share_above(np.ones(10))
    assert (everyone.share, everyone.high) == (1.0, pytest.approx(1.0))
    assert everyone.low == pytest.approx(10 / (10 + 1.959964**2), rel=1e-6)
    assert math.isnan(share_above(np.array([math.nan])).share)
    assert share_above(values, 0.5).share == share_above(values).share
    assert share_above(values, -0.5).share == 0.9
