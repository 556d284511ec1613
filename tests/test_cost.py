"""Multiply-accumulates against closed forms, what a mixture is like against its construction."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import white_noise, write_corpus
from torch import Tensor, nn
from torch.nn import functional as F

from sepnet.data.fixed_set import FixedSet
from sepnet.data.layouts import read_sexes
from sepnet.data.mixture_list import FileGain, FixedMixture
from sepnet.evaluation import cost, facts
from sepnet.types import CannotSeparate, Mixture, Separation, SeparatorInfo

RATE = 8000


def network(module: nn.Module, *shape: int, grad: bool = False) -> Callable[[], object]:
    def call() -> object:
        with torch.set_grad_enabled(grad):
            return module(torch.zeros(shape))

    return call


@pytest.mark.parametrize(
    ("call", "macs"),
    [
        (network(nn.Linear(5, 7), 3, 11, 5), 3 * 11 * 5 * 7),
        (network(nn.Conv1d(4, 6, 3), 2, 4, 50), 2 * 48 * 4 * 6 * 3),
        (network(nn.Conv1d(8, 8, 3, groups=8), 2, 8, 50), 2 * 48 * 8 * 3),
        (network(nn.ConvTranspose1d(4, 6, 16, stride=8), 1, 4, 10), 10 * 4 * 6 * 16),
        (network(nn.LSTM(5, 7, batch_first=True), 3, 11, 5), 3 * 11 * 4 * 7 * (5 + 7)),
        (network(nn.LSTM(5, 7, 2, bidirectional=True), 11, 3, 5), 33 * 2 * 4 * 7 * ((5 + 7) + (14 + 7))),
        (network(nn.GRU(5, 7), 11, 3, 5), 33 * 3 * 7 * (5 + 7)),
        (lambda: F.scaled_dot_product_attention(*torch.ones(3, 2, 4, 7, 8)), 2 * 2 * 4 * 7 * 7 * 8),
        (lambda: torch.ones(4, 5) @ torch.ones(5), 20),
        (lambda: torch.ones(5) @ torch.ones(5), 5),
        (lambda: torch.einsum("bij,bjk->bik", torch.ones(2, 3, 4), torch.ones(2, 4, 5)), 2 * 3 * 4 * 5),
        (lambda: torch.ones(4, 5) * 2 + torch.fft.fft(torch.ones(5)).real, 0),  # as documented
    ],
)
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
def test_macs_have_their_closed_form(call: Callable[[], object], macs: int, mode: type) -> None:
    with mode():
        assert cost.count_macs(call) == macs


@pytest.mark.parametrize("make", [lambda: nn.Linear(6, 6, bias=False), lambda: nn.LSTM(6, 6)])
def test_gradients_count_as_much_again_for_inputs_and_for_weights(make: Callable[[], nn.Module]) -> None:
    def macs(backward: bool) -> float:
        module, given = make(), torch.ones(4, 3, 6, requires_grad=True)

        def call() -> None:
            out = module(given)
            total = (out[0] if isinstance(out, tuple) else out).sum()
            if backward:
                total.backward()

        return cost.count_macs(call)

    assert macs(backward=True) == 3 * macs(backward=False) > 0


class Products:
    """Multiplies by a matrix of ones, ``times`` times; writes into its input; refuses on demand."""

    info = SeparatorInfo(needs=frozenset({"references"}))

    def __init__(self, times: int = 1, refuses: bool = False) -> None:
        self.times, self.refuses = times, refuses

    def separate(self, mixture: Mixture) -> Separation:
        if self.refuses:
            raise CannotSeparate("not today")
        assert mixture.references is not None
        for _ in range(self.times):
            torch.ones(2, 3) @ torch.ones(3, mixture.audio.shape[-1])
        mixture.references.zero_()
        return Separation(mixture.references)


def test_a_cost_is_for_a_second_of_audio_and_leaves_the_references_alone() -> None:
    references = torch.ones(2, 2 * RATE)
    mixture = Mixture(references.sum(0, keepdim=True), RATE, references=references)
    for times in (1, 3):
        found = cost.measure(Products(times), mixture)
        assert found.macs_per_second == times * 2 * 3 * RATE
        assert found.two_thread_seconds is not None
        assert found.two_thread_seconds > 0
    assert references.sum() == 4 * RATE
    assert cost.measure(Products(refuses=True), mixture) == cost.Cost()
    unhinted = Mixture(mixture.audio, RATE)
    assert cost.measure(Products(), unhinted) == cost.Cost()


def noise(*levels: float, n_samples: int = RATE) -> Tensor:
    """Orthogonal noises of these levels (root mean square)."""
    draws = np.random.default_rng(0).standard_normal((n_samples, len(levels)))
    orthogonal = torch.from_numpy(np.linalg.qr(draws)[0].T.copy()) * math.sqrt(n_samples)
    return (orthogonal * torch.tensor(levels, dtype=torch.float64)[:, None]).float()


def test_level_differences_have_their_closed_form() -> None:
    found = facts.level_differences_db(noise(0.1, 0.05, 0.2))
    powers = np.square([0.1, 0.05, 0.2])
    expected = 10 * np.log10(powers / (powers.sum() - powers))
    assert found == pytest.approx(expected.tolist(), abs=1e-3)
    assert facts.level_differences_db(noise(0.1, 0.0)) == [None, None]
    assert facts.level_differences_db(noise(0.1)) == [None]
    one_silent = facts.level_differences_db(noise(0.1, 0.0, 0.2))
    assert one_silent[1] is None
    assert one_silent[0] == pytest.approx(-6.02, abs=0.01)


def test_overlap_is_the_share_of_time_with_two_active_sources() -> None:
    seconds = {"first": (0.0, 0.5), "second": (0.3, 1.0), "third": (0.4, 0.45)}
    references = torch.zeros(3, RATE)
    for source, (begin, end) in enumerate(seconds.values()):
        part = slice(int(begin * RATE), int(end * RATE))
        references[source, part] = noise(0.1)[0, part]
    assert facts.overlap(references, RATE) == pytest.approx(0.2, abs=0.001)
    assert facts.overlap(references[[0, 2]], RATE) == pytest.approx(0.05, abs=0.021)  # frames of 20 ms
    assert facts.overlap(references[:1], RATE) == 0
    assert facts.overlap(noise(0.1, 0.001), RATE) == 1  # each against its own loudest frame
    assert facts.overlap(noise(0.1, 0.0), RATE) == 0
    assert facts.overlap(noise(0.1, 0.2)[:, :1], RATE) == 1
    faint = noise(0.1, 0.1)
    faint[1, : RATE // 2] *= 10 ** (-60 / 20)
    assert facts.overlap(faint, RATE) == pytest.approx(0.5, abs=0.001)


def test_the_last_frame_counts_by_its_length() -> None:
    references = noise(0.1, 0.1, n_samples=200)  # frames of 160 samples, and of 40
    references[1, 160:] = 0
    assert facts.overlap(references, RATE) == pytest.approx(160 / 200)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("speakers.csv", "split,speaker,gender\ndev,7,m\ndev,8,f\ndev,9,\n", {"7": "m", "8": "f"}),
        (
            "SPEAKERS.TXT",
            ";ID  |SEX| SUBSET | MINUTES| NAME\n14   | F | train-clean-360  | 25.03 | Kristin | K\n"
            "16   | M | train-clean-360  | 25.11 | Alys\n",
            {"14": "f", "16": "m"},
        ),
        (
            "speaker-info.txt",
            "ID  AGE  GENDER  ACCENTS  REGION COMMENTS\np225  23  F    English    Southern  England\n"
            "226  22  M    English    Surrey\n",
            {"p225": "f", "226": "m", "p226": "m"},
        ),
    ],
)
def test_sexes_are_read_from_the_tables_of_the_corpora(
    tmp_path: Path, name: str, text: str, expected: dict[str, str]
) -> None:
    (tmp_path / "subset").mkdir()
    assert read_sexes(tmp_path / "subset") == {}
    (tmp_path / name).write_text(text)
    assert read_sexes(tmp_path) == read_sexes(tmp_path / "subset") == expected


def test_a_fixed_set_tells_who_speaks(tmp_path: Path) -> None:
    files = {f"test/{who}/{who}-1.wav": white_noise(4000, seed) for seed, who in enumerate("abc")}
    manifest = write_corpus(tmp_path, files)
    (tmp_path / "speakers.csv").write_text("speaker,gender\na,m\nb,F\n")
    mixed = [FixedMixture("ba", (FileGain("test/b/b-1.wav", 1.0), FileGain("test/a/a-1.wav", 1.0)))]
    mixed += [FixedMixture("ca", (FileGain("test/c/c-1.wav", 1.0), FileGain("test/a/a-1.wav", 1.0)))]
    fixed = FixedSet(mixtures=mixed, manifest=manifest, sample_rate=RATE)
    assert [fixed.sexes(index) for index in (0, 1)] == [("f", "m"), ("", "m")]
    assert [facts.sexes(fixed, index) for index in (0, 1)] == ["f+m", ""]
