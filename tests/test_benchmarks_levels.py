"""The benchmark of unequal levels, on a method whose figures are known."""

from __future__ import annotations

from pathlib import Path

import pytest
from training_fixtures import BENCHMARKS, compose, make_corpus, settings

from benchmarks.run import benchmark


def test_the_mixture_itself_gains_nothing_and_is_in_both_outputs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = make_corpus(tmp_path / "wavs")
    data = [word for word in settings(corpus, tmp_path) if word.startswith(("data", "+data"))]
    data = [word for word in data if "epoch_size" not in word]
    config = compose([*data, "what=levels", "n_separated=2"], "benchmark", BENCHMARKS)
    config.model = "identity"
    benchmark(config)
    lines = capsys.readouterr().out.splitlines()
    assert "2 validation mixtures" in lines[0]
    for line, difference in zip(lines[1:5], (0, 10, 20, 30), strict=True):
        assert line.startswith(f"weaker by {difference:2d} dB: SI-SDRi of the louder voice ")
        assert line.replace("-0.00", "0.00").count(" 0.00 [0.00, 0.00]") == 2, line
    assert lines[5].replace("-0.00", "0.00").startswith("one voice alone: 0.00 [0.00, 0.00] dB")
