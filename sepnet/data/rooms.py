"""From dry sources to microphones: simulated rooms and instantaneous mixing matrices.

Both draw impulse responses (source, channel, tap) with one method, ``draw_responses``, so that mixing code
treats them alike: the image of a source at a microphone is the source convolved with its response.

Rooms are shoeboxes by the image method [1] in pyroomacoustics [2], all walls with one absorption a. To ask
for a reverberation time T means to choose a. Sabine's and Eyring's formulas suppose a diffuse field, which
a shoebox has not: they miss T by up to two fifths. Its own law is followed instead, in the manner of [3]:

A sound that has travelled r metres in direction u has met the walls about r g(u) times, with

    g(u) = |u_x| / L_x + |u_y| / L_y + |u_z| / L_z                        (1)    walls met per metre

and each time has kept (1 - a) =: exp(-gamma) of its energy. As many images lie in each shell of r as make
up for 1 / r^2, so that the energy arriving at r is the mean of exp(-gamma r g) over the directions, and
the energy still to come after r = s / gamma (Schroeder's curve) is

    D(s) = < exp(-s g) / g > / < 1 / g >                                  (2)

T is read off between -5 and -35 dB: D(s_5) = 10^-0.5, D(s_35) = 10^-3.5, T = 2 (s_35 - s_5) / (gamma c), or

    gamma = 2 (s_35 - s_5) / (c T),    a = 1 - exp(-gamma)                (3)

An image of order n has kept exp(-n gamma) of its energy: those beyond n = ln(10^6) / gamma lie LEFT_OUT_DB
down and are left out. Each reflection turns the sign, as in [3]: with all images positive they would add
up towards 0 Hz as in no room, and decay there far more slowly than T.

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
from scipy.signal import fftconvolve

from sepnet.types import SepnetError

SPEED_OF_SOUND = 343.0  # m/s, pyroomacoustics' own
LEFT_OUT_DB = 60.0
MAX_ABSORPTION = 0.95  # above, there is hardly a room left, and no decay to speak of
MAX_SINE_OF_ELEVATION = 0.5  # sources stand and sit around the microphones, they don't hang above
DRAWS = 1000

Interval = Sequence[float]  # two numbers; a list, from YAML, becomes a tuple


def convolve(
    source: Float[np.ndarray, " time"], responses: Float[np.ndarray, "channel tap"]
) -> Float[np.ndarray, "channel time"]:
    """The images of ``source`` at the microphones, cut to its length; what rings on after its end is lost.

    Image and source are aligned as the responses are: time 0 of both is when the source emits.
    """
    # (1, time) * (channel, tap) -> (channel, time + tap - 1)
    images: np.ndarray = fftconvolve(source[None], responses, axes=-1)
    return images[:, : source.shape[-1]].astype(source.dtype)


@dataclass(frozen=True)
class Scene:
    """A drawn room: its size (x, y, z) in m, its RT60 and absorption, and the positions in it (m)."""

    size_m: Float[np.ndarray, "xyz=3"]
    rt60_seconds: float
    absorption: float
    microphones_m: Float[np.ndarray, "channel xyz=3"]
    sources_m: Float[np.ndarray, "source xyz=3"]


@dataclass(frozen=True, kw_only=True)
class Room:
    """Rooms with a linear array of microphones. Intervals are uniform; lengths in m.

    distance_m: from a source to microphone 0. spacing_m: between neighbouring microphones, along a drawn
    horizontal line. margin_m: everything stays this far from the walls.

    A size and an RT60 that would need an absorption above MAX_ABSORPTION, and positions that don't fit,
    are drawn again: large rooms with short RT60 are therefore rarer than the intervals say. Raises
    SepnetError without pyroomacoustics and for intervals that can't be; ``draw_responses`` raises it if
    DRAWS draws fit nothing.
    """

    length_m: Interval = (4.0, 8.0)
    width_m: Interval = (3.0, 6.0)
    height_m: Interval = (2.5, 3.5)
    rt60_seconds: Interval = (0.1, 0.5)
    distance_m: Interval = (0.5, 2.0)
    n_microphones: int = 1
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
        """The responses of one room, a pure function of the generator's state. See ``responses_of``."""
        return responses_of(self.draw_scene(rng, n_sources), sample_rate)

    def draw_scene(self, rng: np.random.Generator, n_sources: int) -> Scene:
        """A room with everything in its place."""
        for _ in range(DRAWS):
            sides = (self.length_m, self.width_m, self.height_m)
            size_m = np.array([rng.uniform(low, high) for low, high in sides])
            rt60_seconds = rng.uniform(self.rt60_seconds[0], self.rt60_seconds[1])
            absorption = absorption_for(size_m, rt60_seconds)
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
            f"in {DRAWS} draws no room fitted: {self.n_microphones} microphones {self.spacing_m} m apart and "
            f"{n_sources} sources at {list(self.distance_m)} m, all {self.margin_m} m off the walls, with an "
            f"RT60 of {list(self.rt60_seconds)} s at an absorption of up to {MAX_ABSORPTION}: allow other "
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


@dataclass(frozen=True, kw_only=True)
class MixingMatrix:
    """Instantaneous mixing: each response is one tap, a gain. Microphone 0 hears all sources at gain 1.

    The gains at the other microphones are uniform in -1 to 1, drawn again until the matrix's condition
    number (largest over smallest singular value) is at most ``max_condition``, so that a method which
    finds the matrix can invert it. Raises SepnetError if DRAWS draws find none.
    """

    n_channels: int = 2
    max_condition: float = 10.0

    def __post_init__(self) -> None:
        if self.n_channels < 1 or self.max_condition <= 1:
            raise SepnetError(
                f"n_channels={self.n_channels} has to be at least 1, "
                f"and max_condition={self.max_condition} above 1"
            )

    def draw_responses(
        self, rng: np.random.Generator, n_sources: int, sample_rate: int
    ) -> Float32[np.ndarray, "source channel 1"]:
        """A pure function of the generator's state; ``sample_rate`` plays no part."""
        for _ in range(DRAWS):
            gains = rng.uniform(-1, 1, size=(n_sources, self.n_channels)).astype(np.float32)
            gains[:, 0] = 1.0
            if np.linalg.cond(gains.astype(np.float64)) <= self.max_condition:
                return gains[..., None]
        raise SepnetError(
            f"in {DRAWS} draws no matrix of {self.n_channels} channels and {n_sources} sources had a "
            f"condition number of up to {self.max_condition}: raise max_condition"
        )


def absorption_for(size_m: Float[np.ndarray, "xyz=3"], rt60_seconds: float) -> float:
    """The walls' absorption of energy, 0 to 1, with which a shoebox decays by 60 dB in ``rt60_seconds``."""
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


def responses_of(scene: Scene, sample_rate: int) -> Float32[np.ndarray, "source channel tap"]:
    """The impulse responses of a room, each source's scaled to a direct path of gain 1 at microphone 0.

    Tap 0 is the emission: the direct path arrives after distance / SPEED_OF_SOUND seconds and the images
    keep their propagation delays. They end RT60 after the latest direct path. At 8 kHz a response takes
    some 3 ms (RT60 of 0.1 s) to 80 ms (0.5 s), times the number of sources and microphones.
    """
    pra = _pyroomacoustics()
    gamma = -math.log1p(-scene.absorption)
    room = pra.ShoeBox(
        scene.size_m,
        fs=sample_rate,
        materials=pra.Material(scene.absorption),
        max_order=math.ceil(LEFT_OUT_DB / 10 * math.log(10) / gamma),
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
