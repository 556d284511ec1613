"""From sources to microphones: impulse responses, and instantaneous mixing matrices.

Rooms (``sepnet.data.rooms``) and matrices draw impulse responses (source, channel, tap) with one method,
``draw_responses``, so that mixing code treats them alike: the image of a source at a microphone is the source
convolved with its response.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import scipy
from jaxtyping import Float, Float32

from sepnet.ranges import LayerSize
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
    source: Float[np.ndarray, " time"], responses: Float[np.ndarray, "channel tap"]
) -> Float[np.ndarray, "channel time"]:
    """Compute the images of a source at the microphones.

    Image and source are aligned as the responses are: time 0 of both is when the source emits. What rings on
    after the end of the source is cut off.

    Args:
        source: (time,).
        responses: (channel, tap).

    Returns:
        (channel, time).
    """
    # (1, time) * (channel, tap) -> (channel, time + tap - 1)
    images: np.ndarray = scipy.signal.fftconvolve(source[None], responses, axes=-1)
    return images[:, : source.shape[-1]].astype(source.dtype)


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
