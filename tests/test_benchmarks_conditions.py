"""The benchmark of kinds of recordings, on a method whose figures are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_enhancement import make_noise
from training_fixtures import BENCHMARKS, RATE, compose, make_corpus, settings

from benchmarks.conditions import _music, _telephone
from benchmarks.run import benchmark
from sepnet.evaluation.conditions import read_conditions
from sepnet.types import SepnetError

NOISE = [
    "+data.test.noise._target_=sepnet.data.corpus.Corpus",
    "+data.test.responses._target_=sepnet.data.rooms.Room",
    "+data.test.responses.n_microphones=1",
    "+data.test.early_seconds=0.05",
]


def words(tmp_path: Path) -> list[str]:
    corpus, noise = make_corpus(tmp_path / "wavs"), make_noise(tmp_path / "noise")
    data = [word for word in settings(corpus, tmp_path) if word.startswith(("data", "+data"))]
    return [
        *(word for word in data if "epoch_size" not in word),
        *NOISE,
        f"+data.test.noise.root={noise}",
        f"+data.test.csv={tmp_path}/list.csv",
        "what=conditions",
        "n_separated=2",
    ]


def test_the_mixture_itself_gains_nothing_and_is_in_both_outputs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = compose([*words(tmp_path), f"out={tmp_path}/to/conditions.json"], "benchmark", BENCHMARKS)
    config.model = "identity"
    benchmark(config)
    told = capsys.readouterr().out
    assert told.startswith("identity, 2 mixtures of the test split of ")
    rows = {row.name: row for row in read_conditions(tmp_path / "to" / "conditions.json", None)}
    assert next(iter(rows)) == "as the list has them"
    assert [name for name in rows if "apart" in name] == [
        f"{n} dB apart: the {which} voice" for n in (10, 20, 30) for which in ("louder", "weaker")
    ]
    assert [name.split()[-1] for name in rows][-3:] == ["voices", "ms)", "room"]  # noise, room, both
    for row in rows.values():
        assert row.n == 2
        assert row.mean == pytest.approx(0.0, abs=1e-3), row.name
    assert "one voice alone" in told
    assert not (tmp_path / "list.csv").exists()
    assert json.loads((tmp_path / "to" / "conditions.json").read_text())["split"] == "test"
    config.split = "train"
    with pytest.raises(SepnetError, match="split is 'train': give dev or test"):
        benchmark(config)


def test_a_telephone_passes_300_to_3400_hz() -> None:
    impulse = torch.zeros(1, 8192)
    impulse[0, 4096] = 1.0
    gains_db = 20 * np.log10(np.abs(np.fft.rfft(_telephone(impulse, RATE)[0].numpy())) + 1e-9)
    hertz = np.fft.rfftfreq(8192, 1 / RATE)
    assert np.abs(gains_db[(hertz > 400) & (hertz < 3200)]).max() < 1
    assert gains_db[(hertz < 150) | (hertz > 3900)].max() < -40


def test_music_has_notes_of_a_minor_key() -> None:
    music = _music(np.random.default_rng(0), 2 * RATE, RATE).numpy()
    spectrum = np.abs(np.fft.rfft(music[: RATE // 2] * np.hanning(RATE // 2), 8 * RATE))
    lowest = int(spectrum[:8000].argmax()) / 8  # in Hz
    semitones = 12 * np.log2(lowest / 110.0)
    assert abs(semitones - round(semitones)) < 0.2
