"""The protocol of separators that run live: hops in, hops out, and a state of tensors of fixed size.

``separator.stream(setup)`` returns a FrameStream; ``sepnet.inference.stream.StreamingSeparator`` cuts blocks
of any size into hops for it. A step returns new tensors and never writes into old ones, so several copies of
a stream may share one state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sepnet.dsp.filterbank import Filterbank
from sepnet.types import CannotSeparate, Query

State = tuple[Tensor, ...]


@dataclass(frozen=True)
class StreamSetup:
    """What a method is given before the first sample comes in.

    Attributes:
        sample_rate: Rate of the input in Hz; None: the rate that the method was made for.
        n_sources: The number of sources, where it is known.
        queries: Examples of the sources.
        enrollment: An earlier recording (time,) of the same sources, at ``sample_rate``.
    """

    sample_rate: int | None = None
    n_sources: int | None = None
    queries: tuple[Query, ...] = ()
    enrollment: Tensor | None = None

    def resolve_rate(self, model_rate: int | None) -> int:
        """Decide at which rate in Hz the stream runs.

        Args:
            model_rate: The only rate in Hz that the method works at; None where it works at any.

        Returns:
            The rate of the input in Hz.

        Raises:
            CannotSeparate: No rate is given, or the two rates differ.
        """
        rate = self.sample_rate or model_rate
        if rate is None:
            raise CannotSeparate(
                "this method works at any rate: give the rate of the input in Hz (sample_rate)"
            )
        if model_rate is not None and rate != model_rate:
            raise CannotSeparate(
                f"the blocks come at {rate} Hz, but the model was made for {model_rate} Hz: "
                "resample the input first"
            )
        return rate


@runtime_checkable
class FrameStream(Protocol):
    """Separation hop by hop.

    Attributes:
        sample_rate: In Hz.
        hop_samples: Samples in a hop.
        lag_samples: How many samples the output of a step lags behind its input.
        n_sources: Number of sources in the output.
        labels: As those of a Separation.
    """

    sample_rate: int
    hop_samples: int
    lag_samples: int
    n_sources: int
    labels: tuple[str, ...] | None

    def initial_state(self) -> State:
        """Return the state before any input."""
        ...

    def step(self, hops: Tensor, state: State) -> tuple[Tensor, State]:
        """Separate one hop or several.

        Args:
            hops: Samples (time,), a whole number of hops.
            state: The state after the previous step.

        Returns:
            Estimates (source, time) and the new state. The first ``lag_samples`` of output after the
            initial state carry no signal.
        """
        ...

    def flush(self, state: State) -> Tensor:
        """Return the remaining (source, lag_samples) at the end of the input."""
        ...


@runtime_checkable
class Streamable(Protocol):
    """A separator that can run live."""

    def stream(self, setup: StreamSetup) -> FrameStream:
        """Prepare separation hop by hop.

        Raises:
            CannotSeparate: These settings need the whole recording; the message names an alternative.
        """
        ...


def padded_filters(
    bank: Filterbank,
) -> tuple[Float[Tensor, "channel window"], Float[Tensor, "channel window"]]:
    """Return the filters of analysis and of synthesis, padded with zeros in front to whole hops."""
    missing = -bank.window_samples % bank.hop_samples
    analysis, synthesis = bank.encoder.filters(), bank.decoder.filters()  # (channel, 1, window)
    return F.pad(analysis.detach()[:, 0], (missing, 0)), F.pad(synthesis.detach()[:, 0], (missing, 0))


def sliding_windows(
    signal: Float[Tensor, "1 time"], hop_samples: int, n_hops: int
) -> Float[Tensor, "frame window"]:
    """Cut a signal into windows of ``n_hops`` hops, one hop apart."""
    hops = signal.reshape(-1, hop_samples)
    n_frames = hops.shape[0] - n_hops + 1
    return torch.cat([hops[k : k + n_frames] for k in range(n_hops)], dim=1)


def overlap_add(
    windows: Float[Tensor, "source frame window"], hop_samples: int, n_hops: int
) -> Float[Tensor, "source time"]:
    """Sum windows that lie one hop apart; the inverse of ``sliding_windows`` in shape."""
    hops = windows.reshape(*windows.shape[:2], n_hops, hop_samples)
    shifted = [F.pad(hops[:, :, k], (0, 0, k, n_hops - 1 - k)) for k in range(n_hops)]
    return sum(shifted[1:], shifted[0]).flatten(1)
