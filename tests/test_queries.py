"""Queries of fixed sets: another recording of the same speaker, chosen once and for all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sepnet.data import audio
from sepnet.data.fixed_set import FixedSet, ListMixing
from sepnet.data.indexing import index
from sepnet.data.librimix import DrawnList
from sepnet.data.list_drawing import ListRecipe, draw_list
from sepnet.data.manifest import Manifest
from sepnet.data.mixture_list import FileGain, FixedMixture
from sepnet.data.queries import QueryChooser, loudest
from sepnet.types import SepnetError

RATE = 8000


def corpus(root: Path, *, n_each: int = 4) -> Manifest:
    """Three speakers, each at an amplitude of its own, and one with a single recording."""
    rng = np.random.default_rng(0)
    for speaker, count in {"a": n_each, "b": n_each, "c": n_each, "lonely": 1}.items():
        for number in range(count):
            samples = 0.1 * rng.standard_normal((1, RATE if number else 3 * RATE)).astype(np.float32)
            audio.write(root / "dev" / speaker / f"{speaker}-{number}.wav", samples, RATE)
    return index(root, progress=False)[0]


def sources_of(mixture: FixedMixture) -> list[str]:
    return [path for path, _ in mixture.sources]


def test_a_query_is_another_recording_of_the_same_speaker(tmp_path: Path) -> None:
    manifest = corpus(tmp_path)
    speakers = {utterance.path: utterance.speaker for utterance in manifest}
    mixtures = draw_list(
        replace(manifest, utterances=tuple(u for u in manifest if u.speaker != "lonely")),
        ListRecipe(n_mixtures=12),
    )
    chooser = QueryChooser(manifest, 0.5)
    for mixture in mixtures:
        paths = sources_of(mixture)
        chosen = chooser.choose(mixture.id, paths)
        assert chosen is not None
        assert [u.speaker for u in chosen] == [speakers[path] for path in paths]
        assert not {u.path for u in chosen} & set(paths)
    assert len({chooser.choose(str(n), ["dev/a/a-1.wav"])[0].path for n in range(40)}) == 3  # all but itself


def test_the_choice_depends_on_the_mixture_alone(tmp_path: Path) -> None:
    manifest = corpus(tmp_path)
    mixtures = [
        FixedMixture(str(n), (FileGain("dev/a/a-0.wav", 1.0), FileGain("dev/b/b-1.wav", 1.0)))
        for n in range(6)
    ]
    both = [
        FixedSet(mixtures=order, manifest=manifest, sample_rate=RATE, mixing=ListMixing(query_seconds=0.5))
        for order in (mixtures, mixtures[::-1])
    ]
    for one, other in zip(both[0], list(both[1])[::-1], strict=True):
        assert one.queries is not None
        assert other.queries is not None
        for left, right in zip(one.queries, other.queries, strict=True):
            assert torch.equal(left.audio, right.audio)
            assert left.audio.shape == (RATE // 2,)
        assert [query.label for query in one.queries] == ["a", "b"]
        assert one.queries[0].sample_rate == RATE


def test_recordings_that_are_long_enough_come_first(tmp_path: Path) -> None:
    chooser = QueryChooser(corpus(tmp_path), 2.0)
    for name in map(str, range(10)):
        assert chooser.choose(name, ["dev/a/a-1.wav"])[0].path == "dev/a/a-0.wav"  # the only one of 3 s
        assert chooser.choose(name, ["dev/a/a-0.wav"])[0].seconds == 1.0  # else the longest there is


def test_where_there_is_no_other_recording_there_is_no_query(tmp_path: Path) -> None:
    manifest = corpus(tmp_path)
    mixtures = [FixedMixture("m", (FileGain("dev/a/a-0.wav", 1.0), FileGain("dev/lonely/lonely-0.wav", 1.0)))]
    fixed = FixedSet(
        mixtures=mixtures, manifest=manifest, sample_rate=RATE, mixing=ListMixing(query_seconds=1.0)
    )
    assert fixed[0].queries is None
    assert len(fixed.fingerprint) == 16


def test_a_query_at_another_rate_is_resampled(tmp_path: Path) -> None:
    manifest = corpus(tmp_path)
    mixtures = [FixedMixture("m", (FileGain("dev/a/a-1.wav", 1.0), FileGain("dev/b/b-1.wav", 1.0)))]
    (mixture,) = FixedSet(
        mixtures=mixtures, manifest=manifest, sample_rate=RATE // 2, mixing=ListMixing(query_seconds=0.5)
    )
    assert mixture.queries is not None
    assert [(query.sample_rate, len(query.audio)) for query in mixture.queries] == [
        (RATE // 2, RATE // 4)
    ] * 2


def test_the_excerpt_is_where_the_energy_is() -> None:
    samples = 0.01 * np.random.default_rng(1).standard_normal(1000).astype(np.float32)
    samples[600:700] += 1.0
    np.testing.assert_array_equal(loudest(samples, 100), samples[600:700])
    np.testing.assert_array_equal(loudest(samples, 1000), samples)
    np.testing.assert_array_equal(loudest(samples, 5000), samples)


def test_the_fingerprint_follows_the_queries(tmp_path: Path) -> None:
    manifest = corpus(tmp_path)

    def fingerprint(seconds: float | None, of: Manifest = manifest) -> str:
        drawn = DrawnList(split="dev", n_mixtures=3, query_seconds=seconds)
        return drawn.fixed_set(of, RATE).fingerprint

    used = {path for mixture in draw_list(manifest, ListRecipe(n_mixtures=3)) for path in sources_of(mixture)}
    others = replace(
        manifest, utterances=tuple(u if u.path in used else replace(u, sha1="0") for u in manifest)
    )
    assert len({fingerprint(None), fingerprint(1.0), fingerprint(2.0)}) == 3
    assert fingerprint(1.0, others) != fingerprint(1.0)
    assert fingerprint(None, others) == fingerprint(None)
    with pytest.raises(SepnetError, match=r"query_seconds is 0\.0"):
        fingerprint(0.0)
