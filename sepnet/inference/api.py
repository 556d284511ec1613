"""``sepnet.separate`` and ``sepnet.find``: recordings in memory, of any rate and number of channels."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from sepnet.artifact import load, preferred
from sepnet.dsp.resample import resample, resample_mixture, resample_query
from sepnet.inference.pipeline import Pipeline, PipelineSettings
from sepnet.query.event import Event, EventFinder
from sepnet.types import Mixture, Query, Separation, SeparationWarning, Separator, SepnetError

Audio = np.ndarray | Tensor
MAX_CHANNELS = 256  # with more, and fewer samples, the axes are probably exchanged


def separate(
    audio: Audio,
    sample_rate: int,
    model: str | Path | Separator | None = None,
    n_sources: int | Literal["auto"] | None = None,
    query: tuple[Audio, int] | None = None,
    consistent: bool = True,
    full_band: bool = True,
) -> Separation:
    """Separate a recording.

    Args:
        audio: (channel, time) or (time,), floats with full scale 1.0.
        sample_rate: In Hz; a model of another rate is served by resampling.
        model: What ``load`` takes, or a separator from it; None: the newest run under runs, or the shipped
            weights where there is none.
        n_sources: For methods that need the number; "auto": estimated, by methods that can.
        query: An example (time,) of the sound to find and its rate in Hz, for methods that take one.
        consistent: Whether the estimates are made to sum to the mixture.
        full_band: Whether the estimates of a model at a lower rate get their share of the band above it.

    Warns:
        SeparationWarning: The recording is too short for a network.

    Returns:
        The sources (source, time) as channel 0 hears them, with the rate, length and level of the input.

    Raises:
        CannotSeparate: The method cannot serve this recording.
        SepnetError: The audio or a setting cannot be used.

    Example:
        >>> import torch, sepnet
        >>> sepnet.separate(torch.zeros(1, 44100), 44100, model="pit-2spk-8k").sources.shape
        torch.Size([2, 44100])
    """
    number = n_sources if n_sources is None or n_sources == "auto" else _whole(n_sources, "n_sources")
    sample_rate, signal = _whole(sample_rate, "sample_rate"), _tensor(audio)
    if not isinstance(model, str | Path | Separator | None) or isinstance(model, type):
        raise SepnetError(f"model is {model!r}: give a name, a run folder, or a separator")
    separator = model if isinstance(model, Separator) else load(preferred() if model is None else model)
    settings = PipelineSettings(n_sources=number, consistent=consistent, full_band=full_band)
    queries = None if query is None else (_query(query),)
    mixture = Mixture(signal, sample_rate, queries=queries)
    pipeline = Pipeline(separator, settings)
    if (reservation := pipeline.reservation(signal.shape[-1] / sample_rate)) is not None:
        warnings.warn(f"the recording: {reservation}", SeparationWarning, stacklevel=2)
    return pipeline.separate(mixture)


def find(
    audio: Audio, sample_rate: int, query: tuple[Audio, int], model: str | Path | EventFinder = "ast_dgmo"
) -> Event:
    """Find the sound that a query is an example of, and when it occurs.

    Args:
        audio: (channel, time) or (time,), floats with full scale 1.0.
        sample_rate: In Hz.
        query: An example (time,) of the sound, and its rate in Hz.
        model: ``ast_dgmo`` or one of its variants, or a separator from ``load`` that finds events.

    Returns:
        The event: detection, mask, and target and residual (time,), which have the rate and the length of
        the input and sum to its channel 0.

    Raises:
        SepnetError: The audio, the query or the model cannot be used.
    """
    finder: Any = model
    if isinstance(finder, type) or not isinstance(finder, EventFinder):
        finder = load(cast(Any, model))
    if not isinstance(finder, EventFinder):
        raise SepnetError(f"{model} does not say what it finds: take ast_dgmo or one of its variants")
    sample_rate, signal, example = _whole(sample_rate, "sample_rate"), _tensor(audio), _query(query)
    inner = finder.info.sample_rate or sample_rate
    mixture = resample_mixture(Mixture(signal, sample_rate), inner)
    (event,) = finder.find(replace(mixture, queries=(resample_query(example, inner),)))
    target = resample(event.target, inner, sample_rate)[: signal.shape[-1]]
    return replace(event, target=target, residual=signal[0] - target)


def _whole(number: Any, name: str) -> int:
    """The number as an int. Raises SepnetError unless it is a whole number."""
    is_number = isinstance(number, int | float | np.integer | np.floating) and not isinstance(number, bool)
    if is_number and math.isfinite(number) and number == round(number):
        return int(number)
    raise SepnetError(f"{name} is {number!r}: give a whole number")


def _tensor(audio: Audio) -> Tensor:
    """(channel, time) in float32. Raises SepnetError unless it is an array of floats."""
    if not isinstance(audio, np.ndarray | Tensor):
        raise SepnetError(
            f"audio is a {type(audio).__name__}: give an array or a tensor, (channel, time) or (time,)"
        )
    if isinstance(audio, np.ma.MaskedArray):
        raise SepnetError("audio is a masked array: fill in what is masked")
    if isinstance(audio, Tensor) and (audio.layout != torch.strided or audio.is_meta or audio.is_nested):
        raise SepnetError("audio is a sparse, nested or meta tensor: give one of numbers in memory")
    is_float = audio.is_floating_point() if isinstance(audio, Tensor) else audio.dtype.kind == "f"
    if not is_float:
        raise SepnetError(
            f"audio has to be floats with full scale 1.0, but is {audio.dtype}: divide by its full scale"
        )
    if isinstance(audio, np.ndarray):
        # A copy: torch takes no reversed array and no foreign byte order, and warns of one that is read-only.
        audio = torch.from_numpy(np.array(audio, dtype=np.float32))
    audio = audio.detach().to(torch.float32)
    if audio.ndim == 2 and audio.shape[0] > max(MAX_CHANNELS, audio.shape[1]):
        raise SepnetError(
            f"audio is (channel, time), but this would be {audio.shape[0]} channels of {audio.shape[1]} "
            "samples: transpose it"
        )
    return audio[None] if audio.ndim == 1 else audio  # Mixture refuses other shapes


def _query(query: tuple[Audio, int]) -> Query:
    if not isinstance(query, tuple | list) or len(query) != 2:
        raise SepnetError("a query is an example and its rate in Hz: query=(audio, sample_rate)")
    audio, sample_rate = _tensor(query[0]), _whole(query[1], "the query's rate")
    if query[0].ndim != 1:
        raise SepnetError(
            f"a query is one channel (time,), but this one is {tuple(query[0].shape)}: choose one"
        )
    return Query(audio[0], sample_rate)
