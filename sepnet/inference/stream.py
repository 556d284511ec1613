"""Separation of sound as it comes in, block by block.

>>> import sepnet.inference.stream
>>> stream = sepnet.inference.stream.StreamingSeparator("pit-causal-2spk-8k")
>>> stream.latency_samples, stream.latency_ms
(256, 32.0)
>>> import torch
>>> stream.push(torch.zeros(100)).shape
torch.Size([2, 100])

Which methods can: those with ``stream`` (sepnet.separators.streaming), which the others lack for a reason.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sepnet.artifact import load
from sepnet.dsp.resample import resample
from sepnet.separators.frame_stream import Known, Streamable
from sepnet.types import CannotSeparate, Query, Separator, SepnetError

Audio = np.ndarray | Tensor
MOST_HOPS = 32  # in one step: so much of a large block is worked on at once
INSTEAD = "take pit-causal-2spk-8k, or energy_live or nmf_online with an example of each source"


class StreamingSeparator:
    """Blocks of any size in, as many samples of each source out, ``latency_samples`` later.

    model: what ``sepnet.load`` takes, or a separator from it. sample_rate: of the blocks, in Hz; needed
    where the method has no rate of its own. n_sources: for methods that want to be told. queries: examples
    (time,) of the sources with their rates, for methods that take some. heard: an earlier recording (time,)
    of the same sources, for methods that want one.

    latency_samples, latency_ms: by how much an estimate comes later than its sample; the algorithm's own, to
    which a sound card adds its blocks. n_sources and labels: of what comes out, as in a Separation.

    All outputs one after the other, without the first ``latency_samples``, which are zeros, are what the
    same method makes of the whole recording. The memory it takes does not depend on how long it runs.

    Raises CannotSeparate for a method that has to hear the end first, and for another rate than the
    model's; SepnetError for what can't be loaded or used.
    """

    def __init__(
        self,
        model: str | Path | Separator,
        *,
        sample_rate: int | None = None,
        n_sources: int | None = None,
        queries: Sequence[tuple[Audio, int]] = (),
        heard: Audio | None = None,
    ) -> None:
        separator = model if isinstance(model, Separator) else load(model)
        name = type(separator).__name__ if isinstance(model, Separator) else str(model)
        if not isinstance(separator, Streamable):
            raise CannotSeparate(f"{name} looks at the whole recording before it gives a sample: {INSTEAD}")
        examples = [Query(_signal(audio, "a query"), rate) for audio, rate in queries]
        own = separator.info.sample_rate
        rate = sample_rate or own or next((query.sample_rate for query in examples), None)
        known = Known(
            sample_rate=rate,
            n_sources=n_sources,
            queries=tuple(query if rate is None else _at(rate, query) for query in examples),
            heard=None if heard is None else _signal(heard, "what was heard"),
        )
        self._frames = separator.stream(known)
        self.sample_rate, self.n_sources = self._frames.sample_rate, self._frames.n_sources
        self.labels, self.hop_samples = self._frames.labels, self._frames.hop_samples
        if n_sources is not None and n_sources != self.n_sources:
            raise CannotSeparate(
                f"{name} gives {self.n_sources} sources here, not {n_sources}: leave n_sources out"
            )
        self.latency_samples = self._frames.lag_samples + self.hop_samples
        self.latency_ms = 1000 * self.latency_samples / self.sample_rate
        self.reset()

    def reset(self) -> None:
        """Forget all that was heard, as if newly made."""
        self._state = self._frames.initial_state()
        self._pending = torch.zeros(0)  # less than a hop
        self._ready = torch.zeros(self.n_sources, self.hop_samples)  # to be given, the zeros first
        self._before = self._frames.lag_samples  # of what the steps give, stands for nothing

    def copy(self) -> StreamingSeparator:
        """Another one that has heard the same, and from here on hears for itself; they share the weights."""
        return copy.copy(self)  # no tensor of the state is ever written into

    @torch.no_grad()
    def push(self, block: Audio) -> Tensor:
        """A block (time,) or (channel, time), of any size, to (source, time): images at channel 0.

        Raises SepnetError for integers, other shapes, NaN and infinity; the block is then not heard.
        """
        signal = _signal(block, "a block")
        heard = torch.cat([self._pending, signal])
        whole = len(heard) // self.hop_samples * self.hop_samples
        parts = [self._ready]
        for hops in torch.split(heard[:whole], MOST_HOPS * self.hop_samples):
            parts += [self._step(hops)] if len(hops) else []
        self._pending = heard[whole:].clone()
        ready = torch.cat(parts, dim=1)
        self._ready = ready[:, len(signal) :].clone()
        return ready[:, : len(signal)].clone()

    @torch.no_grad()
    def finish(self) -> Tensor:
        """The (source, latency_samples) still owed at the end; what is pushed then is a new recording."""
        parts = [self._ready]
        if len(self._pending):
            missing = self.hop_samples - len(self._pending)
            parts.append(self._step(torch.nn.functional.pad(self._pending, (0, missing))))
        owed = torch.cat([*parts, self._silenced(self._frames.flush(self._state))], dim=1)
        self.reset()
        return owed[:, : self.latency_samples].clone()

    def _step(self, hops: Tensor) -> Tensor:
        sources, self._state = self._frames.step(hops, self._state)
        return self._silenced(sources)

    def _silenced(self, sources: Tensor) -> Tensor:
        """With zeros for what lies before the first sample."""
        silent = min(self._before, sources.shape[1])
        self._before -= silent
        return torch.nn.functional.pad(sources[:, silent:], (silent, 0)) if silent else sources


def _at(rate: int, query: Query) -> Query:
    return Query(resample(query.audio, query.sample_rate, rate), rate, query.label)


def _signal(audio: Audio, what: str) -> Tensor:
    """A copy (time,) in float32, of channel 0. Raises SepnetError for what is no sound."""
    tensor = torch.from_numpy(np.array(audio)) if isinstance(audio, np.ndarray) else audio
    if not tensor.is_floating_point():
        raise SepnetError(
            f"{what} is floats with full scale 1.0, not {tensor.dtype}: divide by its full scale"
        )
    if tensor.ndim not in (1, 2) or (tensor.ndim == 2 and tensor.shape[0] == 0):
        raise SepnetError(
            f"{what} is (time,) or (channel, time), but this one is {tuple(tensor.shape)}: choose one"
        )
    signal = (tensor if tensor.ndim == 1 else tensor[0]).detach().to("cpu", torch.float32, copy=True)
    if bad := int((~torch.isfinite(signal)).sum()):
        raise SepnetError(
            f"{what} holds {bad} samples of {len(signal)} that are NaN or infinite: put zeros in their place"
        )
    return signal
