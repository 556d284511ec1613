"""DNSMOS against its authors' own program, and where it is shown."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import sepnet.metrics.opinion as module
from sepnet.evaluation.scoring import check_measures, score
from sepnet.inference.opinions import predict_opinion
from sepnet.metrics import Opinion, dnsmos
from sepnet.types import SepnetError
from tests.test_long_files import separated

RATE = 16000
# seconds: speech, background, overall; printed by speechmos 0.0.1.1, dnsmos.run(buzz(seconds), 16000)
PUBLISHED = {
    4.0: (2.1754013899, 2.4740889936, 1.6132291713),
    9.5: (2.1297789099, 2.6367215881, 1.6683005743),
    12.3: (2.1696552253, 2.6693097837, 1.6796890097),
}


def buzz(seconds: float, rate: int = RATE) -> torch.Tensor:
    """Two tones that come and go, in noise."""
    time = np.arange(int(seconds * rate)) / rate
    low = 0.3 * np.sin(2 * np.pi * 150 * time) * (1 + np.sin(2 * np.pi * 3 * time)) / 2
    high = 0.1 * np.sin(2 * np.pi * 900 * time) * (np.sin(2 * np.pi * 4 * time) > 0)
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(time))
    return torch.from_numpy((low + high + noise).astype(np.float32))


@pytest.mark.parametrize("seconds", PUBLISHED)
def test_the_scores_are_those_of_its_authors(seconds: float) -> None:
    assert dnsmos(buzz(seconds), RATE) == pytest.approx(PUBLISHED[seconds], abs=1e-4)


def test_silence_has_no_score() -> None:
    assert all(math.isnan(value) for value in dnsmos(torch.zeros(RATE), RATE))


def test_beyond_full_scale_is_judged_at_full_scale() -> None:
    signal = buzz(4.0)
    loud = dnsmos(100 * signal, RATE)
    assert loud == pytest.approx(dnsmos(signal / signal.abs().max(), RATE), abs=1e-3)


@pytest.mark.parametrize(
    ("signal", "rate", "reason"),
    [
        (torch.ones(100), 8000, "defined at 16000 Hz, not at 8000 Hz"),
        (torch.ones(0), RATE, r"not one of shape \(0,\)"),
        (torch.full((100,), math.nan), RATE, "NaN or infinite"),
    ],
)
def test_bad_input_is_refused(signal: torch.Tensor, rate: int, reason: str) -> None:
    with pytest.raises(SepnetError, match=reason):
        dnsmos(signal, rate)


def test_an_evaluation_scores_the_estimates_alone_at_any_rate() -> None:
    estimates = buzz(9.01, 8000)[None]
    names = ("dnsmos", "dnsmos_speech", "dnsmos_background")
    check_measures(names)
    (found,) = score(names, estimates, torch.randn_like(estimates), 8000)
    (again,) = score(names, estimates, estimates, 8000)
    assert found == again
    assert 1 < found["dnsmos"] < found["dnsmos_speech"] < 5


def test_a_missing_package_is_named_before_anything_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "speechmos" else find(name))
    with pytest.raises(SepnetError, match=r"speechmos is missing: pip install 'sepnet\[mos\]'"):
        check_measures(["si_sdr", "dnsmos"])
    assert predict_opinion(lambda start, n: np.ones(n, np.float32), RATE, RATE) is None
    module._network.cache_clear()
    with pytest.raises(SepnetError, match=r"pip install 'sepnet\[mos\]'"):
        dnsmos(buzz(3.0), RATE)


def test_a_long_signal_is_judged_by_excerpts_spread_over_it() -> None:
    signal = buzz(40.0).numpy()
    begun: list[int] = []

    def read(start: int, n: int) -> np.ndarray:
        begun.append(start)
        return signal[start : start + n]

    opinion = predict_opinion(read, len(signal), RATE, max_excerpts=3)
    expected = [dnsmos(torch.from_numpy(signal[k : k + module.WINDOW]), RATE) for k in begun]
    assert begun == [0, (len(signal) - module.WINDOW) // 2, len(signal) - module.WINDOW]
    assert opinion == pytest.approx(tuple(np.mean(expected, axis=0)), abs=1e-5)


def test_silent_excerpts_do_not_count() -> None:
    signal = np.concatenate(
        [buzz(9.01).numpy(), np.zeros(5 * RATE, np.float32), np.zeros(module.WINDOW, np.float32)]
    )
    read = lambda start, n: signal[start : start + n]  # noqa: E731
    assert predict_opinion(read, len(signal), RATE, max_excerpts=2) == pytest.approx(
        tuple(dnsmos(buzz(9.01), RATE)), abs=1e-5
    )
    assert predict_opinion(lambda start, n: np.zeros(n, np.float32), RATE, RATE) is None


def test_a_report_of_a_separation_gives_each_source_its_scores(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "mix.wav", buzz(3.0, 8000).numpy(), 8000)
    separated(tmp_path / "mix.wav", "report=true")
    record = json.loads((tmp_path / "mix_separation.json").read_text())
    assert [set(entry) for entry in record["dnsmos"]] == [set(Opinion._fields)] * 2
    assert (tmp_path / "mix_report.png").stat().st_size > 10_000
