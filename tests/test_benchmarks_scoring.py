"""What the benchmark of scoring compares are the same values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from benchmarks.scoring import MEASURES, Case, one_by_one, score_case

RATE = 8000


def voice(seed: int) -> np.ndarray:
    """Two seconds of pulses at a pitch of its own, that come and go, through two resonances."""
    rng = np.random.default_rng(seed)
    n_samples = 2 * RATE
    pulses = np.zeros(n_samples)
    pulses[:: int(rng.integers(50, 90))] = 1
    pulses += 0.05 * rng.standard_normal(n_samples)
    for hertz in rng.uniform(300, 2500, 2):
        pulses = lfilter([1], [1, -1.9 * np.cos(2 * np.pi * hertz / RATE), 0.9025], pulses)
    swelling = np.sin(np.pi * 3 * np.arange(n_samples) / RATE + seed) ** 2
    return 0.05 * pulses * swelling / np.std(pulses)


def test_both_ways_give_the_same_scores() -> None:
    pytest.importorskip("pesq")
    pytest.importorskip("mir_eval")
    references = np.stack([voice(0), 0.7 * voice(1)]).astype(np.float32)
    estimates = (references + 0.2 * references[::-1])[::-1]  # in the wrong order
    case = Case(references.sum(axis=0), references, np.ascontiguousarray(estimates), RATE)
    ours, theirs = score_case(case), one_by_one(case)
    assert set(ours) == set(theirs) == {*MEASURES, *(f"input_{measure}" for measure in MEASURES)}
    for name, expected in theirs.items():
        assert ours[name] == pytest.approx(expected, abs=0.01 if "sdr" in name else 1e-6), name
    assert min(ours["si_sdr"]) > max(ours["input_si_sdr"])  # the order was found
