"""The benchmarks of query by example: what their tables have to say whatever the corpus."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import write_corpus
from training_fixtures import BENCHMARKS, compose, make_corpus

from benchmarks import detection, query
from benchmarks.run import benchmark
from sepnet.query.optimisation.dgmo import DGMO
from sepnet.types import SepnetError

RATE = 16000


@pytest.fixture(name="root", scope="module")
def _root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of noise in fold 4, of each three recordings of 1 s with silence around."""
    root, rng, files = tmp_path_factory.mktemp("classes"), np.random.default_rng(0), {}
    for k, label in enumerate(("hiss", "hum", "roar")):
        for n in range(3):
            sound = np.zeros(2 * RATE, dtype=np.float32)
            sound[RATE // 2 : -RATE // 2] = 0.1 * rng.standard_normal(RATE)
            files[f"{label}/4-{k}{n}-A.wav"] = sound
    write_corpus(root, files, sample_rate=RATE, layout="classes")
    return root


def test_saying_that_it_always_is_there_misses_nothing(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detection, "HOPS", (0.5,))
    settings = [
        "what=detection", "n_scored=3", "data=query_esc10_bursts", f"data.corpus.root={root}",
        f"+data.corpus.index_dir={tmp_path}/index", f"data.cache_dir={tmp_path}/cache",
        "data.test.n_mixtures=3", "data.test.seconds=3.0",
    ]  # fmt: skip
    benchmark(compose(settings, "benchmark", BENCHMARKS))
    told = capsys.readouterr().out
    precision, recall, f1 = map(
        float, re.search(r"always active +([\d.]+) +([\d.]+) +([\d.]+)", told).groups()
    )
    assert recall == 1.0
    assert 0.3 <= precision <= 1.0
    assert f1 == pytest.approx(2 * precision / (1 + precision), abs=2e-3)
    assert len(re.findall("balanced|selective|inclusive|percentile", told)) == 4


def test_detection_wants_queries(tmp_path: Path) -> None:
    make_corpus(tmp_path / "wavs")
    settings = ["what=detection", "data=folder", f"data.corpus.root={tmp_path / 'wavs'}",
                f"+data.corpus.index_dir={tmp_path}/index", f"data.cache_dir={tmp_path}/cache"]  # fmt: skip
    with pytest.raises(SepnetError, match="data=query_esc10_bursts"):
        benchmark(compose(settings, "benchmark", BENCHMARKS))


def test_stages_are_less_than_all(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = {"labels": ["a"], "hidden": 16, "n_layers": 1, "n_heads": 2, "max_seconds": 1.0}
    monkeypatch.setattr(query, "PUBLIC", tiny)
    monkeypatch.setattr(query, "SECONDS", 2)
    monkeypatch.setattr(query, "THREADS", (1,))
    monkeypatch.setattr(query, "DGMO", lambda **settings: DGMO(opt_steps=2, **settings))
    benchmark(compose(["what=query", "repetitions=1"], "benchmark", BENCHMARKS))
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.count("|") == 6][1:]
    assert [row[1].strip() for row in rows] == ["public size", "ast-tagger-esc10"]
    assert [int(row[0]) for row in rows] == [1, 1]
    for row in rows:
        tagging, optimisation, whole, peak = map(float, row[3:])
        assert tagging + optimisation <= whole + 0.02
        assert peak > 0
