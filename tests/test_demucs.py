"""Demucs: the package's own output, the laws of separators, and what is said where it can't be had."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor

import sepnet
from sepnet import artifact
from sepnet.artifact.music import load_demucs
from sepnet.inference.pipeline import Pipeline, PipelineSettings
from sepnet.separators.demucs import Demucs
from sepnet.types import CannotSeparate, Mixture, SepnetError

pytest.importorskip("demucs")
from demucs import hf, pretrained

GOLDEN = Path(__file__).parent / "golden" / "demucs_htdemucs"
RATE = 44100
STEMS = ("drums", "bass", "other", "vocals")
MAX_ERROR = 1e-5  # of the largest sample of an output


@pytest.fixture(autouse=True)
def _small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network of the golden folder in the place of those that are fetched."""
    monkeypatch.setattr(
        pretrained, "get_model", lambda _: hf.load_safetensors_model(GOLDEN / "model.safetensors")
    )


@pytest.fixture
def demucs() -> Demucs:
    separator = artifact.load("demucs")
    assert isinstance(separator, Demucs)
    return separator


def noise(n_channels: int, n_samples: int, *, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(n_channels, n_samples, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("which", ["short", "long", "batch"])
def test_the_output_is_that_of_the_package(which: str, demucs: Demucs) -> None:
    arrays = np.load(GOLDEN / "golden.npz")
    songs, expected = (torch.from_numpy(arrays[f"{which}_{kind}"]) for kind in ("input", "output"))
    with torch.no_grad():
        output = torch.stack([demucs.stems(song) for song in songs])
    assert output.shape == expected.shape
    assert expected.abs().amax() > 1e-3
    torch.testing.assert_close(output, expected, atol=MAX_ERROR * float(expected.abs().max()), rtol=0)
    for song, stems in zip(songs, expected, strict=True):
        torch.testing.assert_close(
            demucs.separate(Mixture(song, RATE)).sources, stems[:, 0], atol=1e-5, rtol=0
        )


def test_it_gives_stems_by_their_names(demucs: Demucs) -> None:
    assert (demucs.info.n_sources, demucs.info.sample_rate, demucs.info.labels) == (4, RATE, STEMS)
    assert not demucs.info.needs
    assert demucs.info.covers_mixture


@pytest.mark.parametrize("n_samples", [1, 777, 5000])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_stems_follow_the_level_and_leave_the_song_alone(
    n_channels: int, n_samples: int, demucs: Demucs
) -> None:
    song = noise(n_channels, n_samples)
    before = song.clone()
    stems = demucs.separate(Mixture(song, RATE))
    assert stems.labels == STEMS
    assert stems.sources.shape == (4, n_samples)
    assert stems.sources.isfinite().all()
    assert torch.equal(song, before)
    assert torch.equal(demucs.separate(Mixture(song, RATE)).sources, stems.sources)
    louder = demucs.separate(Mixture(100 * song, RATE)).sources
    torch.testing.assert_close(louder, 100 * stems.sources, atol=1e-3 * float(louder.abs().max()), rtol=0)


def test_channels_that_cancel_each_other_out_have_a_level(demucs: Demucs) -> None:
    left = noise(1, 3000)
    stems = demucs.separate(Mixture(torch.cat([left, -left]), RATE)).sources
    assert stems.abs().amax() < 100 * left.abs().amax()


def test_mono_is_both_channels(demucs: Demucs) -> None:
    song = noise(1, 3000)
    both = Mixture(song.repeat(2, 1), RATE)
    assert torch.equal(demucs.separate(Mixture(song, RATE)).sources, demucs.separate(both).sources)


def test_silence_stays_silent(demucs: Demucs) -> None:
    assert not demucs.separate(Mixture(torch.zeros(2, 1000), RATE)).sources.any()


def test_the_pipeline_gives_stereo_stems_at_the_rate_of_the_song(demucs: Demucs) -> None:
    song = noise(2, 30000, seed=1)
    pipeline = Pipeline(demucs, PipelineSettings(channels="each", chunk_seconds=0.4, overlap_seconds=0.1))

    def read(start: int, stop: int) -> Mixture:
        return Mixture(song[:, start:stop], 48000)

    parts = list(pipeline.separate_chunks(read, n_samples=30000, sample_rate=48000))
    assert len(parts) > 1
    assert {part.labels for part in parts} == {STEMS}
    stems = torch.cat([part.sources for part in parts], dim=-1)
    assert stems.shape == (4, 2, 30000)
    torch.testing.assert_close(stems.sum(dim=0), song, atol=1e-5, rtol=0)
    mono = sepnet.separate(song[:1], 48000, model="demucs")
    assert mono.labels == STEMS
    torch.testing.assert_close(mono.sources.sum(dim=0), song[0], atol=1e-5, rtol=0)


def test_surround_sound_and_other_rates_are_refused(demucs: Demucs) -> None:
    with pytest.raises(CannotSeparate, match="mono and stereo, but the mixture has 6 channels: give one"):
        demucs.separate(Mixture(noise(6, 1000), RATE))
    with pytest.raises(CannotSeparate, match="44100"):
        demucs.separate(Mixture(noise(1, 1000), 8000))


def test_weights_that_cannot_be_fetched_are_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "get_model", Mock(side_effect=OSError("no\nroute")))
    with pytest.raises(
        SepnetError, match=r"weights of htdemucs can't be fetched \(OSError: no route\): connect"
    ) as raised:
        load_demucs()
    assert "\n" not in str(raised.value)


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "demucs", None)
    with pytest.raises(SepnetError, match=r"pip install 'sepnet\[music\]'"):
        load_demucs()


def test_names_of_strangers_are_refused() -> None:
    with pytest.raises(SepnetError, match="htdemucs"):
        artifact.load("demucs", {"name": "hf://stranger/model"})
