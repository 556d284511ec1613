"""Mixtures with one query: powers, times, recordings and classes are as the list says; training ones, too."""

from __future__ import annotations

import os
import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import white_noise, write_corpus

from sepnet.data.cache import Cache, open_cache
from sepnet.data.dataset import Collate, FixedList, MixtureSet
from sepnet.data.indexing import index
from sepnet.data.manifest import Manifest
from sepnet.data.mixer import Example, Mixer
from sepnet.data.mixing import Mixing
from sepnet.data.query_list import QueryMixture, read_query_list, write_query_list
from sepnet.data.query_set import QueryList, QuerySet
from sepnet.evaluation.contender import HasConditions
from sepnet.types import Mixtures, SepnetError

RATE = 8000
TONES_HZ = {"bell": 500.0, "drum": 1000.0, "horn": 2000.0, "wind": 3000.0}
ESC10 = Path(os.environ.get("SEPNET_ESC10", Path(__file__).parents[2] / "shared" / "audio" / "esc10_16k"))


def tone(label: str, seconds: float, seed: int) -> np.ndarray:
    """A tone of the class's frequency, at a level of its own, from 0.6 to 1.5 s of ``seconds``."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    there = (time >= 0.6) & (time < 1.5)
    level = rng.uniform(0.02, 0.3)
    return (level * there * np.sin(2 * np.pi * TONES_HZ[label] * time + seed)).astype(np.float32)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Four classes; of each three recordings, the first in two takes; all in fold 4, and again in fold 1."""
    files = {}
    for fold in (1, 4):
        for k, label in enumerate(TONES_HZ):
            for n, take in enumerate(("0-A", "0-B", "1-A", "2-A")):
                recording, letter = take.split("-")
                name = f"{label}/{fold}-{fold}{k}{recording}-{letter}.wav"
                files[name] = tone(label, 2.0, seed=100 * fold + 10 * k + n)
    root = tmp_path_factory.mktemp("classes")
    write_corpus(root, files, layout="classes")
    return index(root, layout="classes", progress=False)[0]


def queries(manifest: Manifest, **settings: object) -> QuerySet:
    settings = {"split": "fold4", "n_mixtures": 24, "seconds": 4.0} | settings
    return QueryList(**settings).fixed_set(manifest, RATE)


def bursts(manifest: Manifest, **settings: object) -> QuerySet:
    return queries(manifest, **{"target_share": (0.3, 0.9), "levels_db": (-5.0, 0.0, 5.0)} | settings)


def inside(fixed: QuerySet, number: int) -> np.ndarray:
    there = np.zeros(round(fixed.mixtures[number].seconds * RATE), dtype=bool)
    for begin, end in fixed.segments(number):
        there[round(begin * RATE) : round(end * RATE)] = True
    return there


def recordings(manifest: Manifest, row: QueryMixture) -> tuple[set[str], list[str]]:
    """Those that are mixed, and those of the three queries."""
    who = {u.path: u.speaker for u in manifest}
    return {who[cut.path] for cut in (*row.target, *row.interference)}, [who[c.path] for c in row.queries]


def test_a_set_is_what_training_and_evaluation_take(manifest: Manifest) -> None:
    fixed = queries(manifest)
    assert isinstance(fixed, MixtureSet)
    assert isinstance(fixed, Mixtures)
    assert isinstance(fixed, HasConditions)
    assert isinstance(QueryList(split="fold4", n_mixtures=1, seconds=1.0), FixedList)
    again = pickle.loads(pickle.dumps(fixed))
    assert torch.equal(again[3].audio, fixed[3].audio)
    assert again.fingerprint == fixed.fingerprint


def test_powers_are_measured_where_the_target_is_active(manifest: Manifest) -> None:
    fixed = bursts(manifest)
    levels = [row.level_db for row in fixed.mixtures]
    assert levels == [-5.0, 0.0, 5.0] * 8
    for number, mixture in enumerate(fixed):
        there = inside(fixed, number)
        target, other = mixture.references.double().numpy()
        ratio = np.square(target[there]).mean() / np.square(other[there]).mean()
        assert 10 * np.log10(ratio) == pytest.approx(levels[number], abs=1e-3)
        assert not target[~there].any()  # outside the segments there is none of it
        torch.testing.assert_close(mixture.audio[0], mixture.references.sum(dim=0))
        assert float(mixture.audio.abs().max()) <= 0.9001
    assert [fixed.condition(k) for k in range(3)] == ["-5 dB", "0 dB", "+5 dB"]


def test_segments_are_when_the_target_sounds(manifest: Manifest) -> None:
    fixed = bursts(manifest)
    shares = []
    for number, mixture in enumerate(fixed):
        there = inside(fixed, number)
        shares.append(there.mean())
        sounding = np.abs(mixture.references[0].numpy()) > 1e-4
        # A tone is never silent for longer than a seam and the tenth of a second that a decay is given.
        for begin, end in fixed.segments(number):
            part = np.flatnonzero(sounding[round(begin * RATE) : round(end * RATE)])
            assert part[0] <= 0.02 * RATE
            assert np.diff(part).max() <= 0.13 * RATE
            assert (end - begin) * RATE - part[-1] <= 0.13 * RATE
    assert min(shares) >= 0.29
    assert max(shares) <= 0.91
    assert np.ptp(shares) > 0.3
    assert fixed.segments(0) == fixed.mixtures[0].segments


def test_fully_overlapped_means_that_both_sound_throughout(manifest: Manifest) -> None:
    fixed = queries(manifest)
    for number, mixture in enumerate(fixed):
        ((begin, end),) = fixed.segments(number)
        assert begin == 0.0
        assert end > 3.97
        for source in mixture.references.numpy():
            assert np.diff(np.flatnonzero(np.abs(source) > 1e-4)).max() <= 0.13 * RATE


def test_a_query_is_of_another_recording_and_each_kind_of_its_class(manifest: Manifest) -> None:
    kinds = {kind: bursts(manifest, query=kind) for kind in ("target", "other", "absent")}
    for number, row in enumerate(kinds["target"].mixtures):
        mixed, asked = recordings(manifest, row)
        assert not mixed & {*asked}
        labels = kinds["target"].labels(number)
        assert labels[0] != labels[1]
        told = {kind: fixed[number].queries[0] for kind, fixed in kinds.items()}
        assert [told[kind].label for kind in ("target", "other")] == list(labels)
        assert told["absent"].label not in labels
        for query in told.values():
            assert 1.0 <= len(query.audio) / RATE <= 2.0  # the clips are no longer
            spectrum = np.abs(np.fft.rfft(query.audio.numpy()))
            peak = np.fft.rfftfreq(len(query.audio), 1 / RATE)[spectrum.argmax()]
            assert peak == pytest.approx(TONES_HZ[query.label], abs=3)
    assert kinds["target"].mixtures == kinds["other"].mixtures == kinds["absent"].mixtures
    assert len({fixed.fingerprint for fixed in kinds.values()}) == 3


def test_only_the_target_is_asked_for(manifest: Manifest) -> None:
    mixture = queries(manifest)[0]
    assert mixture.is_target == (True, False)
    assert len(mixture.queries) == 1
    shown = mixture.only({"queries"})
    assert (shown.is_target, shown.labels, shown.references) == (None, None, None)


def test_clips_are_used_evenly_and_stay_in_their_fold(manifest: Manifest) -> None:
    fixed = queries(manifest, n_mixtures=48)
    firsts = Counter(
        path for row in fixed.mixtures for path in (row.target[0].path, row.interference[0].path)
    )
    assert {*firsts.values()} == {6}  # 96 places for 16 clips
    assert all("/4-" in path for row in fixed.mixtures for path in row.paths)


def test_a_list_is_the_same_again_and_from_its_file(manifest: Manifest, tmp_path: Path) -> None:
    csv = tmp_path / "list.csv"
    drawn = bursts(manifest, csv=str(csv))
    assert bursts(manifest).mixtures == drawn.mixtures
    assert bursts(manifest, seed=1).mixtures != drawn.mixtures
    assert bursts(manifest, n_mixtures=6).mixtures == drawn.mixtures[:6]
    read = bursts(manifest, csv=str(csv))
    assert read.fingerprint == drawn.fingerprint
    for one, other in zip(read, drawn, strict=True):
        assert torch.equal(one.audio, other.audio)
        assert torch.equal(one.queries[0].audio, other.queries[0].audio)
    with pytest.raises(SepnetError, match=r"holds 24 mixtures of 4 s at -5, 0, 5 dB, but 9 mixtures"):
        bursts(manifest, csv=str(csv), n_mixtures=9)
    assert len(bursts(manifest, csv=str(csv), limit=4)) == 4


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("query_absent", "question", "the role 'question' is none of target, "),
        ("query_absent", "query_other", "has no query_absent"),
        (",4,target", ",four,target", "four"),
    ],
)
def test_a_broken_list_is_refused(manifest: Manifest, tmp_path: Path, old: str, new: str, told: str) -> None:
    csv = tmp_path / "list.csv"
    write_query_list(csv, queries(manifest, n_mixtures=2).mixtures)
    csv.write_text(csv.read_text().replace(old, new))
    with pytest.raises(SepnetError, match=told):
        read_query_list(csv)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"target_share": (0.0, 0.5)}, "target_share is"),
        ({"target_share": (0.9, 0.5)}, "target_share is"),
        ({"target_share": (0.9,)}, "target_share is"),
        ({"levels_db": ()}, "levels_db"),
        ({"query_seconds": (0.01, 1.0)}, r"each at least 0\.1 s"),
        ({"labels": ("bell", "drum")}, "need three classes, but .* has 2"),
        ({"labels": ("bell", "drum", "flute")}, "nothing of the class flute"),
    ],
)
def test_bad_settings_are_refused(manifest: Manifest, settings: dict[str, object], told: str) -> None:
    with pytest.raises(SepnetError, match=told):
        queries(manifest, **settings)


def test_a_class_of_one_recording_has_no_query(manifest: Manifest) -> None:
    few = replace(manifest, utterances=tuple(u for u in manifest if u.label != "bell" or "1-A" in u.path))
    with pytest.raises(SepnetError, match=r"bell of .* has only one"):
        queries(few)


# Training mixtures


@pytest.fixture(scope="module")
def cache(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return open_cache(manifest.split("fold1"), tmp_path_factory.mktemp("cache"), sample_rate=RATE)


MIXING = Mixing(
    seconds=3.0, loudness_lufs=(-40.0, -30.0), speeds=(0.9, 1.0, 1.1), query_seconds=(0.5, 1.0), looped=True
)


def draws(cache: Cache, mixing: Mixing, count: int = 40) -> list[Example]:
    mixer = Mixer(cache, mixing)
    return [mixer(np.random.default_rng((0, 0, number))) for number in range(count)]


def made_of(example: Example, cache: Cache) -> list[tuple[str, str]]:
    """(class, recording) of each source."""
    known = {u.path: (u.label, u.speaker) for u in cache.utterances}
    return [known[f"{part}.wav".removeprefix("_")] for part in example.id.split(".wav") if part]


def pitch(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples, 4 * RATE))
    return float(np.fft.rfftfreq(4 * RATE, 1 / RATE)[spectrum.argmax()])


def test_training_mixtures_come_with_an_example_of_the_first_source(cache: Cache) -> None:
    for example in draws(cache, MIXING):
        (target, _), (other, _) = made_of(example, cache)
        assert example.label == target != other
        assert 0.5 * RATE <= len(example.query) <= RATE
        assert pitch(example.query) == pytest.approx(TONES_HZ[target], abs=4)  # never played faster
        assert pitch(example.sources[0]) == pytest.approx(TONES_HZ[target], rel=0.12)
        assert pitch(example.sources[1]) == pytest.approx(TONES_HZ[other], rel=0.12)
        np.testing.assert_allclose(example.mixture[0], example.sources.sum(axis=0), atol=1e-7)


def test_the_example_is_of_another_recording(cache: Cache) -> None:
    """Takes 0-A and 0-B are one recording, so 2 of a class's 4 clips remain, or 3."""
    mixer = Mixer(cache, MIXING)
    drawn = mixer._queries
    assert drawn is not None
    first = next(n for n, u in enumerate(cache.utterances) if u.path.endswith("0-A.wav"))
    other = next(n for n, u in enumerate(cache.utterances) if u.label != cache.utterances[first].label)
    allowed = [
        cache.read(n)
        for n, u in enumerate(cache.utterances)
        if u.label == cache.utterances[first].label and u.speaker != cache.utterances[first].speaker
    ]
    assert len(allowed) == 2
    peaks = {round(float(np.abs(samples).max()), 4) for samples in allowed}
    rng = np.random.default_rng(0)
    found = {
        round(float(np.abs(drawn.draw(rng, [first, other], absent=False)[0]).max()), 4) for _ in range(30)
    }
    assert found == peaks


def test_a_mixture_is_a_function_of_its_key_whatever_was_drawn_before(cache: Cache) -> None:
    mixing = replace(MIXING, target_share=(0.3, 0.8), p_always_active=0.3, p_absent=0.2, equaliser_db=6.0)
    forward, backward = Mixer(cache, mixing), Mixer(cache, mixing)
    ones = [forward(np.random.default_rng(n)) for n in range(12)]
    others = [backward(np.random.default_rng(n)) for n in reversed(range(12))][::-1]
    for one, other in zip(ones, others, strict=True):
        assert np.array_equal(one.mixture, other.mixture)
        assert np.array_equal(one.query, other.query)
        assert one.label == other.label


def test_looped_sources_sound_throughout_and_the_target_for_its_share(cache: Cache) -> None:
    def share(source: np.ndarray) -> float:
        return float((np.abs(source).reshape(-1, 240).max(axis=1) > 1e-4).mean())

    full = draws(cache, MIXING)
    assert min(share(source) for example in full for source in example.sources) > 0.8  # but for the decay
    part = draws(cache, replace(MIXING, target_share=(0.4, 0.5)))
    assert all(share(example.sources[1]) > 0.8 for example in part)
    shares = [share(example.sources[0]) for example in part]
    assert max(shares) < 0.6
    assert min(shares) > 0.3
    both = draws(cache, replace(MIXING, target_share=(0.4, 0.5), p_always_active=0.5), 80)
    assert 25 <= sum(share(example.sources[0]) > 0.6 for example in both) <= 55


def test_an_absent_target_is_silent_and_its_query_of_no_source(cache: Cache) -> None:
    examples = draws(cache, replace(MIXING, p_absent=0.4), 100)
    absent = [example for example in examples if not example.sources[0].any()]
    assert 25 <= len(absent) <= 55
    for example in absent:
        assert example.label not in [label for label, _ in made_of(example, cache)]
        np.testing.assert_array_equal(example.mixture[0], example.sources[1])
    for example in examples:
        if example.sources[0].any():
            assert example.label == made_of(example, cache)[0][0]


def test_a_random_filter_is_smooth_within_its_range_and_keeps_the_power() -> None:
    from sepnet.data.augment import draw_response_db, equalise

    rng = np.random.default_rng(0)
    frequencies = np.fft.rfftfreq(4096, 1 / 16000)
    responses = np.array([draw_response_db(rng, 6.0, frequencies) for _ in range(300)])
    assert np.abs(responses).max() <= 6.0
    assert responses.std(axis=0).max() == pytest.approx(6 / np.sqrt(3), rel=0.15)  # uniform at the octaves
    octave = np.log2(np.maximum(frequencies[1:], 62.5))
    assert np.abs(np.diff(responses[:, 1:], axis=1)).max() <= 12.0001 * np.diff(octave).max()
    samples = white_noise(16000)
    filtered = equalise(np.random.default_rng(1), samples, 6.0, 16000)
    assert np.square(filtered).sum() == pytest.approx(np.square(samples).sum(), rel=1e-5)
    again = np.random.default_rng(1)
    expected = draw_response_db(again, 6.0, np.fft.rfftfreq(17600, 1 / 16000))
    bands = np.abs(np.fft.rfft(filtered, 17600)) / np.abs(np.fft.rfft(samples, 17600))
    measured = 20 * np.log10(np.median(bands[1000:8000].reshape(-1, 500), axis=1))
    wanted = np.median(expected[1000:8000].reshape(-1, 500), axis=1)
    np.testing.assert_allclose(measured - measured.mean(), wanted - wanted.mean(), atol=0.4)
    assert not equalise(rng, np.zeros(100, dtype=np.float32), 6.0, 16000).any()


def test_a_batch_holds_queries_their_lengths_and_classes(cache: Cache) -> None:
    examples = draws(cache, MIXING, 5)
    batch = Collate(RATE)(examples)
    assert batch.queries.shape == (5, max(len(e.query) for e in examples))
    assert batch.query_samples == tuple(len(e.query) for e in examples)
    assert batch.labels == tuple(e.label for e in examples)
    for row, samples, example in zip(batch.queries, batch.query_samples, examples, strict=True):
        np.testing.assert_array_equal(row[:samples].numpy(), example.query)
        assert not row[samples:].any()
    assert batch.to(torch.float64).queries.dtype == torch.float64
    without = Collate(RATE)(draws(cache, Mixing(seconds=1.0), 2))
    assert (without.queries, without.query_samples, without.labels) == (None, None, None)
    assert without.to("cpu").queries is None


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"query_seconds": (2.0, 1.0)}, "query_seconds is"),
        ({"equaliser_db": 0.0}, "equaliser_db is 0"),
        ({"target_share": (0.5, 1.5), "looped": True}, "shares: give numbers between 0 and 1"),
        ({"target_share": (0.5, 0.6)}, "set looped=true"),
        ({"p_absent": 0.1, "looped": True}, "set query_seconds"),
        ({"looped": True, "mode": "min"}, "set mode=crop"),
    ],
)
def test_bad_recipes_are_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(SepnetError, match=told):
        Mixing(**settings)


@pytest.mark.skipif(not ESC10.is_dir(), reason=f"ESC-10 is not at {ESC10}")
def test_esc10_serves_every_class_of_its_last_fold(tmp_path: Path) -> None:
    manifest = index(ESC10, layout="classes", progress=False)[0].split("fold4")
    drawn = QueryList(split="fold4", n_mixtures=30, seconds=10.0, target_share=(0.3, 0.9))
    fixed = drawn.fixed_set(manifest, 16000)
    seen = {label for number in range(30) for label in fixed.labels(number)}
    assert seen == {*manifest.labels}
    for number in (0, 7, 29):
        mixed, asked = recordings(manifest, fixed.mixtures[number])
        assert not mixed & {*asked}
        assert fixed[number].audio.shape == (1, 160000)
