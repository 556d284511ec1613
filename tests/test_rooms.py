"""Rooms obey acoustics, matrices are invertible, and both are pure functions of their generator."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest

from sepnet.data import rooms
from sepnet.data.responses import MixingMatrix, convolve
from sepnet.data.rooms import Room, Scene, compute_absorption, compute_responses
from sepnet.types import SepnetError

RATE = 8000
STEP = rooms.SPEED_OF_SOUND / RATE  # metres a sample
SPREAD = ((0.71, 0.42, 0.55), (0.2, 0.3, 0.4), (0.85, 0.81, 0.6), (0.13, 0.77, 0.35), (0.52, 0.16, 0.7))


def scene(
    size: tuple[float, float, float],
    rt60_seconds: float,
    *,
    absorption: float | None = None,
    sources: tuple[tuple[float, float, float], ...] = ((0.71, 0.42, 0.55),),
    microphones: tuple[tuple[float, float, float], ...] = ((0.34, 0.61, 0.47),),
) -> Scene:
    """A room with its positions as fractions of its size."""
    size_m = np.array(size)
    return Scene(
        size_m,
        rt60_seconds,
        compute_absorption(size_m, rt60_seconds) if absorption is None else absorption,
        np.array(microphones) * size_m,
        np.array(sources) * size_m,
    )


def measured_rt60(response: np.ndarray, after: int) -> float:
    """T30 by Schroeder's backward integration, of what follows sample ``after``, in seconds."""
    energy = np.cumsum(response[after:][::-1].astype(np.float64) ** 2)[::-1]
    level_db = 10 * np.log10(energy / energy[0] + 1e-15)
    return float(2 * (np.argmax(level_db < -35) - np.argmax(level_db < -5)) / RATE)


@pytest.mark.parametrize("size", [(4.2, 3.1, 2.6), (6.0, 5.0, 3.0), (7.8, 5.7, 3.4)])
@pytest.mark.parametrize("rt60_seconds", [0.15, 0.25, 0.4])
def test_measured_rt60_is_the_one_asked_for(size: tuple[float, float, float], rt60_seconds: float) -> None:
    room = scene(size, rt60_seconds, sources=SPREAD)
    responses = compute_responses(room, RATE)[:, 0]
    direct = np.linalg.norm(room.sources_m - room.microphones_m, axis=1) / STEP
    # The direct sound is no part of the decay. Any one position strays by 10 %; Sabine's absorption misses
    # by up to two fifths here.
    measured = [measured_rt60(h, round(d) + 20) for h, d in zip(responses, direct, strict=True)]
    assert np.mean(measured) == pytest.approx(rt60_seconds, rel=0.1)


def test_absorption_scales_with_the_room_and_lies_between_axis_and_diagonal() -> None:
    # T scales as the size: one absorption for all cubes of the same L / T.
    small, large = compute_absorption(np.full(3, 2.0), 0.2), compute_absorption(np.full(3, 6.0), 0.6)
    assert small == pytest.approx(large, rel=1e-9)
    # Between the walls met per metre along an axis (1 / L) and along a diagonal (sqrt 3 / L).
    gamma = -np.log(1 - small)
    nepers_per_m = np.log(1e6) / (rooms.SPEED_OF_SOUND * 0.2)
    assert nepers_per_m * 2.0 / np.sqrt(3) < gamma < nepers_per_m * 2.0


def test_direct_path_arrives_at_the_speed_of_sound_with_gain_one_over_distance() -> None:
    room = scene(
        (7.0, 5.0, 3.0),
        0.1,
        absorption=0.999999,  # hardly a wall: nothing but the direct path
        sources=((0.8, 0.5, 0.5), (0.45, 0.3, 0.6)),
        microphones=((0.2, 0.4, 0.5), (0.3, 0.7, 0.5)),
    )
    responses = compute_responses(room, RATE)
    for source in range(2):
        distances = [float(np.linalg.norm(room.sources_m[source] - m)) for m in room.microphones_m]
        for channel, distance in enumerate(distances):
            response = responses[source, channel].astype(np.float64)
            # A delay of d samples turns the phase by -2 pi f d: its slope over the band gives d.
            spectrum = np.fft.rfft(response, 4096)[200:1400]
            slope = np.polyfit(np.arange(200, 1400), np.unwrap(np.angle(spectrum)), 1)[0]
            assert -slope * 4096 / (2 * np.pi) == pytest.approx(distance / STEP, abs=0.1)
            assert np.abs(spectrum).mean() == pytest.approx(distances[0] / distance, rel=0.03)


def test_nothing_arrives_before_the_direct_path() -> None:
    room = scene((7.0, 5.0, 3.0), 0.3, sources=((0.9, 0.9, 0.5),), microphones=((0.1, 0.1, 0.5),))
    response = compute_responses(room, RATE)[0, 0]
    direct = int(np.linalg.norm(room.sources_m[0] - room.microphones_m[0]) / STEP)
    assert np.sum(response[: direct - 40] ** 2) < 1e-4 * np.sum(response**2)
    assert len(response) == pytest.approx(direct + 0.3 * RATE, abs=2)


def test_leaving_out_high_orders_leaves_out_nothing_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    room = scene((4.2, 3.1, 2.6), 0.2)
    response = compute_responses(room, RATE)
    monkeypatch.setattr(rooms, "MAX_DECAY_DB", 120.0)
    fuller = compute_responses(room, RATE)
    assert 0 < np.sum((fuller - response) ** 2) < 1e-5 * np.sum(fuller**2)


def test_scenes_keep_to_the_intervals() -> None:
    room = Room(n_microphones=3, spacing_m=0.2, distance_m=(0.6, 1.5), rt60_seconds=(0.2, 0.4))
    rng = np.random.default_rng(0)
    for _ in range(50):
        drawn = room.draw_scene(rng, 3)
        places = np.concatenate([drawn.microphones_m, drawn.sources_m])
        assert places.shape == (6, 3)
        assert np.all(places >= 0.3 - 1e-9)
        assert np.all(places <= drawn.size_m - 0.3 + 1e-9)
        distances = np.linalg.norm(drawn.sources_m - drawn.microphones_m[0], axis=1)
        assert np.all((distances >= 0.6 - 1e-9) & (distances <= 1.5 + 1e-9))
        assert np.linalg.norm(np.diff(drawn.microphones_m, axis=0), axis=1) == pytest.approx([0.2, 0.2])
        assert 0.2 <= drawn.rt60_seconds <= 0.4
        assert drawn.absorption == compute_absorption(drawn.size_m, drawn.rt60_seconds)


@pytest.mark.parametrize("maker", [Room(n_microphones=2, rt60_seconds=(0.1, 0.2)), MixingMatrix()])
def test_responses_depend_on_the_generator_alone(maker: Room | MixingMatrix) -> None:
    first = maker.draw_responses(np.random.default_rng(7), 2, RATE)
    other = maker.draw_responses(np.random.default_rng(8), 2, RATE)
    again = maker.draw_responses(np.random.default_rng(7), 2, RATE)
    assert first.dtype == np.float32
    assert first.shape[:2] == (2, 2)
    assert np.isfinite(first).all()
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)


def test_draws_leave_the_constants_of_pyroomacoustics_as_they_were() -> None:
    import pyroomacoustics

    names = ("num_threads", "rir_hpf_enable")
    before = [pyroomacoustics.constants.get(name) for name in names]
    Room(rt60_seconds=(0.1, 0.1)).draw_responses(np.random.default_rng(0), 1, RATE)
    assert [pyroomacoustics.constants.get(name) for name in names] == before


@pytest.mark.parametrize("maker", [Room(n_microphones=2, rt60_seconds=(0.1, 0.2)), MixingMatrix()])
def test_mixing_is_linear(maker: Room | MixingMatrix) -> None:
    rng = np.random.default_rng(1)
    sources = rng.standard_normal((2, 3000))
    responses = maker.draw_responses(rng, 2, RATE).astype(np.float64)
    images = convolve(sources, responses)
    assert images.shape == (2, 2, 3000)
    in_one_place = responses[[0, 0]]
    scaled = convolve(np.stack([2 * sources[0] - 3 * sources[1], sources[0]]), in_one_place)[0]
    first, second = convolve(sources, in_one_place)
    np.testing.assert_allclose(scaled, 2 * first - 3 * second, atol=1e-9)
    # Against the definition of a convolution, sample by sample.
    for channel in range(2):
        direct = np.convolve(sources[1], responses[1, channel])[:3000]
        np.testing.assert_allclose(images[1][channel], direct, atol=1e-9)


def test_images_keep_the_order_of_magnitude_of_the_source() -> None:
    rng = np.random.default_rng(2)
    gains_db = [
        10 * np.log10(np.sum(Room(rt60_seconds=(0.1, 0.3)).draw_responses(rng, 1, RATE) ** 2))
        for _ in range(20)
    ]
    assert min(gains_db) > -1.0
    assert max(gains_db) < 10.0


@pytest.mark.parametrize(("n_channels", "n_sources"), [(1, 2), (2, 2), (3, 3), (4, 2), (2, 4)])
def test_matrices_are_well_conditioned(n_channels: int, n_sources: int) -> None:
    rng = np.random.default_rng(3)
    matrix = MixingMatrix(n_channels=n_channels, max_condition=5.0)
    for _ in range(100):
        responses = matrix.draw_responses(rng, n_sources, RATE)
        assert responses.shape == (n_sources, n_channels, 1)
        singular = np.linalg.svd(responses[..., 0], compute_uv=False)
        assert singular.max() / singular.min() <= 5.0 * (1 + 1e-5)
        assert np.all(responses[:, 0] == 1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Room(rt60_seconds=(0.5, 0.1)), "rt60_seconds is"),
        (lambda: Room(distance_m=(0.0, 1.0)), "distance_m is"),
        (lambda: Room(n_microphones=0), "n_microphones=0"),
        (lambda: MixingMatrix(n_channels=0), "n_channels=0"),
        (lambda: MixingMatrix(max_condition=1.0), "max_condition=1.0"),
        (lambda: Room(distance_m=(30.0, 40.0)).draw_scene(np.random.default_rng(0), 1), "no room fits"),
        (lambda: Room(rt60_seconds=(0.01, 0.02)).draw_scene(np.random.default_rng(0), 1), "no room fits"),
        (
            lambda: MixingMatrix(n_channels=6, max_condition=1.1).draw_responses(
                np.random.default_rng(0), 6, RATE
            ),
            "raise max_condition",
        ),
    ],
)
def test_what_can_not_be_is_refused(make: Any, words: str) -> None:
    with pytest.raises(SepnetError, match=words):
        make()


def test_missing_package_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "pyroomacoustics":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SepnetError, match=r"pip install 'sepnet\[rooms\]'"):
        Room()
    MixingMatrix()  # needs no package
