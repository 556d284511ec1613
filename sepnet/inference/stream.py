"""Separation of live sound, block by block.

>>> import sepnet.inference.stream
>>> stream = sepnet.inference.stream.StreamingSeparator("pit-causal-2spk-8k")
>>> stream.latency_samples, stream.latency_ms
(256, 32.0)
>>> import torch
>>> stream.push(torch.zeros(100)).shape
torch.Size([2, 100])

Methods that can run live have ``stream`` (sepnet.separators.frame_stream); the others need the whole
recording.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from sepnet.artifact import load
from sepnet.dsp.resample import resample_query
from sepnet.ranges import NumberOfSources
from sepnet.separators.frame_stream import Streamable, StreamSetup
from sepnet.settings import check_value
from sepnet.types import CannotSeparate, Query, Separator, SepnetError, check_rate

Audio = np.ndarray | Tensor
MAX_HOPS_PER_STEP = 32  # bounds the memory that a large block takes
ALTERNATIVES = "take pit-causal-2spk-8k, or energy_live or nmf_online with an example of each source"


class StreamingSeparator:
    """Takes blocks of any size and returns as many samples of each source, ``latency_samples`` later.

    All outputs joined, without the first ``latency_samples``, which are zeros, equal the separation of the
    whole recording by the same method. The memory in use does not depend on how long the stream runs.

    Args:
        model: What ``sepnet.load`` takes, or a separator from it.
        sample_rate: Rate of the blocks in Hz; needed where the method works at any rate.
        n_sources: The number of sources, for methods that need it.
        queries: Examples (time,) of the sources with their rates in Hz, for methods that need them.
        enrollment: An earlier recording (time,) of the same sources at the rate of the blocks, for methods
            that learn from one.

    Attributes:
        sample_rate: Rate of the blocks in Hz.
        hop_samples: Blocks of a multiple of this size are the fastest.
        latency_samples: How many samples the output lags behind the input. It is the latency of the
            algorithm; a sound card adds its blocks.
        latency_ms: The same in milliseconds.
        n_sources: Number of sources in the output.
        labels: Their labels, as in a Separation.

    Raises:
        CannotSeparate: The method needs the whole recording, or works at another rate than ``sample_rate``.
        SepnetError: The model can't be loaded, or a signal can't be used.

    Example:
        >>> stream = StreamingSeparator("pit-causal-2spk-8k")
        >>> stream.finish().shape
        torch.Size([2, 256])
    """

    def __init__(
        self,
        model: str | Path | Separator,
        *,
        sample_rate: int | None = None,
        n_sources: int | None = None,
        queries: Sequence[tuple[Audio, int]] = (),
        enrollment: Audio | None = None,
    ) -> None:
        separator: Any = model
        if isinstance(separator, type) or not isinstance(separator, Separator):
            separator = load(cast(Any, model))
        if sample_rate is not None:
            check_rate(sample_rate)
        check_value("n_sources", NumberOfSources | None, n_sources)
        name = type(separator).__name__ if isinstance(model, Separator) else str(model)
        model_rate = separator.info.sample_rate
        if not isinstance(separator, Streamable):
            raise CannotSeparate(
                f"{name} looks at the whole recording before it gives a sample: {ALTERNATIVES}"
            )
        if not isinstance(queries, tuple | list):
            raise SepnetError("queries are a list of examples and their rates in Hz: [(audio, sample_rate)]")
        examples = [_query(query) for query in queries]
        rate = sample_rate or model_rate or next((query.sample_rate for query in examples), None)
        setup = StreamSetup(
            sample_rate=rate,
            n_sources=n_sources,
            queries=tuple(query if rate is None else resample_query(query, rate) for query in examples),
            enrollment=None if enrollment is None else _signal(enrollment, "the enrollment"),
        )
        self._frames = separator.stream(setup)
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
        """Forget all input so far and start a new recording."""
        self._state = self._frames.initial_state()
        self._pending = torch.zeros(0)  # input of less than a hop
        self._ready = torch.zeros(self.n_sources, self.hop_samples)  # output to come, the zeros first
        self._n_silent = self._frames.lag_samples  # samples of output that lie before the first input

    def copy(self) -> StreamingSeparator:
        """Return an independent stream with the same past; the two share the weights."""
        return copy.copy(self)  # no tensor of the state is ever written into

    @torch.no_grad()
    def push(self, block: Audio) -> Tensor:
        """Separate the next block.

        Args:
            block: (time,) or (channel, time) of any length in floats; channel 0 is separated.

        Returns:
            (source, time), the images of the sources at channel 0, ``latency_samples`` late.

        Raises:
            SepnetError: The block holds integers, NaN or infinity, or has another shape; it then changes
                nothing, and the stream goes on with the next block.
        """
        signal = _signal(block, "a block")
        pending = torch.cat([self._pending, signal])
        n_whole = len(pending) // self.hop_samples * self.hop_samples
        parts = [self._ready]
        for hops in torch.split(pending[:n_whole], MAX_HOPS_PER_STEP * self.hop_samples):
            parts += [self._step(hops)] if len(hops) else []
        self._pending = pending[n_whole:].clone()
        ready = torch.cat(parts, dim=1)
        self._ready = ready[:, len(signal) :].clone()
        return ready[:, : len(signal)].clone()

    @torch.no_grad()
    def finish(self) -> Tensor:
        """Return the last (source, latency_samples) of the recording; the next block starts a new one."""
        parts = [self._ready]
        if len(self._pending):
            missing = self.hop_samples - len(self._pending)
            parts.append(self._step(torch.nn.functional.pad(self._pending, (0, missing))))
        remaining = torch.cat([*parts, self._silence_start(self._frames.flush(self._state))], dim=1)
        self.reset()
        return remaining[:, : self.latency_samples].clone()

    def _step(self, hops: Tensor) -> Tensor:
        sources, self._state = self._frames.step(hops, self._state)
        return self._silence_start(sources)

    def _silence_start(self, sources: Tensor) -> Tensor:
        """Put zeros in the place of output that lies before the first input."""
        n_silent = min(self._n_silent, sources.shape[1])
        self._n_silent -= n_silent
        return torch.nn.functional.pad(sources[:, n_silent:], (n_silent, 0)) if n_silent else sources


def _query(query: tuple[Audio, int]) -> Query:
    """The example of a pair of audio and rate. Raises SepnetError where it is none."""
    if not isinstance(query, tuple | list) or len(query) != 2:
        raise SepnetError("each of the queries is an example and its rate in Hz: (audio, sample_rate)")
    return Query(_signal(query[0], "a query"), query[1])


def _signal(audio: Audio, name: str) -> Tensor:
    """Copy channel 0 to (time,) in float32, or raise SepnetError where it is no sound."""
    is_numeric = isinstance(audio, Tensor) or (isinstance(audio, np.ndarray) and audio.dtype.kind in "fiub")
    if not is_numeric:
        kind = audio.dtype if isinstance(audio, np.ndarray) else type(audio).__name__
        raise SepnetError(
            f"{name} has to be floats with full scale 1.0, but is {kind}: give an array or a tensor"
        )
    if isinstance(audio, Tensor) and (audio.layout != torch.strided or audio.is_meta or audio.is_nested):
        raise SepnetError(f"{name} is a sparse, nested or meta tensor: give one of numbers in memory")
    if isinstance(audio, np.ndarray):
        # A copy, of a byte order and a precision that torch knows.
        audio = torch.from_numpy(np.array(audio, np.float32 if audio.dtype.kind == "f" else None))
    tensor = audio
    if not tensor.is_floating_point():
        raise SepnetError(
            f"{name} has to be floats with full scale 1.0, but is {tensor.dtype}: divide by its full scale"
        )
    if tensor.ndim not in (1, 2) or (tensor.ndim == 2 and tensor.shape[0] == 0):
        raise SepnetError(
            f"{name} has to be (time,) or (channel, time), but is {tuple(tensor.shape)}: choose one channel"
        )
    signal = (tensor if tensor.ndim == 1 else tensor[0]).detach().to("cpu", torch.float32, copy=True)
    if n_bad := int((~torch.isfinite(signal)).sum()):
        raise SepnetError(
            f"{name} holds {n_bad} samples of {len(signal)} that are NaN or infinite: "
            "put zeros in their place"
        )
    return signal
