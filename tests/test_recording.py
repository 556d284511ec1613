"""Recordings of any length: chunks that tile them, sources that keep their places, and work that goes on."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.identities import conversation, track_in_one_piece_and_in_chunks
from sepnet import artifact
from sepnet.data.indexing import index
from sepnet.inference.pipeline import ChunkOutput, Pipeline, PipelineSettings
from sepnet.inference.stitching.chunks import ChunkJoiner, plan_chunks
from sepnet.inference.stitching.timbre import FrameCepstra, TimbreMemory, frame_cepstra
from sepnet.inference.stitching.tracking import (
    best_path,
    change_costs,
    orders_of,
    score_orders,
)
from sepnet.metrics import si_sdr
from sepnet.types import CannotSeparate, Mixture, Separation, Separator, SeparatorInfo, SepnetError

RATE = 8000
SECOND = RATE
SPEECH = Path(__file__).parents[2] / "shared" / "audio" / "speech8k"


def voice(seconds: float, formants: tuple[float, ...], seed: int) -> Tensor:
    """Bursts of noise with resonances at ``formants`` in Hz, as of one voice, with pauses between."""
    rng = np.random.default_rng(seed)
    n = round(seconds * RATE)
    spectrum = np.fft.rfft(rng.standard_normal(n))
    hertz = np.fft.rfftfreq(n, 1 / RATE)
    shape = sum(1 / (1 + ((hertz - formant) / 120) ** 2) for formant in formants)
    sound = np.fft.irfft(spectrum * shape, n)
    gate = np.zeros(n)
    at = 0
    while at < n:
        length = int(rng.uniform(0.4, 2.0) * RATE)
        gate[at : at + length] = 1.0
        at += length + int(rng.uniform(0.1, 0.8) * RATE)
    return torch.from_numpy((0.1 * sound / sound.std() * gate).astype(np.float32))


class Oracle:
    """Gives the references, in an order that ``places`` decides anew for each stretch of a mixture.

    swaps: samples of the chunk at which the order is turned round.
    """

    info = SeparatorInfo(needs=frozenset({"references"}))

    def __init__(self, orders: list[tuple[int, ...]], swap_at: int | None = None) -> None:
        self.orders, self.swap_at, self.calls = orders, swap_at, 0

    def separate(self, mixture: Mixture) -> Separation:
        assert mixture.references is not None
        order = list(self.orders[self.calls % len(self.orders)])
        self.calls += 1
        sources = mixture.references[order]
        if self.swap_at is not None:
            sources = torch.cat([sources[:, : self.swap_at], sources.flip(0)[:, self.swap_at :]], dim=1)
        return Separation(sources)


class Shares:
    """Fixed shares of the mixture, under names."""

    info = SeparatorInfo()

    def separate(self, mixture: Mixture) -> Separation:
        return Separation(torch.stack([0.3 * mixture.audio[0], 0.7 * mixture.audio[0]]), ("low", "high"))


def in_chunks(separator: Separator, chunk_seconds: float, overlap_seconds: float) -> Pipeline:
    """A pipeline that does nothing but to cut recordings into chunks, and to join the estimates."""
    settings = PipelineSettings(
        chunk_seconds=chunk_seconds, overlap_seconds=overlap_seconds, consistent=False, full_band=False
    )
    return Pipeline(separator, settings)


def outputs(pipeline: Pipeline, mixture: Mixture, **keywords: Any) -> list[ChunkOutput]:
    """What each chunk of a recording in memory adds."""

    def read(start: int, stop: int) -> Mixture:
        references = None if mixture.references is None else mixture.references[:, start:stop]
        return replace(mixture, audio=mixture.audio[:, start:stop], references=references)

    n_samples = mixture.audio.shape[-1]
    return list(
        pipeline.separate_chunks(read, n_samples=n_samples, sample_rate=mixture.sample_rate, **keywords)
    )


def mixed(*voices: Tensor) -> Mixture:
    sources = torch.stack(voices)
    return Mixture(sources.sum(dim=0, keepdim=True), RATE, references=sources)


# Chunks


@pytest.mark.parametrize("n_samples", [1, 999, 1000, 1001, 1850, 1900, 2700, 2701, 12345])
def test_chunks_tile_the_recording(n_samples: int) -> None:
    chunks = list(plan_chunks(n_samples, chunk_samples=1000, overlap_samples=100))
    assert chunks[0].start == chunks[0].done == 0
    assert chunks[-1].stop == chunks[-1].until == n_samples
    for before, after in itertools.pairwise(chunks):
        assert before.until == after.done
        assert before.stop - before.start == after.stop - after.start == 1000
        assert after.start >= before.start
        # Both know all of the fade, and the tail that is kept begins where the next chunk does.
        assert after.start <= after.done
        assert after.done + after.fade <= before.stop
        assert before.stop - after.start >= 100
    assert len(chunks) == max(1, -(-(n_samples - 100) // 900))


def test_an_overlap_of_half_a_chunk_is_refused() -> None:
    with pytest.raises(SepnetError, match="less than half of a chunk"):
        list(plan_chunks(5000, chunk_samples=1000, overlap_samples=500))


@pytest.mark.parametrize("seconds", [0.5, 2.0, 2.01, 7.3])
def test_what_acts_on_each_sample_alone_is_the_same_in_chunks(seconds: float) -> None:
    mixture = mixed(voice(seconds, (500,), 0))
    whole = Shares().separate(mixture)
    parted = in_chunks(Shares(), 2.0, 0.5).separate(mixture)
    torch.testing.assert_close(parted.sources, whole.sources, atol=1e-7, rtol=1e-6)
    assert parted.labels == ("low", "high")


def test_one_chunk_fades_into_the_next() -> None:
    chunks = list(plan_chunks(2000, chunk_samples=1000, overlap_samples=200))
    joiner = ChunkJoiner(1, RATE, in_order=True)
    joined = torch.cat(
        [
            joiner.push(chunk, torch.full((1, 1, chunk.stop - chunk.start), float(number)), next_start)[0]
            for number, (chunk, next_start) in enumerate(
                zip(chunks, [chunk.start for chunk in chunks[1:]] + [None], strict=True)
            )
        ],
        dim=-1,
    )[0, 0]
    assert len(joined) == 2000
    steps = joined.diff()
    for number, chunk in enumerate(chunks[1:], start=1):
        assert joined[chunk.done - 1] == number - 1
        assert joined[chunk.done + chunk.fade] == number
    assert bool((steps >= 0).all())
    assert float(steps.max()) < 2 / chunks[1].fade  # no step that clicks


# Identities


LOW, HIGH, MIDDLE = (300.0, 900.0, 2300.0), (450.0, 1700.0, 3300.0), (700.0, 1200.0, 2800.0)


@pytest.mark.parametrize("n_sources", [2, 3])
def test_sources_keep_their_places_whatever_the_order_of_each_chunk(n_sources: int) -> None:
    voices = [voice(60, formants, k) for k, formants in enumerate((LOW, HIGH, MIDDLE)[:n_sources])]
    mixture = mixed(*voices)
    orders = list(itertools.permutations(range(n_sources)))
    found = in_chunks(Oracle(orders), 10.0, 2.0).separate(mixture)
    expected = torch.stack(voices)[list(orders[0])]
    assert bool((si_sdr(found.sources, expected) > 60).all())


def test_silence_over_a_whole_overlap_is_bridged_by_memory() -> None:
    voices = [voice(64, LOW, 3), voice(64, HIGH, 4)]
    for start in (6, 14, 22, 30, 38, 46, 54):  # around every overlap
        for each in voices:
            each[start * SECOND : (start + 5) * SECOND] = 0
    mixture = mixed(*voices)
    found = in_chunks(Oracle([(0, 1), (1, 0)]), 10.0, 2.0).separate(mixture)
    assert bool((si_sdr(found.sources, torch.stack(voices)) > 40).all())


def test_a_swap_inside_of_a_chunk_is_found_and_undone() -> None:
    voices = [voice(60, LOW, 5), voice(60, HIGH, 6)]
    for each in voices:  # a pause, as where a network loses track
        for chunk in range(6):
            middle = chunk * 9 * SECOND + 3 * SECOND
            each[middle - 2000 : middle + 2000] = 0
    mixture = mixed(*voices)
    swapping = Oracle([(0, 1)], swap_at=3 * SECOND)
    found = in_chunks(swapping, 10.0, 1.0).separate(mixture).sources
    # Which voice is which is open: what most of the first chunk says.
    scores = [si_sdr(found, torch.stack(order)).min() for order in (voices, voices[::-1])]
    assert max(scores) > 15, scores
    torch.testing.assert_close(found.sum(dim=0), mixture.audio[0], atol=1e-6, rtol=0)


def test_confidence_is_high_for_unlike_voices_and_low_for_one_voice_twice() -> None:
    def least(*voices: Tensor) -> float:
        mixture = mixed(*voices)
        parts = outputs(in_chunks(Oracle([(0, 1), (1, 0)]), 10.0, 1.0), mixture)
        return min(part.stitch.confidence for part in parts if part.stitch is not None)

    assert least(voice(60, LOW, 0), voice(60, HIGH, 1)) > 0.9
    assert least(voice(60, LOW, 0), voice(60, LOW, 1)) < 0.3
    assert least(torch.zeros(60 * SECOND), torch.zeros(60 * SECOND)) == 1.0  # there is nothing to swap


def test_what_is_heard_at_once_stays_as_the_separator_has_it() -> None:
    mixture = mixed(voice(9, LOW, 5), voice(9, HIGH, 6))
    swapping = Oracle([(0, 1)], swap_at=3 * SECOND)
    (part,) = outputs(in_chunks(swapping, 10.0, 1.0), mixture)
    assert torch.equal(part.sources[:, 0], swapping.separate(mixture).sources)


# Tracking


def test_the_best_path_is_the_best_of_all_paths() -> None:
    generator = torch.Generator().manual_seed(0)
    for trial in range(20):
        scores = torch.randn(6, 2 + trial % 2, generator=generator, dtype=torch.float64)
        costs = torch.rand(6, generator=generator, dtype=torch.float64)
        first = torch.randn(scores.shape[1], generator=generator, dtype=torch.float64)

        def worth(path: tuple[int, ...], scores: Tensor = scores, costs: Tensor = costs) -> float:
            changes = sum(float(costs[k]) for k in range(1, 6) if path[k] != path[k - 1])
            return sum(float(scores[k, order]) for k, order in enumerate(path)) - changes

        every = itertools.product(range(scores.shape[1]), repeat=6)
        best = max(every, key=lambda path, first=first: worth(path) + float(first[path[0]]))
        assert tuple(best_path(scores, costs, first).tolist()) == best


def test_an_order_scores_what_its_pairs_score() -> None:
    likeness = torch.arange(9.0).reshape(3, 3)  # (estimate, source)
    orders = orders_of(3)
    assert orders[0].tolist() == [0, 1, 2]
    for order, score in zip(orders.tolist(), score_orders(likeness, orders).tolist(), strict=True):
        assert score == sum(float(likeness[estimate, source]) for source, estimate in enumerate(order))


def test_a_change_is_cheap_beside_a_pause() -> None:
    active = torch.tensor([[1.0, 1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0, 0.0]])
    assert change_costs(active, 1.0).tolist() == [1.0, 1.0, 0.6, 0.6, 0.6]
    assert change_costs(active * 0, 1.0).tolist()[1:] == [0.2] * 4


# Timbre


def test_likeness_is_that_of_the_gaussians_of_what_was_heard() -> None:
    generator = torch.Generator().manual_seed(1)
    past = torch.randn(2, 400, 12, generator=generator, dtype=torch.float64)
    past[1] = 0.5 * past[1] + 0.3
    memory = TimbreMemory(2)
    for piece in past.split(100, dim=1):
        memory.add(FrameCepstra(piece, torch.ones(2, 100, dtype=torch.float64)))
    frames = torch.randn(2, 5, 12, generator=generator, dtype=torch.float64)
    found = memory.log_likelihoods(FrameCepstra(frames, torch.ones(2, 5, dtype=torch.float64)))
    expected = torch.empty(5, 2, 2, dtype=torch.float64)
    for source in range(2):
        covariance = torch.cov(past[source].T, correction=0)
        covariance = covariance + (0.01 * covariance.diagonal().mean() + 1e-6) * torch.eye(12)
        gaussian = torch.distributions.MultivariateNormal(past[source].mean(dim=0), covariance)
        expected[:, :, source] = gaussian.log_prob(frames).T
    expected = (expected - expected.amax(dim=-1, keepdim=True)).clamp_min(-5.0) / 10
    torch.testing.assert_close(found, expected)


def test_what_is_silent_or_dominated_says_nothing() -> None:
    loud, faint = voice(2, LOW, 0), 0.01 * voice(2, HIGH, 1)
    heard = frame_cepstra(torch.stack([loud, faint, torch.zeros_like(loud)]), RATE)
    assert not bool(heard.dominant[2].any())
    assert float(heard.dominant[0].mean()) > 0.5
    # Where the first pauses the second is heard, if faintly; together they are never both dominant.
    assert float((heard.dominant.sum(dim=0) > 1).double().sum()) == 0


@pytest.mark.parametrize("level", [1e-3, 1.0, 1e30])
def test_the_level_says_nothing(level: float) -> None:
    sound = torch.stack([voice(2, LOW, 0), voice(2, HIGH, 1)])
    one, other = frame_cepstra(sound, RATE), frame_cepstra(level * sound, RATE)
    torch.testing.assert_close(one.cepstra, other.cepstra, atol=2e-3, rtol=0)
    assert torch.equal(one.dominant, other.dominant)


def test_a_sound_that_never_changes_has_a_likeness_too() -> None:
    same = FrameCepstra(
        torch.full((2, 60, 12), 0.3, dtype=torch.float64), torch.ones(2, 60, dtype=torch.float64)
    )
    memory = TimbreMemory(2)
    memory.add(same)
    assert bool(memory.log_likelihoods(same).isfinite().all())


# Going on


def test_work_goes_on_from_the_state_of_any_chunk() -> None:
    mixture = mixed(voice(40, LOW, 0), voice(40, HIGH, 1))
    pipeline = in_chunks(Oracle([(0, 1)]), 8.0, 1.0)
    whole = outputs(pipeline, mixture)
    assert len(whole) > 4
    for stopped in range(1, len(whole)):
        joiner = ChunkJoiner(2, RATE)
        joiner.restore(dict(whole[stopped - 1].state))
        rest = outputs(pipeline, mixture, first_chunk=stopped, joiner=joiner)
        for one, other in zip(rest, whole[stopped:], strict=True):
            assert torch.equal(one.sources, other.sources)
            assert one.stitch == other.stitch


# What is refused


def test_a_quiet_chunk_that_is_refused_is_shared_alike_and_a_loud_one_is_not() -> None:
    class Picky(Shares):
        def separate(self, mixture: Mixture) -> Separation:
            if float(mixture.audio.abs().amax()) < 0.01:
                raise CannotSeparate("nothing to hear")
            return Separation(super().separate(mixture).sources)

    audio = torch.full((1, 12 * SECOND), 0.1)
    audio[:, 6 * SECOND :] = 1e-6
    found = in_chunks(Picky(), 4.0, 1.0).separate(Mixture(audio, RATE)).sources
    torch.testing.assert_close(found[:, -SECOND:], torch.full((2, SECOND), 5e-7))
    audio[:, 6 * SECOND :] = 0.005
    with pytest.raises(CannotSeparate, match=r"from \d+\.\d to \d+\.\d s: nothing to hear"):
        in_chunks(Picky(), 4.0, 1.0).separate(Mixture(audio, RATE))


# Real speech


class Shuffling:
    """A separator whose outputs come in another order every time."""

    info = SeparatorInfo()

    def __init__(self, separator: Separator) -> None:
        self.separator, self.rng = separator, np.random.default_rng(0)

    def separate(self, mixture: Mixture) -> Separation:
        separation = self.separator.separate(mixture)
        return replace(separation, sources=separation.sources[self.rng.permutation(len(separation.sources))])


def track_conversation(pair: tuple[str, str], minutes: int) -> tuple[OutputTracking, OutputTracking]:
    """Two dev speakers, separated in one piece and in chunks whose outputs come in any order."""
    manifest = index(SPEECH, layout="speech8k", progress=False)[0].split("dev")
    sources = conversation(manifest, pair, minutes * 60.0, RATE, np.random.default_rng(0))
    return track_in_one_piece_and_in_chunks(Shuffling(artifact.load("pit-2spk-8k")), sources, RATE)


MEN, WOMEN, MIXED = ("2033", "2609"), ("3080", "367"), ("1688", "533")
needs_speech = pytest.mark.skipif(not SPEECH.is_dir(), reason=f"the real speech is not at {SPEECH}")


@needs_speech
def test_two_speakers_keep_their_places_over_a_minute() -> None:
    """A man and a woman, whom the network tells apart: hardly a moment is in the wrong place."""
    in_one_piece, in_chunks = track_conversation(MIXED, 1)
    assert in_chunks.swapped < in_one_piece.swapped + 0.05
    assert in_chunks.si_sdri_db > in_one_piece.si_sdri_db - 1.0


@pytest.mark.slow
@needs_speech
def test_two_speakers_keep_their_places_over_minutes() -> None:
    """On average: in three minutes one stretch in the wrong place makes a decibel of difference."""
    tracked = [track_conversation(pair, 3) for pair in (MEN, WOMEN, MIXED)]
    in_one_piece, in_chunks = zip(*tracked, strict=True)
    assert np.mean([t.swapped for t in in_chunks]) < np.mean([t.swapped for t in in_one_piece]) + 0.01
    assert np.mean([t.si_sdri_db for t in in_chunks]) > np.mean([t.si_sdri_db for t in in_one_piece]) - 0.5
    assert max(t.swapped for t in in_one_piece) < 0.25  # or there is nothing to keep apart


@pytest.mark.slow
@needs_speech
@pytest.mark.parametrize("pair", [MEN, WOMEN, MIXED], ids=["men", "women", "a man and a woman"])
def test_two_speakers_keep_their_places_over_half_an_hour(pair: tuple[str, str]) -> None:
    in_one_piece, in_chunks = track_conversation(pair, 30)
    assert in_chunks.swapped < in_one_piece.swapped + 0.01
    assert in_chunks.si_sdri_db > in_one_piece.si_sdri_db - 0.5
    assert in_one_piece.swapped < 0.25  # or there is nothing to keep apart
