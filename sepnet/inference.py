"""The front door of the library: sound in, sources out, with any method.

A recording of any rate, at least one channel and one sample:

    >>> import sepnet
    >>> separation = sepnet.separate(audio, 44100, model="runs/my-run")     # doctest: +SKIP
    >>> separation.sources.shape                                            # doctest: +SKIP
    torch.Size([2, 220500])

All that a web page or a server has to do is to call this.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sepnet.artifact import load, preferred
from sepnet.dsp.resample import resample
from sepnet.separators.query.ast_dgmo import AstDgmo, Event
from sepnet.separators.recording.chunked import Chunked, count_sources
from sepnet.separators.wrappers import Consistent, Resampled
from sepnet.types import CannotSeparate, Mixture, Query, Separation, Separator, SepnetError, shown

Audio = np.ndarray | Tensor
MOST_CHANNELS = 256  # more are time, the wrong way round


def separate(
    audio: Audio,
    sample_rate: int,
    model: str | Path | Separator | None = None,
    n_sources: int | Literal["auto"] | None = None,
    query: tuple[Audio, int] | None = None,
    consistent: bool = True,
) -> Separation:
    """Separate a recording.

    audio: (channel, time) or (time,), floats with full scale 1.0. sample_rate: in Hz; a model of another
    rate is served by resampling. model: what ``load`` takes, or a separator from it; None for the newest
    run under runs, or the shipped weights where there is none. n_sources: for methods that want to be
    told; "auto": as many as a method that counts finds. query: an example (time,) of the sound to find
    and its rate, for methods that take one. consistent: what the estimates lack of the mixture is
    shared among them, so that they sum to it. What is longer than 45 s is separated in chunks, see
    sepnet.separators.recording.

    Returns ``sources`` (source, time) at the rate, the length and the level of the input: images at
    channel 0. Raises SepnetError for audio that can't be separated, and CannotSeparate where the method
    can't serve it.
    """
    number = None if n_sources in (None, "auto") else _whole(n_sources, "n_sources")
    sample_rate, signal = _whole(sample_rate, "sample_rate"), _tensor(audio)
    if not isinstance(model, str | Path | Separator | None) or isinstance(model, type):
        raise SepnetError(f"model is {model!r}: give a name, a run folder, or a separator")
    separator = model if isinstance(model, Separator) else load(preferred() if model is None else model)
    check_number(separator, number)
    mixture = Mixture(
        audio=signal,
        sample_rate=sample_rate,
        n_sources=number,
        queries=None if query is None else (_query(query),),
    )
    if n_sources == "auto":
        number = count_sources(separator, [at_its_rate(separator, mixture)])
        if number is None:
            raise SepnetError("the model can't count sources: give their number, n_sources=2")
        mixture = replace(mixture, n_sources=number)
    return Chunked(wrapped(separator, consistent=consistent)).separate(shown(separator, mixture))


def find(
    audio: Audio, sample_rate: int, query: tuple[Audio, int], model: str | Path | AstDgmo = "ast_dgmo"
) -> Event:
    """Find what a query is an example of, with all that is known of it: see sepnet.separators.query.ast_dgmo.

    audio, sample_rate: as for ``separate``. query: (time,) and its rate. Target and residual have the rate
    and the length of the input, and sum to its channel 0. Raises SepnetError for audio, a query or a model
    that can't be used.
    """
    finder = model if isinstance(model, AstDgmo) else load(model)
    if not isinstance(finder, AstDgmo):
        raise SepnetError(f"{model} separates, but does not say what it finds: take ast_dgmo, or one like it")
    inner, signal = finder.sample_rate, _tensor(audio)
    sample_rate, example = _whole(sample_rate, "sample_rate"), _query(query)
    mixture = Mixture(
        audio=resample(signal, sample_rate, inner),
        sample_rate=inner,
        queries=(Query(resample(example.audio, example.sample_rate, inner), inner),),
    )
    (event,) = finder.find(mixture)
    target = resample(event.target, inner, sample_rate)[: signal.shape[-1]]
    return replace(event, target=target, residual=signal[0] - target)


def check_number(separator: Separator, n_sources: int | None) -> None:
    """Raises SepnetError for a number of sources that can't be, CannotSeparate for another than its own."""
    if n_sources is not None and n_sources < 1:
        raise SepnetError(f"n_sources is {n_sources}: ask for one source or more, or leave it out")
    built_for = getattr(separator, "n_sources", None)
    if n_sources is not None and built_for is not None and n_sources != built_for:
        raise CannotSeparate(
            f"the model was made for {built_for} sources, not {n_sources}: "
            "leave n_sources out, or take another model"
        )


def wrapped(separator: Separator, *, consistent: bool = True) -> Separator:
    """The separator for mixtures of any rate; ``consistent``: its estimates sum to the mixture."""
    inner = at_any_rate(separator)
    return Consistent(inner) if consistent else inner


def at_its_rate(separator: Separator, mixture: Mixture) -> Mixture:
    """The mixture at the rate that the separator was made for, if it was made for one."""
    rate = getattr(separator, "sample_rate", None) or mixture.sample_rate
    return replace(mixture, audio=resample(mixture.audio, mixture.sample_rate, rate), sample_rate=rate)


def at_any_rate(separator: Separator) -> Separator:
    """The separator, wrapped in Resampled where it was made for one sample rate."""
    rate = getattr(separator, "sample_rate", None)
    return separator if rate is None else Resampled(separator, sample_rate=rate)


def _whole(number: Any, name: str) -> int:
    """An int of any kind of whole number. Raises SepnetError for what is none."""
    is_number = isinstance(number, int | float | np.integer | np.floating) and not isinstance(number, bool)
    if is_number and math.isfinite(number) and number == round(number):
        return int(number)
    raise SepnetError(f"{name} is {number!r}: give a whole number")


def _tensor(audio: Audio) -> Tensor:
    """(channel, time) in float32. Raises SepnetError for integers, and what is no array."""
    if not isinstance(audio, np.ndarray | Tensor):
        raise SepnetError(
            f"audio is a {type(audio).__name__}: give an array or a tensor, (channel, time) or (time,)"
        )
    is_float = audio.is_floating_point() if isinstance(audio, Tensor) else audio.dtype.kind == "f"
    if not is_float:
        raise SepnetError(
            f"audio has to be floats with full scale 1.0, but is {audio.dtype}: divide by its full scale"
        )
    if isinstance(audio, np.ndarray):
        # A copy: torch takes no reversed array and no foreign byte order, and warns of one that is read-only.
        audio = torch.from_numpy(np.array(audio, dtype=np.float32))
    audio = audio.detach().to(torch.float32)
    if audio.ndim == 2 and audio.shape[0] > max(MOST_CHANNELS, audio.shape[1]):
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
