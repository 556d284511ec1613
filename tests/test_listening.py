"""The page of a few mixtures: which, in what order, and that it plays what the methods give."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_evaluation import Halves, Leaky, Naughty, OrthogonalSet, contender, here

from sepnet.data import audio
from sepnet.evaluation import rows
from sepnet.evaluation.listening import choose_mixtures, listening
from sepnet.types import SeparatorInfo, SepnetError


class Known(Leaky):
    """Leaky, but told by queries: a method and no oracle."""

    info = SeparatorInfo(needs=frozenset({"queries"}))

    def separate(self, mixture: Any) -> Any:
        references = torch.stack([query.audio for query in mixture.queries])
        return super().separate(type(mixture)(mixture.audio, mixture.sample_rate, references=references))


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    here([contender("known", Known), contender("halves", Halves)], tmp_path, OrthogonalSet(n=9))
    return tmp_path


def test_mixtures_are_spread_from_the_hardest_to_the_easiest(folder: Path) -> None:
    read = rows.read(folder / "rows.csv")
    chosen = choose_mixtures(read, 5)
    means = {
        id_: np.mean([row.improvement("si_sdr") for row in read if row.mixture_id == id_])
        for id_ in {row.mixture_id for row in read}
    }
    ranked = sorted(means, key=lambda id_: means[id_])
    assert chosen == [ranked[place] for place in (0, 2, 4, 6, 8)]
    assert choose_mixtures(read, 100) == ranked
    assert choose_mixtures([], 5) == []


def test_the_page_plays_what_the_methods_give(folder: Path) -> None:
    mixtures = OrthogonalSet(n=9)
    contenders = [contender("known", Known), contender("halves", Halves)]
    page = listening(folder / "rows.csv", contenders, mixtures, 2)
    html = page.read_text()
    files = re.findall(r'src="([^"]+)"', html)
    assert len(files) == len(set(files)) == 2 * (1 + 2 + 2 + 2)  # mixture, sources, and two methods
    sounds = {file: audio.read(folder / file) for file in files}
    for place, id_ in enumerate(choose_mixtures(rows.read(folder / "rows.csv"), 2), 1):
        (index,) = (i for i in range(9) if mixtures.id(i) == id_)
        mixture = mixtures[index]
        wanted = {"mixture": mixture.audio[0], "reference_1": mixture.references[0]}
        wanted |= {f"known_{k + 1}": Known().separate(mixture).sources[k] for k in range(2)}
        for name, signal in wanted.items():
            samples, rate = sounds[f"listening/{place}/{name}.wav"]
            assert rate == mixture.sample_rate
            np.testing.assert_allclose(samples[0], signal.numpy(), atol=1e-4)
    assert "http" not in html.replace("http-equiv", "")  # it loads nothing from elsewhere


def test_a_refusal_is_told_and_loud_files_share_one_gain(folder: Path) -> None:
    class Loud(OrthogonalSet):
        def __getitem__(self, index: int) -> Any:
            one = super().__getitem__(index)
            return type(one)(20 * one.audio, one.sample_rate, 2, one.queries, 20 * one.references)

    page = listening(folder / "rows.csv", [contender("refusing", Naughty, way="refuse")], Loud(n=9), 1)
    assert "refused: " in page.read_text()
    gain = float(re.search(r"multiplied by ([\d.]+)", page.read_text())[1])
    mixture = audio.read(folder / "listening/1/mixture.wav")[0]
    total = sum(audio.read(folder / f"listening/1/reference_{k}.wav")[0] for k in (1, 2))
    assert gain < 0.5
    np.testing.assert_allclose(mixture, total, atol=1e-3)


def test_a_failure_is_told_and_what_was_not_scored_has_no_figure(folder: Path) -> None:
    contenders = [contender("failing", Naughty, way="raise"), contender("identity")]
    html = listening(folder / "rows.csv", contenders, OrthogonalSet(n=9), 1).read_text()
    assert "RuntimeError: no luck" in html
    assert html.count('<span class="soft">\N{EN DASH} dB</span>') == 2


def test_without_scores_there_is_nothing_to_choose_by(tmp_path: Path) -> None:
    here([contender("identity")], tmp_path, OrthogonalSet(n=2))
    with pytest.raises(SepnetError, match="has a score to choose mixtures by"):
        listening(tmp_path / "rows.csv", [contender("identity")], OrthogonalSet(n=2), 5)
