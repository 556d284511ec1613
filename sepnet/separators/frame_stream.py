"""What a method that streams offers: hops in, hops out, and a state of tensors whose sizes never change.

``separator.stream(known)`` gives a FrameStream; sepnet.inference.stream.StreamingSeparator buffers blocks of any
size to hops. A step makes new tensors and writes into none, so that a state may be shared by copies.
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
class Known:
    """What is known before the first sample comes in.

    sample_rate: in Hz; None: that for which the method was made. queries: examples of the sources. heard:
    (time,), an earlier recording of the same sources.
    """

    sample_rate: int | None = None
    n_sources: int | None = None
    queries: tuple[Query, ...] = ()
    heard: Tensor | None = None

    def rate(self, own: int | None) -> int:
        """The rate in Hz of a method made for ``own``. Raises CannotSeparate where there is none, or two."""
        rate = self.sample_rate or own
        if rate is None:
            raise CannotSeparate("this method works at any rate: say at which the blocks come (sample_rate)")
        if own is not None and rate != own:
            raise CannotSeparate(
                f"the blocks come at {rate} Hz, but the model was made for {own} Hz: resample before it"
            )
        return rate


@runtime_checkable
class FrameStream(Protocol):
    """Separation by hops.

    sample_rate: in Hz. hop_samples: of a hop. lag_samples: how far the output of a step lies behind its
    input. labels: as of a Separation.
    """

    sample_rate: int
    hop_samples: int
    lag_samples: int
    n_sources: int
    labels: tuple[str, ...] | None

    def initial_state(self) -> State:
        """That of nothing heard."""
        ...

    def step(self, hops: Tensor, state: State) -> tuple[Tensor, State]:
        """One hop (time,), or several at once, to estimates (source, time) and the new state.

        The first ``lag_samples`` that come out of the initial state stand for nothing.
        """
        ...

    def flush(self, state: State) -> Tensor:
        """The (source, lag_samples) still owed where nothing follows."""
        ...


@runtime_checkable
class Streamable(Protocol):
    """A separator that streams."""

    def stream(self, known: Known) -> FrameStream:
        """Separation by hops. Raises CannotSeparate, with what to take instead, for settings that wait."""
        ...


def filters(bank: Filterbank) -> tuple[Float[Tensor, "channel window"], Float[Tensor, "channel window"]]:
    """Those of analysis and synthesis; zeros in front fill their length up to whole hops."""
    missing = -bank.window_samples % bank.hop_samples
    analysis, synthesis = bank.encoder.filters(), bank.decoder.filters()  # (channel, 1, window)
    return F.pad(analysis.detach()[:, 0], (missing, 0)), F.pad(synthesis.detach()[:, 0], (missing, 0))


def windows(signal: Float[Tensor, "1 time"], hop_samples: int, n_hops: int) -> Float[Tensor, "frame window"]:
    """Each hop with the ``n_hops`` - 1 before it."""
    hops = signal.reshape(-1, hop_samples)
    n_frames = hops.shape[0] - n_hops + 1
    return torch.cat([hops[k : k + n_frames] for k in range(n_hops)], dim=1)


def overlapped(
    pieces: Float[Tensor, "source frame window"], hop_samples: int, n_hops: int
) -> Float[Tensor, "source time"]:
    """The sum of the pieces, each a hop after the one before; the inverse of ``windows`` in shape."""
    hops = pieces.reshape(*pieces.shape[:2], n_hops, hop_samples)
    shifted = [F.pad(hops[:, :, k], (0, 0, k, n_hops - 1 - k)) for k in range(n_hops)]
    return sum(shifted[1:], shifted[0]).flatten(1)
