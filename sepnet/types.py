"""The words that every part of sepnet speaks: a mixture goes in, a separation comes out.

Shapes: ``channel``, ``source`` and ``time`` are counts of microphones, sources and samples.
Levels are linear, full scale is 1.0; rates are in Hz.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


class SepnetError(ValueError):
    """Bad input, described in one sentence: what, where, the numbers, the remedy."""


class CannotSeparate(SepnetError):  # noqa: N818 (a result, and the name is part of the interface)
    """A separator can't serve this mixture (too few channels, say): a result, not a crash."""


class SeparationWarning(UserWarning):
    """A separator served the mixture, but with a reservation (it did not converge, say): its row tells it."""


HINTS = frozenset({"n_sources", "queries", "references"})
MAX_SOURCES = 64  # of a mixture
_HINT_REMEDIES = {
    "n_sources": "give their number, n_sources=2",
    "queries": "give an example of the sound, query=example.wav",
    "references": "it is an oracle, and only an evaluation knows the true sources",
}


def missing_hint(hint: str) -> CannotSeparate:
    """Make the error for a mixture that lacks a hint which the method needs; its message names the remedy."""
    return CannotSeparate(
        f"the method needs {hint}, which this mixture does not give: {_HINT_REMEDIES[hint]}"
    )


MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1_000, 1_000_000  # in Hz: of recordings of sound


def check_signal(signal: object, name: str, *, n_axes: int, axes: str) -> None:
    """Raise SepnetError for what is no signal: other than floats in a plain tensor of so many axes."""
    if not isinstance(signal, Tensor) or signal.layout != torch.strided or signal.is_meta or signal.is_nested:
        kind = (
            type(signal).__name__ if not isinstance(signal, Tensor) else f"tensor of the kind {_kind(signal)}"
        )
        raise SepnetError(f"{name} is a {kind}: give a tensor {axes} of numbers in memory")
    shape = tuple(signal.shape)
    if signal.ndim != n_axes or not signal.is_floating_point():
        raise SepnetError(f"{name} is {axes} in floats, but this one is {shape} in {signal.dtype}")
    if signal.numel() == 0:
        raise SepnetError(f"{name} holds no samples (shape {shape}): give at least one")
    # A sum is the quicker look; it may also be infinite for want of room.
    if not math.isfinite(signal.detach().sum()) and (bad := int((~torch.isfinite(signal)).sum())):
        raise SepnetError(
            f"{name} holds {bad} samples of {signal.numel()} that are NaN or infinite: repair the file"
        )


def check_rate(sample_rate: object) -> None:
    """Raise SepnetError for what is no sample rate."""
    if isinstance(sample_rate, bool) or not isinstance(sample_rate, int):
        raise SepnetError(f"the sample rate is {sample_rate!r}: give a whole number of Hz")
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise SepnetError(
            f"the sample rate is {sample_rate} Hz, but has to be from {MIN_SAMPLE_RATE} to "
            f"{MAX_SAMPLE_RATE} Hz"
        )


def _kind(tensor: Tensor) -> str:
    return (
        "nested" if tensor.is_nested else "meta" if tensor.is_meta else str(tensor.layout).partition(".")[2]
    )


@dataclass(frozen=True)
class Query:
    """An example of the sound to find: ``audio`` (time,) at ``sample_rate``, with its class if known.

    Raises:
        SepnetError: The audio is no signal of one axis, or holds NaN or infinity; or the rate is no rate.
    """

    audio: Tensor
    sample_rate: int
    label: str | None = None

    def __post_init__(self) -> None:
        check_signal(self.audio, "a query", n_axes=1, axes="(time,)")
        check_rate(self.sample_rate)


@dataclass(frozen=True)
class Mixture:
    """The input of a separator: a recording, and hints about its sources.

    Attributes:
        audio: (channel, time), float32.
        sample_rate: In Hz.
        n_sources: The number of sources, if it is known.
        queries: Examples of the sounds to extract.
        references: (source, time), the sources as they sound at channel 0. Only oracles see them.
        labels: The class of each reference, if they have one. No separator sees it.
        is_target: Whether the queries ask for each reference, so that it is scored; None: for all of them. No
            separator sees it.

    Raises:
        SepnetError: The audio has another shape or dtype, no samples, or samples that are NaN or infinite;
            the rate is no rate; or a hint is none.
    """

    audio: Tensor
    sample_rate: int
    n_sources: int | None = None
    queries: tuple[Query, ...] | None = None
    references: Tensor | None = None
    labels: tuple[str, ...] | None = None
    is_target: tuple[bool, ...] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.audio, Tensor) and (self.audio.ndim != 2 or self.audio.dtype != torch.float32):
            raise SepnetError(
                f"a mixture is (channel, time) in float32, but this one is {tuple(self.audio.shape)} in "
                f"{self.audio.dtype}"
            )
        check_signal(self.audio, "the mixture", n_axes=2, axes="(channel, time)")
        check_rate(self.sample_rate)
        self._check_hints()

    def _check_hints(self) -> None:
        number, queries, references = self.n_sources, self.queries, self.references
        is_number = isinstance(number, int) and not isinstance(number, bool)
        if number is not None and not (is_number and 1 <= number <= MAX_SOURCES):
            raise SepnetError(f"n_sources is {number!r}: give a whole number from 1 to {MAX_SOURCES}")
        if queries is not None and (
            not isinstance(queries, tuple) or not all(isinstance(query, Query) for query in queries)
        ):
            raise SepnetError("the queries of a mixture are a tuple of Query")
        if references is None:
            return
        check_signal(references, "the set of references", n_axes=2, axes="(source, time)")
        if references.shape[-1] != self.audio.shape[-1]:
            raise SepnetError(
                f"the references have {references.shape[-1]} samples, but the mixture "
                f"{self.audio.shape[-1]}: give them the same length"
            )

    def only(self, needs: Iterable[str]) -> Mixture:
        """The mixture with the hints in ``needs`` and no other; a missing one raises CannotSeparate."""
        wanted = frozenset(needs)
        if unknown := wanted - HINTS:
            raise ValueError(f"unknown hints {sorted(unknown)}; a separator may need {sorted(HINTS)}")
        for hint in sorted(wanted):
            if getattr(self, hint) is None:
                raise missing_hint(hint)
        return replace(
            self,
            n_sources=self.n_sources if "n_sources" in wanted else None,
            queries=self.queries if "queries" in wanted else None,
            references=self.references if "references" in wanted else None,
            labels=None,
            is_target=None,
        )


@dataclass(frozen=True)
class Separation:
    """What a separator returns.

    sources: (source, time), images at channel 0, with the length and the level of the mixture.
    labels: a name for each source, or None where the order is arbitrary.
    """

    sources: Tensor
    labels: tuple[str, ...] | None = None


@runtime_checkable
class Mixtures(Protocol):
    """A fixed set of mixtures: the same one for the same index, always. Picklable."""

    @property
    def fingerprint(self) -> str:
        """Changes when any mixture of the set does."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mixture:
        """The mixture, with ``references`` and every hint that the set can give."""
        ...

    def id(self, index: int, /) -> str:
        """A name for mixture ``index``, unlike that of any other."""
        ...


@runtime_checkable
class NamedMixtures(Mixtures, Protocol):
    """Mixtures of which others have published figures."""

    @property
    def name(self) -> str | None:
        """The list that they are made from, and how; None where it is nobody else's."""
        ...


@dataclass(frozen=True)
class Batch:
    """Mixtures to learn from.

    mixture: (batch, channel, time). sources: (batch, source, time), images at channel 0; a source
    that is all zero is inactive. ids: what each mixture is made of, for error messages. queries:
    (batch, time of the longest), an example of each mixture's first source from another recording, of
    which the first ``query_samples`` are sound and the rest is zero; labels: its class. These three are
    None where the data gives no queries.
    """

    mixture: Tensor
    sources: Tensor
    ids: tuple[str, ...]
    sample_rate: int
    queries: Tensor | None = None
    query_samples: tuple[int, ...] | None = None
    labels: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return self.mixture.shape[0]

    @property
    def seconds(self) -> float:
        """Seconds of audio in the batch."""
        return len(self) * self.mixture.shape[-1] / self.sample_rate

    def to(self, *args: Any, **kwargs: Any) -> Batch:
        """As torch.Tensor.to, for each tensor."""
        return self._each(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self) -> Batch:
        """As torch.Tensor.pin_memory, for each tensor."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        queries = None if self.queries is None else change(self.queries)
        return replace(self, mixture=change(self.mixture), sources=change(self.sources), queries=queries)


@dataclass(frozen=True)
class SeparatorInfo:
    """What a separator says of itself; callers read this, and nothing else, to learn what it can do.

    Attributes:
        needs: The hints that it has to be given, a subset of ``HINTS``; it sees no others.
        n_sources: How many sources it always returns; None where their number is given, or estimated.
        sample_rate: The only rate in Hz that it works at; None where it works at any.
        labels: The class of each source that it returns; None where their order is arbitrary.
        latency_seconds: How far its estimates lag behind live input; None where it cannot run live.
        counts_sources: Whether it can estimate the number of sources: it is a ``CountingSeparator``.
        covers_mixture: Whether its sources are all that a mixture holds; False where it leaves out noise, so
            that its sources are not to sum to the mixture.
    """

    needs: frozenset[str] = frozenset()
    n_sources: int | None = None
    sample_rate: int | None = None
    labels: tuple[str, ...] | None = None
    latency_seconds: float | None = None
    counts_sources: bool = False
    covers_mixture: bool = True


@runtime_checkable
class Separator(Protocol):
    """One method of separation. See CONTRIBUTING.md for how to add one."""

    @property
    def info(self) -> SeparatorInfo:
        """What it needs, and what it returns."""
        ...

    def separate(self, mixture: Mixture) -> Separation:
        """Separate one mixture. Raises CannotSeparate with the reason where the method can't."""
        ...


@runtime_checkable
class CountingSeparator(Separator, Protocol):
    """A separator that can estimate how many sources there are, where its ``info`` says so."""

    def estimate_n_sources(self, mixture: Mixture) -> int:
        """The number of sources in a mixture, at least 1. Raises as ``separate``."""
        ...


def visible_hints(separator: Separator, mixture: Mixture) -> Mixture:
    """The mixture as a separator that is evaluated may see it: with the hints that it needs, and no others.

    A separator that counts sources is also given their number where it is known, because its estimate of the
    number is scored separately.

    Raises:
        CannotSeparate: The mixture lacks a hint that the separator needs.
    """
    needs = separator.info.needs
    if separator.info.counts_sources and mixture.n_sources is not None:
        needs |= {"n_sources"}
    return mixture.only(needs)


@runtime_checkable
class Trainable(Protocol):
    """An nn.Module that learns from batches."""

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Scalars to log; ``loss`` is the one to minimise."""
        ...


@runtime_checkable
class Compilable(Protocol):
    """A separator whose network torch.compile can translate."""

    network: nn.Module


@runtime_checkable
class Scored(Trainable, Protocol):
    """What learns but does not separate, a part of a separator, and so brings a score of its own.

    score_name: a word for the logs; the higher the score the better.
    """

    score_name: ClassVar[str]

    def score(self, mixture: Mixture) -> Tensor | None:
        """A scalar, averaged over the validation's mixtures; None where this one says nothing."""
        ...


@runtime_checkable
class FittedSeparator(Separator, Protocol):
    """A separator that is an nn.Module and learns from single sources, all at once, without gradients."""

    def fit(self, clips: Iterable[Query]) -> dict[str, float]:
        """Learn from clips, labelled by class, or by speaker where there are no classes.

        clips are gone through more than once, so they are no mere iterator. Returns figures to log.
        """
        ...
