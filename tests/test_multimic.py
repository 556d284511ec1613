"""Fixed sets with several microphones: images, not dry sources, and the same for ever."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, white_noise, write_corpus

from sepnet.data.fixed_set import FixedSet, ListMixing
from sepnet.data.librimix import DrawnList, LibriMixList
from sepnet.data.manifest import Manifest
from sepnet.data.mixture_list import FileGain, FixedMixture, write_list
from sepnet.data.responses import MixingMatrix, ResponseBank, Responses, early_part
from sepnet.data.rooms import Room
from sepnet.types import SepnetError


@pytest.fixture(name="manifest")
def _manifest(tmp_path: Path) -> Manifest:
    return write_corpus(
        tmp_path / "corpus", {f"dev/s{k}/{k}.wav": white_noise(1500 + 10 * k, seed=k) for k in range(4)}
    )


MIXTURES = [
    FixedMixture("a", (FileGain("dev/s0/0.wav", 0.5), FileGain("dev/s1/1.wav", 1.0))),
    FixedMixture("b", (FileGain("dev/s2/2.wav", 0.25), FileGain("dev/s1/1.wav", 2.0))),
    FixedMixture("c", (FileGain("dev/s0/0.wav", 0.5), FileGain("dev/s1/1.wav", 1.0))),  # what "a" is made of
]
ROOM = Room(rt60_seconds=(0.1, 0.15), n_microphones=3)


def fixed_set(manifest: Manifest, responses: Responses | None, seed: int = 0, n: int = 3) -> FixedSet:
    return FixedSet(
        mixtures=MIXTURES[:n],
        manifest=manifest,
        sample_rate=RATE,
        mixing=ListMixing(responses=responses, response_seed=seed),
    )


@dataclass(frozen=True)
class Delays:
    """Source k reaches microphone c after 3 k + c samples, at half its level."""

    def draw_responses(self, rng: np.random.Generator, n_sources: int, sample_rate: int) -> np.ndarray:
        responses = np.zeros((n_sources, 4, 20), dtype=np.float32)
        for k in range(n_sources):
            for c in range(4):
                responses[k, c, 3 * k + c] = 0.5
        return responses


def test_references_are_images_at_channel_0_and_each_channel_is_the_sum_of_its_images(
    manifest: Manifest,
) -> None:
    dry, wet = fixed_set(manifest, None)[1], fixed_set(manifest, Delays())[1]
    time = dry.audio.shape[-1]
    assert wet.audio.shape == (4, time)
    assert wet.n_sources == 2
    for k in range(2):
        expected = torch.zeros(time)
        expected[3 * k :] = 0.5 * dry.references[k, : time - 3 * k]
        torch.testing.assert_close(wet.references[k], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(wet.references.sum(dim=0), wet.audio[0])
    for c in range(4):
        expected = torch.zeros(time)
        expected[c:] = wet.audio[0, : time - c]
        torch.testing.assert_close(wet.audio[c], expected, atol=1e-6, rtol=0)


def test_a_matrix_mixes_at_one_gain_for_each_source_and_microphone(manifest: Manifest) -> None:
    for dry, wet in zip(
        fixed_set(manifest, None), fixed_set(manifest, MixingMatrix(n_channels=3)), strict=True
    ):
        torch.testing.assert_close(wet.audio[:1], dry.audio)  # microphone 0 hears all at gain 1
        torch.testing.assert_close(wet.references, dry.references)
        gains = torch.linalg.lstsq(wet.references.T.double(), wet.audio.T.double()).solution
        torch.testing.assert_close(wet.references.T.double() @ gains, wet.audio.T.double(), atol=1e-6, rtol=0)
        assert gains.abs().max() <= 1.0001


@pytest.mark.parametrize("responses", [MixingMatrix(n_channels=2), ROOM], ids=["matrix", "room"])
def test_responses_depend_on_seed_and_id_alone(manifest: Manifest, responses: Responses) -> None:
    whole = fixed_set(manifest, responses)
    again = pickle.loads(pickle.dumps(whole))
    for index in (2, 0, 1):  # in whatever order, in whatever process
        assert torch.equal(again[index].audio, whole[index].audio)
    one = FixedSet(
        mixtures=MIXTURES[1:2], manifest=manifest, sample_rate=RATE, mixing=ListMixing(responses=responses)
    )
    assert torch.equal(one[0].audio, whole[1].audio)  # whatever else is in the list
    assert not torch.allclose(whole[0].audio[1], whole[2].audio[1], atol=1e-2)  # each has its own
    other = fixed_set(manifest, responses, seed=1)
    assert not torch.allclose(other[0].audio[1], whole[0].audio[1], atol=1e-2)


def test_the_fingerprint_tells_microphones_apart(manifest: Manifest) -> None:
    sets = [
        fixed_set(manifest, responses, seed)
        for responses in (None, MixingMatrix(), MixingMatrix(max_condition=5.0), ROOM, Room())
        for seed in (0, 1)
    ]
    prints = [each.fingerprint for each in sets]
    assert prints[0] == prints[1]  # without responses their seed plays no part
    assert len(set(prints[1:])) == len(prints) - 1
    assert fixed_set(manifest, Room()).fingerprint == prints[-2]


def test_lists_pass_the_microphones_on(manifest: Manifest, tmp_path: Path) -> None:
    write_list(tmp_path / "list.csv", MIXTURES)
    settings = {"responses": MixingMatrix(n_channels=5), "response_seed": 3}
    read = LibriMixList(csv=tmp_path / "list.csv", **settings).fixed_set(manifest, RATE)
    direct = fixed_set(manifest, MixingMatrix(n_channels=5), seed=3)
    assert read.fingerprint == direct.fingerprint
    assert torch.equal(read[2].audio, direct[2].audio)
    drawn = DrawnList(split="dev", n_mixtures=2, n_sources=3, **settings).fixed_set(manifest, RATE)
    assert drawn[0].audio.shape[0] == 5
    assert (
        drawn.fingerprint
        != DrawnList(split="dev", n_mixtures=2, n_sources=3).fixed_set(manifest, RATE).fingerprint
    )


@pytest.fixture(name="noisy_list")
def _noisy_list(tmp_path: Path) -> list[FixedMixture]:
    """The list with a noise for each mixture, in ``tmp_path``."""
    soundfile.write(tmp_path / "noise.wav", white_noise(9000, seed=9), RATE, subtype="FLOAT")
    return [replace(mixture, noise=FileGain("noise.wav", 0.5)) for mixture in MIXTURES]


def test_noise_of_one_microphone_is_refused_for_several(
    manifest: Manifest, noisy_list: list[FixedMixture], tmp_path: Path
) -> None:
    mixing = ListMixing(with_noise=True, noise_root=tmp_path, responses=MixingMatrix())
    with pytest.raises(SepnetError, match="have 2 channels, but the noise was recorded by one microphone"):
        FixedSet(mixtures=noisy_list, manifest=manifest, sample_rate=RATE, mixing=mixing)


def test_noise_is_added_to_a_room_of_one_microphone(
    manifest: Manifest, noisy_list: list[FixedMixture], tmp_path: Path
) -> None:
    room = Room(rt60_seconds=(0.1, 0.15), n_microphones=1)
    mixing = ListMixing(with_noise=True, noise_root=tmp_path, responses=room)
    noisy = FixedSet(mixtures=noisy_list, manifest=manifest, sample_rate=RATE, mixing=mixing)[0]
    clean = fixed_set(manifest, room)[0]
    noise = torch.from_numpy(0.5 * white_noise(9000, seed=9)[:1500])
    torch.testing.assert_close(noisy.audio - clean.audio, noise[None].float(), atol=1e-6, rtol=0)
    assert noisy.references is not None
    assert clean.references is not None
    assert torch.equal(noisy.references, clean.references)


def test_late_reflections_are_in_the_mixture_and_in_no_reference(manifest: Manifest) -> None:
    """What the references lack is what the later taps add, and the mixture is the same."""
    room = Room(rt60_seconds=(0.3, 0.3), n_microphones=1)
    whole, other = fixed_set(manifest, room), fixed_set(manifest, room)
    early = FixedSet(
        mixtures=MIXTURES,
        manifest=manifest,
        sample_rate=RATE,
        mixing=ListMixing(responses=room, early_seconds=0.02),
    )
    assert early.fingerprint != whole.fingerprint == other.fingerprint
    assert torch.equal(early[0].audio, whole[0].audio)
    assert early[0].references is not None
    assert whole[0].references is not None
    late = whole[0].references - early[0].references
    assert late[:, : round(0.02 * RATE)].abs().max() < 1e-6  # the direct path comes first
    power = [float(x.square().sum()) for x in (late, whole[0].references)]
    assert 0.003 * power[1] < power[0] < 0.5 * power[1]


@dataclass(frozen=True)
class CountedRooms:
    """Numbers its rooms as it draws them, and its sources."""

    drawn: list[int]

    def draw_responses(self, rng: np.random.Generator, n_sources: int, sample_rate: int) -> np.ndarray:
        self.drawn.append(n_sources)
        return np.full((n_sources, 1, 1), rng.uniform()) + 10 * np.arange(n_sources)[:, None, None]


def test_a_bank_draws_each_room_once_and_mixtures_draw_places() -> None:
    rooms = CountedRooms([])
    bank = ResponseBank(responses=rooms, n_rooms=3, n_places=4, seed=1)
    rng = np.random.default_rng(0)
    drawn = [bank.draw_responses(rng, 2, RATE)[:, 0, 0] for _ in range(200)]
    assert rooms.drawn == [4, 4, 4]
    assert len({round(float(gains[0] % 10), 6) for gains in drawn}) == 3
    assert {tuple((gains // 10).astype(int)) for gains in drawn} == {
        (a, b) for a in range(4) for b in range(4) if a != b
    }
    assert all(gains[0] % 10 == pytest.approx(gains[1] % 10) for gains in drawn)  # of one room
    other = pickle.loads(pickle.dumps(bank))
    again = np.random.default_rng(0)
    for gains in drawn[:20]:
        np.testing.assert_array_equal(other.draw_responses(again, 2, RATE)[:, 0, 0], gains)
    with pytest.raises(SepnetError, match="a mixture of 5 sources needs as many places in a room"):
        bank.draw_responses(rng, 5, RATE)


def test_the_early_part_of_a_response_counts_from_its_direct_path() -> None:
    responses = np.zeros((2, 12), dtype=np.float32)
    responses[0, [2, 5, 9]] = (0.8, -1.0, 0.1)  # a reflection may be louder than the direct path
    responses[1, [4, 7, 8]] = (1.0, 0.3, 0.2)
    early = early_part(responses, 3 / RATE, RATE)
    assert np.flatnonzero(early[0]).tolist() == [2, 5]
    assert np.flatnonzero(early[1]).tolist() == [4, 7]
    np.testing.assert_array_equal(early[early != 0], np.float32([0.8, -1.0, 1.0, 0.3]))
