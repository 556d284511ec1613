"""Simulated rooms with a linear array of microphones.

Rooms are shoeboxes by the image method [1] in pyroomacoustics [2], all walls with one absorption a. A
reverberation time T is reached by the choice of a. Sabine's and Eyring's formulas suppose a diffuse field,
which a shoebox does not have: they miss T by up to two fifths. Its own law is followed instead, in the
manner of [3]:

A sound that has travelled r metres in direction u has met the walls about r g(u) times, with

    g(u) = |u_x| / L_x + |u_y| / L_y + |u_z| / L_z                        (1)    walls met per metre

and has kept (1 - a) =: exp(-gamma) of its energy each time. The number of images in each shell of r makes
up for 1 / r^2, so that the energy arriving at r is the mean of exp(-gamma r g) over the directions, and
the energy still to come after r = s / gamma (Schroeder's curve) is

    D(s) = < exp(-s g) / g > / < 1 / g >                                  (2)

T is read off between -5 and -35 dB: D(s_5) = 10^-0.5, D(s_35) = 10^-3.5, T = 2 (s_35 - s_5) / (gamma c), or

    gamma = 2 (s_35 - s_5) / (c T),    a = 1 - exp(-gamma)                (3)

An image of order n has kept exp(-n gamma) of its energy: those beyond n = ln(10^6) / gamma lie MAX_DECAY_DB
down and are left out. Each reflection turns the sign, as in [3]: if all images were positive, they would
add up towards 0 Hz as in no room, and decay there far more slowly than T.

[1] Allen, Berkley: Image method for efficiently simulating small-room acoustics. JASA 65(4), 1979.
[2] Scheibler, Bezzam, Dokmanic: Pyroomacoustics. ICASSP 2018.
[3] Lehmann, Johansson: Prediction of energy decay in room impulse responses simulated with an image-source
    model. JASA 124(1), 2008.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from sepnet.types import SepnetError

SPEED_OF_SOUND = 343.0  # m/s, pyroomacoustics' own
MAX_DECAY_DB = 60.0
MAX_ABSORPTION = 0.95  # above, there is hardly a room left, and no decay to speak of
MAX_SINE_OF_ELEVATION = 0.5  # sources are around the microphones, not above them
MAX_DRAWS = 1000

Interval = Sequence[float]  # two numbers; a list, from YAML, becomes a tuple


@dataclass(frozen=True)
class Scene:
    """A drawn room.

    Attributes:
        size_m: (x, y, z), in m.
        rt60_seconds: Reverberation time.
        absorption: Of the walls, 0 to 1.
        microphones_m: (channel, 3), positions in m.
        sources_m: (source, 3), positions in m.
    """

    size_m: Float[np.ndarray, "xyz=3"]
    rt60_seconds: float
    absorption: float
    microphones_m: Float[np.ndarray, "channel xyz=3"]
    sources_m: Float[np.ndarray, "source xyz=3"]


@dataclass(frozen=True, kw_only=True)
class Room:
    """Rooms with a linear array of microphones. Intervals are drawn from uniformly; lengths are in m.

    A size and an RT60 that would need an absorption above MAX_ABSORPTION, and positions that don't fit,
    are drawn again: large rooms with short RT60 are therefore rarer than the intervals say.

    Args:
        length_m: Interval of the length.
        width_m: Interval of the width.
        height_m: Interval of the height.
        rt60_seconds: Interval of the reverberation time.
        distance_m: Interval of the distance from a source to microphone 0.
        n_microphones: Number of microphones.
        spacing_m: Distance between neighbouring microphones, along a drawn horizontal line.
        margin_m: Smallest distance of everything from the walls.

    Raises:
        SepnetError: pyroomacoustics is not installed, or an interval is impossible.
    """

    length_m: Interval = (4.0, 8.0)
    width_m: Interval = (3.0, 6.0)
    height_m: Interval = (2.5, 3.5)
    rt60_seconds: Interval = (0.1, 0.5)
    distance_m: Interval = (0.5, 2.0)
    n_microphones: int = 2
    spacing_m: float = 0.05
    margin_m: float = 0.3

    def __post_init__(self) -> None:
        _pyroomacoustics()
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, tuple):
                object.__setattr__(self, field.name, tuple(value))
                if len(value) != 2 or not 0 < value[0] <= value[1]:
                    raise SepnetError(
                        f"{field.name} is {list(value)}: give two positive numbers, the smaller first"
                    )
        if self.n_microphones < 1 or self.spacing_m <= 0 or self.margin_m < 0:
            raise SepnetError(
                f"n_microphones={self.n_microphones}, spacing_m={self.spacing_m}, margin_m={self.margin_m}: "
                "there is at least one microphone, a positive spacing and no negative margin"
            )

    def draw_responses(
        self, rng: np.random.Generator, n_sources: int, sample_rate: int
    ) -> Float32[np.ndarray, "source channel tap"]:
        """Draw the responses of one room, a pure function of the generator's state.

        Args:
            rng: The generator.
            n_sources: Number of sources.
            sample_rate: In Hz.

        Returns:
            See ``compute_responses``.

        Raises:
            SepnetError: No room fits in MAX_DRAWS draws.
        """
        return compute_responses(self.draw_scene(rng, n_sources), sample_rate)

    def draw_scene(self, rng: np.random.Generator, n_sources: int) -> Scene:
        """Draw a room and the positions in it.

        Args:
            rng: The generator.
            n_sources: Number of sources.

        Raises:
            SepnetError: No room fits in MAX_DRAWS draws.
        """
        for _ in range(MAX_DRAWS):
            sides = (self.length_m, self.width_m, self.height_m)
            size_m = np.array([rng.uniform(low, high) for low, high in sides])
            rt60_seconds = rng.uniform(self.rt60_seconds[0], self.rt60_seconds[1])
            absorption = compute_absorption(size_m, rt60_seconds)
            if absorption > MAX_ABSORPTION:
                continue
            microphones_m = self._draw_microphones(rng, size_m)
            if not self._is_inside(microphones_m, size_m):
                continue
            candidates = self._draw_around(rng, microphones_m[0], n_sources)
            inside = [place for place in candidates if self._is_inside(place, size_m)]
            if len(inside) >= n_sources:
                return Scene(size_m, rt60_seconds, absorption, microphones_m, np.stack(inside[:n_sources]))
        raise SepnetError(
            f"no room fits in {MAX_DRAWS} draws: {self.n_microphones} microphones {self.spacing_m} m apart "
            f"and {n_sources} sources at {list(self.distance_m)} m, all {self.margin_m} m off the walls, "
            f"an RT60 of {list(self.rt60_seconds)} s at an absorption up to {MAX_ABSORPTION}: allow other "
            "rooms, shorter distances or a longer RT60"
        )

    def _draw_microphones(self, rng: np.random.Generator, size_m: np.ndarray) -> np.ndarray:
        """(channel, 3): a horizontal line, microphone 0 at one end."""
        spare = np.maximum(size_m / 2 - self.margin_m, 0.0)
        centre = size_m / 2 + rng.uniform(-1, 1, size=3) * spare
        azimuth = rng.uniform(0, 2 * np.pi)
        along = (np.arange(self.n_microphones) - (self.n_microphones - 1) / 2) * self.spacing_m
        direction = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
        line: np.ndarray = centre + along[:, None] * direction
        return line

    def _draw_around(self, rng: np.random.Generator, centre: np.ndarray, n_sources: int) -> np.ndarray:
        """(candidate, 3): several places for each source, for not all of them are inside the room."""
        n = 10 * n_sources
        distance = rng.uniform(self.distance_m[0], self.distance_m[1], size=n)
        azimuth = rng.uniform(0, 2 * np.pi, size=n)
        sine = rng.uniform(-MAX_SINE_OF_ELEVATION, MAX_SINE_OF_ELEVATION, size=n)
        cosine = np.sqrt(1 - sine**2)
        direction = np.stack([cosine * np.cos(azimuth), cosine * np.sin(azimuth), sine], axis=-1)
        around: np.ndarray = centre + distance[:, None] * direction
        return around

    def _is_inside(self, places_m: np.ndarray, size_m: np.ndarray) -> bool:
        return bool(np.all((places_m >= self.margin_m) & (places_m <= size_m - self.margin_m)))


def compute_absorption(size_m: Float[np.ndarray, "xyz=3"], rt60_seconds: float) -> float:
    """Compute the absorption with which a shoebox decays by 60 dB in ``rt60_seconds``.

    Args:
        size_m: (x, y, z), in m.
        rt60_seconds: Reverberation time.

    Returns:
        The share of energy that the walls absorb, 0 to 1.
    """
    n = 256
    # Directions spread evenly over one octant: the others mirror it.
    z = (np.arange(n) + 0.5) / n
    azimuth = np.pi / 2 * ((np.arange(n) * (math.sqrt(5) - 1) / 2) % 1)
    cosine = np.sqrt(1 - z**2)
    directions = np.stack([cosine * np.cos(azimuth), cosine * np.sin(azimuth), z], axis=-1)
    walls_per_m = directions @ (1 / size_m)  # (1)
    # D(s) < exp(-s / max(L)), as g > 1 / max(L): by this s, D has fallen by more than 35 dB.
    s = np.linspace(0, 8.1 * size_m.max(), 512)
    decay = (np.exp(-np.outer(s, walls_per_m)) / walls_per_m).mean(axis=1) / (1 / walls_per_m).mean()  # (2)
    s_5, s_35 = np.interp([5, 35], -10 * np.log10(decay), s)
    gamma = 2 * (s_35 - s_5) / (SPEED_OF_SOUND * rt60_seconds)  # (3)
    return float(1 - np.exp(-gamma))


def compute_responses(scene: Scene, sample_rate: int) -> Float32[np.ndarray, "source channel tap"]:
    """Compute the impulse responses of a room, scaled to direct paths of gain 1 at microphone 0.

    Tap 0 is the emission: the direct path arrives after distance / SPEED_OF_SOUND seconds and the images
    keep their propagation delays. They end RT60 after the latest direct path. At 8 kHz a response takes
    some 3 ms (RT60 of 0.1 s) to 80 ms (0.5 s), times the number of sources and microphones.

    Args:
        scene: The room.
        sample_rate: In Hz.

    Returns:
        (source, channel, tap).
    """
    pra = _pyroomacoustics()
    gamma = -math.log1p(-scene.absorption)
    room = pra.ShoeBox(
        scene.size_m,
        fs=sample_rate,
        materials=pra.Material(scene.absorption),
        max_order=math.ceil(MAX_DECAY_DB / 10 * math.log(10) / gamma),
    )
    for position in scene.sources_m:
        room.add_source(position)
    room.add_microphone_array(scene.microphones_m.T)
    with _constants(pra, num_threads=1, rir_hpf_enable=False):
        room.image_source_model()
        for placed in room.sources:
            placed.damping = placed.damping * (-1.0) ** placed.orders
        room.compute_rir()
    # (source, 1, 3) - (channel, 3) -> (source, channel)
    distance_m = np.linalg.norm(scene.sources_m[:, None] - scene.microphones_m, axis=-1)
    # pyroomacoustics' filters of fractional delays are centred half their length after time 0.
    early = pra.constants.get("frac_delay_length") // 2
    taps = math.ceil((distance_m.max() / SPEED_OF_SOUND + scene.rt60_seconds) * sample_rate)
    responses = np.zeros((*distance_m.shape, taps), dtype=np.float32)
    for channel, of_sources in enumerate(room.rir):
        for source, response in enumerate(of_sources):
            kept = response[early : early + taps]
            responses[source, channel, : len(kept)] = kept * distance_m[source, 0]  # it falls as 1 / distance
    return responses


@contextmanager
def _constants(pra: Any, **values: Any) -> Iterator[None]:
    """Set some of pyroomacoustics' constants for a while.

    More threads than one would round differently, and crowd a data loader's workers. Its high-pass filter
    (10 Hz) runs backwards as well as forwards: the room would sound before the direct path.
    """
    before = {name: pra.constants.get(name) for name in values}
    try:
        for name, value in values.items():
            pra.constants.set(name, value)
        yield
    finally:
        for name, value in before.items():
            pra.constants.set(name, value)


def _pyroomacoustics() -> Any:
    try:
        import pyroomacoustics
    except ImportError as error:
        raise SepnetError(
            "simulated rooms need the package pyroomacoustics, which is not installed: "
            "pip install 'sepnet[rooms]'"
        ) from error
    return pyroomacoustics
