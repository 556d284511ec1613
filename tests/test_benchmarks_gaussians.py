"""The benchmark of Gaussians: what its table has to say whatever the corpus."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from training_fixtures import BENCHMARKS, compose, make_corpus

from benchmarks import gaussians
from benchmarks.run import benchmark


def test_the_table_holds_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gaussians, "COUNTS", (4, 16))
    monkeypatch.setattr(gaussians, "STEPS", (0, 18, 25))
    make_corpus(tmp_path / "wavs")
    settings = [
        "what=gaussians", "n_fitted=2", "repetitions=1", "data=folder", "data.mixing.seconds=0.1",
        f"data.corpus.root={tmp_path / 'wavs'}", f"+data.corpus.index_dir={tmp_path}/index",
        f"data.cache_dir={tmp_path}/cache",
    ]  # fmt: skip
    benchmark(compose(settings, "benchmark", BENCHMARKS))
    told = capsys.readouterr().out
    gains = {
        name: float(mean) for name, mean in re.findall(r"^(\S.*?) {2,}(-?\d+\.\d\d) ", told, re.MULTILINE)
    }
    ideal = gains["ideal mel mask"]
    assert ideal > 5
    assert gains["ideal, as free values"] == pytest.approx(ideal, abs=0.05)
    assert gains["ideal linear mask"] > ideal
    assert gains["K = 4, 0 steps"] < gains["K = 4, 25 steps"] < gains["K = 16, 25 steps"] < ideal + 0.2
    for name, share in re.findall(r"^(K = \S+ \d+ steps) .* (\d+) % of", told, re.MULTILINE):
        assert float(share) == pytest.approx(100 * gains[name] / ideal, abs=0.7)
    assert re.search(r"K =  16: pursuit [\d.]+ s, 18 steps [\d.]+ s, 25 steps [\d.]+ s; dense [\d.]+ s", told)
    assert "no tagger, all in" in told
