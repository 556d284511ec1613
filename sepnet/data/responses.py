"""From sources to microphones: impulse responses, and instantaneous mixing matrices.

Rooms (``sepnet.data.rooms``) and matrices draw impulse responses (source, channel, tap) with one method,
``draw_responses``, so that mixing code treats them alike: the image of a source at a microphone is the source
convolved with its response. The early part of a response is the direct path with the first reflections; what
comes later is reverberation, which makes speech hard to understand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import scipy
from jaxtyping import Float, Float32

from sepnet.ranges import LayerSize, NumberOfSources, PositiveInt, Seed
from sepnet.types import SepnetError

MAX_DRAWS = 1000


@runtime_checkable
class Responses(Protocol):
    """Draws impulse responses: a room or a mixing matrix."""

    def draw_responses(
        self, rng: np.random.Generator, n_sources: int, sample_rate: int
    ) -> Float[np.ndarray, "source channel tap"]:
        """Draw one impulse response for each source and channel."""
        ...


def convolve(
    sources: Float[np.ndarray, "source time"], responses: Float[np.ndarray, "source channel tap"]
) -> Float[np.ndarray, "source channel time"]:
    """Compute the images of sources at the microphones.

    Images and sources are aligned as the responses are: time 0 of both is when the source emits. What rings
    on after the end of the source is cut off.

    Args:
        sources: (source, time).
        responses: (source, channel, tap).

    Returns:
        (source, channel, time).
    """
    # (source, 1, time) * (source, channel, tap) -> (source, channel, time + tap - 1)
    images: np.ndarray = scipy.signal.fftconvolve(sources[:, None], responses, axes=-1)
    return images[..., : sources.shape[-1]].astype(sources.dtype)


def mix_in_room(
    sources: Float[np.ndarray, "source time"],
    responses: Float[np.ndarray, "source channel tap"],
    *,
    early_seconds: float | None,
    sample_rate: int,
) -> tuple[Float[np.ndarray, "channel time"], Float[np.ndarray, "source time"]]:
    """Mix sources in a room.

    Args:
        sources: (source, time).
        responses: (source, channel, tap).
        early_seconds: How long after its direct path a reflection still belongs to a source; None: all do.
        sample_rate: In Hz.

    Returns:
        The mixture (channel, time), and the sources as channel 0 hears them (source, time).
    """
    images = convolve(sources, responses)
    heard = images
    if early_seconds is not None:
        heard = convolve(sources, early_part(responses[:, :1], early_seconds, sample_rate))
    return images.sum(axis=0), np.ascontiguousarray(heard[:, 0])


def early_part(
    responses: Float[np.ndarray, "*axes tap"], seconds: float, sample_rate: int
) -> Float[np.ndarray, "*axes tap"]:
    """Keep of each response what arrives until ``seconds`` after its direct path; the rest becomes zero.

    The direct path is the first tap of at least half the largest magnitude.

    Args:
        responses: (..., tap).
        seconds: How late a reflection may arrive.
        sample_rate: In Hz.

    Returns:
        (..., tap).
    """
    magnitudes = np.abs(responses)
    direct = (magnitudes >= magnitudes.max(axis=-1, keepdims=True) / 2).argmax(axis=-1)
    last = direct[..., None] + round(seconds * sample_rate)
    kept: np.ndarray = np.where(np.arange(responses.shape[-1]) <= last, responses, 0)
    return kept.astype(responses.dtype)


@dataclass(frozen=True, kw_only=True)
class ResponseBank:
    """A fixed number of drawn rooms, each with several sources, from which mixtures draw theirs.

    A room takes as long to simulate as several mixtures take to mix: a bank simulates each once in a process,
    at its first use.

    Args:
        responses: What draws a room.
        n_rooms: Number of rooms.
        n_places: Number of sources in each, of which a mixture draws as many as it has.
        seed: Another seed gives other rooms.
    """

    responses: Responses
    n_rooms: PositiveInt = 500
    n_places: NumberOfSources = 4
    seed: Seed = 0
    _rooms: dict[tuple[int, int], np.ndarray] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __getstate__(self) -> dict[str, object]:
        """Without the rooms: another process simulates those that it needs."""
        return {**self.__dict__, "_rooms": {}}

    def draw_responses(
        self, rng: np.random.Generator, n_sources: int, sample_rate: int
    ) -> Float[np.ndarray, "source channel tap"]:
        """Draw a room of the bank and the places of the sources, a pure function of the generator's state.

        Args:
            rng: The generator.
            n_sources: Number of sources.
            sample_rate: In Hz.

        Returns:
            (source, channel, tap).

        Raises:
            SepnetError: There are more sources than places.
        """
        if n_sources > self.n_places:
            raise SepnetError(
                f"a mixture of {n_sources} sources needs as many places in a room, but n_places is "
                f"{self.n_places}: raise data.mixing.responses.n_places"
            )
        key = (int(rng.integers(self.n_rooms)), sample_rate)
        if key not in self._rooms:
            own = np.random.default_rng((self.seed, key[0]))
            self._rooms[key] = self.responses.draw_responses(own, self.n_places, sample_rate)
        places = rng.choice(self.n_places, size=n_sources, replace=False)
        responses: np.ndarray = self._rooms[key][places]
        return responses


@dataclass(frozen=True, kw_only=True)
class MixingMatrix:
    """Instantaneous mixing: each response is one tap, a gain. Microphone 0 has all sources at gain 1.

    The gains at the other microphones are uniform in -1 to 1, drawn again until the matrix's condition
    number (largest over smallest singular value) is small enough for a method to invert it.

    Args:
        n_channels: Number of microphones.
        max_condition: Largest condition number.

    Raises:
        SepnetError: ``n_channels`` is below 1, or ``max_condition`` not above 1.
    """

    n_channels: LayerSize = 2
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
        """Draw a matrix, a pure function of the generator's state.

        Args:
            rng: The generator.
            n_sources: Number of sources.
            sample_rate: Not used: a gain has no rate.

        Raises:
            SepnetError: No matrix in MAX_DRAWS draws is well enough conditioned.
        """
        for _ in range(MAX_DRAWS):
            gains = rng.uniform(-1, 1, size=(n_sources, self.n_channels)).astype(np.float32)
            gains[:, 0] = 1.0
            if np.linalg.cond(gains.astype(np.float64)) <= self.max_condition:
                return gains[..., None]
        raise SepnetError(
            f"in {MAX_DRAWS} draws no matrix of {self.n_channels} channels and {n_sources} sources had a "
            f"condition number of up to {self.max_condition}: raise max_condition"
        )
