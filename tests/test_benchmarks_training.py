"""The benchmark of training, with a peer that says what we tell it to."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from training_fixtures import BENCHMARKS, compose, make_corpus

from benchmarks import training
from benchmarks.run import benchmark
from sepnet.types import SepnetError


def settings(folder: Path, peer: object) -> list[str]:
    return [
        "what=training", f"peer_python={peer}", "n_steps=1", "repetitions=1", "data=folder",
        "data.mixing.seconds=0.1", "data.valid.n_mixtures=1", f"data.corpus.root={folder / 'wavs'}",
        f"+data.corpus.index_dir={folder}/index", f"data.cache_dir={folder}/cache",
    ]  # fmt: skip


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    make_corpus(folder / "wavs")
    return folder


def test_figures_are_ratios_to_the_peer(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "BATCH", 1)
    monkeypatch.setattr(training, "N_WARM_UP", 0)
    peer = folder / "python"
    peer.write_text("#!/bin/sh\necho some noise\necho '{\"seconds\": [50.0, 10.0, 60.0]}'\n")
    peer.chmod(0o755)
    benchmark(compose(settings(folder, peer), "benchmark", BENCHMARKS))
    told = capsys.readouterr().out
    assert re.search(r"asteroid +0\.020 steps/s, 1\.00 times asteroid's \(50\.00 to 50\.00 s a step\)", told)
    for precision in ("32-true", "bf16-mixed"):
        rate, ratio = re.search(rf"sepnet, {precision} +([\d.]+) steps/s, ([\d.]+) times", told).groups()
        assert float(ratio) == pytest.approx(50 * float(rate), rel=0.01)


def test_without_asteroid_it_says_what_to_do(folder: Path) -> None:
    with pytest.raises(SepnetError, match="needs an interpreter that has asteroid"):
        benchmark(compose(settings(folder, "null"), "benchmark", BENCHMARKS))
    bare = folder / "bare_python"  # no installed packages, and so none to import first
    bare.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(SepnetError, match=r"can't run asteroid \(ModuleNotFoundError: No module named"):
        benchmark(compose(settings(folder, bare), "benchmark", BENCHMARKS))
