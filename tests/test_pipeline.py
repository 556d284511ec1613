"""The pipeline: what each of its stages does to a recording, and which settings it refuses."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sepnet.inference.channels import separate_images
from sepnet.inference.pipeline import Pipeline, PipelineSettings
from sepnet.settings import parse
from sepnet.types import CannotSeparate, Mixture, Query, Separation, SeparatorInfo, SepnetError

RATE = 8000
SECOND = RATE


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Recording:
    """Keeps the mixtures that it is given; each of its sources is channel 0, but quieter."""

    def __init__(self, info: SeparatorInfo) -> None:
        self.info = info
        self.mixtures: list[Mixture] = []

    def separate(self, mixture: Mixture) -> Separation:
        self.mixtures.append(mixture)
        n_sources = self.info.n_sources or mixture.n_sources or 1
        return Separation(0.4 * mixture.audio[:1].repeat(n_sources, 1))


class CountingByLevel:
    """Finds two sources where the mixture is loud, and one elsewhere."""

    info = SeparatorInfo(counts_sources=True)

    def estimate_n_sources(self, mixture: Mixture) -> int:
        return 1 + int(mixture.audio.abs().amax() > 0.5)

    def separate(self, mixture: Mixture) -> Separation:
        n_sources = mixture.n_sources or self.estimate_n_sources(mixture)
        return Separation((mixture.audio[:1] / n_sources).repeat(n_sources, 1))


# The number of sources

CHUNKS = {"chunk_seconds": 4.0, "overlap_seconds": 1.0}


def loud_in(*chunks: bool) -> Mixture:
    """A recording of as many chunks, with one loud sample in the middle of some."""
    audio = torch.full((1, (3 * len(chunks) + 1) * SECOND), 0.1)
    for number, loud in enumerate(chunks):
        audio[0, (3 * number + 2) * SECOND] = 0.9 if loud else 0.1
    return Mixture(audio, RATE)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ((True,), 2),
        ((True, True, *[False] * 3), 2),
        ((True, *[False] * 8), 1),
        ((True, True, *[False] * 7), 1),
        ((*[True] * 3, *[False] * 6), 2),
    ],
)
def test_the_estimate_is_the_largest_number_in_a_third_of_the_chunks(
    chunks: tuple[bool, ...], expected: int
) -> None:
    mixture = loud_in(*chunks)
    pipeline = Pipeline(CountingByLevel(), PipelineSettings(**CHUNKS))
    assert len(pipeline.chunks(mixture.audio.shape[-1], RATE)) == len(chunks)
    assert pipeline.estimate_n_sources(mixture) == expected
    auto = Pipeline(CountingByLevel(), PipelineSettings(n_sources="auto", **CHUNKS))
    assert len(auto.separate(mixture).sources) == expected


def test_another_number_of_sources_in_a_later_chunk_is_refused() -> None:
    pipeline = Pipeline(CountingByLevel(), PipelineSettings(**CHUNKS))
    with pytest.raises(CannotSeparate, match=r"there are 1 sources at the beginning, but 2 from 6\.0 s on"):
        pipeline.separate(loud_in(False, False, True))


def test_the_number_of_sources_in_the_settings_goes_before_the_hint() -> None:
    asking = Recording(SeparatorInfo(needs=frozenset({"n_sources"})))
    mixture = Mixture(noise(1, 100), RATE, n_sources=2)
    assert len(Pipeline(asking).separate(mixture).sources) == 2
    assert len(Pipeline(asking, PipelineSettings(n_sources=3)).separate(mixture).sources) == 3
    with pytest.raises(CannotSeparate, match="needs n_sources"):
        Pipeline(asking).separate(replace(mixture, n_sources=None))


def test_a_number_that_the_separator_cannot_give_is_refused() -> None:
    fixed, mixture = Recording(SeparatorInfo(n_sources=2)), Mixture(noise(1, 9), RATE)
    assert len(Pipeline(fixed, PipelineSettings(n_sources=2)).separate(mixture).sources) == 2
    with pytest.raises(CannotSeparate, match="made for 2 sources, not 3"):
        Pipeline(fixed, PipelineSettings(n_sources=3))
    with pytest.raises(SepnetError, match="cannot count sources: give their number"):
        Pipeline(fixed, PipelineSettings(n_sources="auto"))
    with pytest.raises(SepnetError, match="cannot count sources: give their number"):
        Pipeline(fixed).estimate_n_sources(mixture)


# Channels


def test_the_chosen_channels_are_separated() -> None:
    audio = noise(3, 100)
    expected = {"all": audio, "mean": audio.mean(dim=0, keepdim=True), 0: audio[:1], 2: audio[2:]}
    for channels, chosen in expected.items():
        separator = Recording(SeparatorInfo())
        sources = (
            Pipeline(separator, PipelineSettings(channels=channels)).separate(Mixture(audio, RATE)).sources
        )
        torch.testing.assert_close(separator.mixtures[0].audio, chosen)
        torch.testing.assert_close(sources[0], chosen[0])


def test_a_channel_that_is_not_there_is_refused() -> None:
    settings = PipelineSettings(channels=3)
    with pytest.raises(SepnetError, match="channels=3, but the recording has 3 channels"):
        Pipeline(Recording(SeparatorInfo()), settings).separate(Mixture(noise(3, 100), RATE))


@pytest.mark.parametrize("channels", [True, "both", 1.5, -1])
def test_channels_are_named_or_numbered(channels: Any) -> None:
    with pytest.raises(SepnetError, match=r"channels is .*: give each, all, mean or a whole number from 0"):
        parse(PipelineSettings, {"channels": channels})


def test_several_channels_of_each_source_are_not_for_memory() -> None:
    pipeline = Pipeline(Recording(SeparatorInfo()), PipelineSettings(channels="each"))
    assert pipeline.separate(Mixture(noise(1, 100), RATE)).sources.shape == (1, 100)
    with pytest.raises(SepnetError, match="channels=each gives sources of 2 channels"):
        pipeline.separate(Mixture(noise(2, 100), RATE))


class Thirds:
    """Three shares of channel 0, by windows over time, rotated by one more place at each call."""

    info = SeparatorInfo()

    def __init__(self) -> None:
        self.calls = 0

    def separate(self, mixture: Mixture) -> Separation:
        time = torch.linspace(0, 1, mixture.audio.shape[-1])
        windows = torch.stack([time.square(), time - time.square(), 1 - time])
        self.calls += 1
        return Separation((windows * mixture.audio[0]).roll(self.calls, dims=0))


def test_each_channel_has_its_own_images_in_one_order() -> None:
    audio = noise(1, 1000) * torch.tensor([[1.0], [0.8], [1.3]])
    images, labels = separate_images(Thirds(), Mixture(audio, RATE), 3)
    assert labels is None
    torch.testing.assert_close(images.sum(dim=0), audio)
    torch.testing.assert_close(images[:, 1], 0.8 * images[:, 0])
    torch.testing.assert_close(images[:, 2], 1.3 * images[:, 0])


# Rate and consistency


def test_a_separator_of_one_rate_gets_everything_at_that_rate() -> None:
    needs = frozenset({"queries", "references"})
    separator = Recording(SeparatorInfo(needs=needs, n_sources=2, sample_rate=RATE))
    pipeline = Pipeline(separator)
    assert pipeline.info == SeparatorInfo(needs=needs, n_sources=2)
    mixture = Mixture(
        noise(1, 2000), 2 * RATE, queries=(Query(noise(600), 4 * RATE, "dog"),), references=noise(2, 2000)
    )
    assert pipeline.separate(mixture).sources.shape == (2, 2000)
    (inner,) = separator.mixtures
    assert inner.sample_rate == RATE
    assert inner.audio.shape == (1, 1000)
    assert inner.references is not None
    assert inner.references.shape == (2, 1000)
    assert inner.queries is not None
    assert [(len(q.audio), q.sample_rate, q.label) for q in inner.queries] == [(150, RATE, "dog")]


def test_each_chunk_comes_with_its_stretch_of_the_references() -> None:
    separator = Recording(SeparatorInfo(needs=frozenset({"references"}), n_sources=2))
    mixture = Mixture(noise(1, 10 * SECOND), RATE, references=noise(2, 10 * SECOND, seed=1))
    pipeline = Pipeline(separator, PipelineSettings(**CHUNKS))
    pipeline.separate(mixture)
    chunks = pipeline.chunks(10 * SECOND, RATE)
    assert len(chunks) == len(separator.mixtures) == 3
    assert mixture.references is not None
    for chunk, seen in zip(chunks, separator.mixtures, strict=True):
        assert seen.references is not None
        assert torch.equal(seen.audio, mixture.audio[:, chunk.start : chunk.stop])
        assert torch.equal(seen.references, mixture.references[:, chunk.start : chunk.stop])


def test_estimates_sum_to_the_mixture_unless_they_answer_several_queries() -> None:
    mixture = Mixture(noise(1, 100), RATE)
    two = Recording(SeparatorInfo(n_sources=2))
    consistent = Pipeline(two).separate(mixture).sources
    torch.testing.assert_close(consistent.sum(dim=0), mixture.audio[0])
    torch.testing.assert_close(consistent[0], consistent[1])
    plain = Pipeline(two, PipelineSettings(consistent=False)).separate(mixture).sources
    torch.testing.assert_close(plain.sum(dim=0), 0.8 * mixture.audio[0])
    querying = Recording(SeparatorInfo(needs=frozenset({"queries"}), n_sources=2))
    queries = (Query(noise(10), RATE), Query(noise(20), RATE))
    targets = Pipeline(querying).separate(replace(mixture, queries=queries)).sources
    torch.testing.assert_close(targets.sum(dim=0), 0.8 * mixture.audio[0])
    target = Pipeline(querying).separate(replace(mixture, queries=queries[:1])).sources
    torch.testing.assert_close(target.sum(dim=0), mixture.audio[0])


def test_the_separator_sees_the_hints_that_it_declares_and_no_others() -> None:
    separator = Recording(SeparatorInfo(needs=frozenset({"n_sources"})))
    mixture = Mixture(
        noise(1, 100),
        RATE,
        n_sources=2,
        queries=(Query(noise(10), RATE),),
        references=noise(2, 100),
        labels=("a", "b"),
        is_target=(True, False),
    )
    Pipeline(separator).separate(mixture)
    (seen,) = separator.mixtures
    assert seen.n_sources == 2
    assert (seen.queries, seen.references, seen.labels, seen.is_target) == (None, None, None, None)


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chunk_seconds": 0.0}, r"chunk_seconds is 0\.0: give a number above 0"),
        ({"chunk_seconds": math.nan}, "chunk_seconds is nan"),
        ({"chunk_seconds": math.inf}, "chunk_seconds is inf"),
        ({"overlap_seconds": -1.0}, r"overlap_seconds is -1\.0"),
        ({"chunk_seconds": 6.0, "overlap_seconds": 3.0}, "overlap shorter than half a chunk"),
        ({"n_sources": 0}, "n_sources is 0: give a whole number from 1 to 64, auto or null"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SepnetError, match=message):
        PipelineSettings(**settings)


# The level


@pytest.mark.parametrize("peak", [1e9, 1e30, 3e38])
def test_a_recording_of_absurd_level_is_separated_below_it(peak: float) -> None:
    inside = Recording(SeparatorInfo(n_sources=2))
    audio = noise(1, 1000)
    audio = audio / audio.abs().max() * peak
    sources = Pipeline(inside).separate(Mixture(audio, RATE, references=audio)).sources
    (heard,) = inside.mixtures
    assert float(heard.audio.abs().max()) < 1e5
    torch.testing.assert_close(sources.sum(dim=0), audio[0], rtol=1e-5, atol=0)


def test_estimates_that_are_no_numbers_are_refused_with_their_place() -> None:
    class Broken(Recording):
        def separate(self, mixture: Mixture) -> Separation:
            separation = super().separate(mixture)
            separation.sources[0, 7:9] = math.nan
            return separation

    mixture = Mixture(noise(1, SECOND), RATE)
    with pytest.raises(SepnetError, match=r"from 0\.0 to 1\.0 s the model gives 2 samples of 16000"):
        Pipeline(Broken(SeparatorInfo(n_sources=2)), PipelineSettings(consistent=False)).separate(mixture)
