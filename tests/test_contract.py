"""The laws that every separator keeps, whatever its method."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from sepnet import artifact
from sepnet.inference.pipeline import Pipeline
from sepnet.inference.stream import StreamingSeparator
from sepnet.separators.identity import Identity
from sepnet.types import (
    HINTS,
    CannotSeparate,
    CountingSeparator,
    Mixture,
    Query,
    Separation,
    Separator,
    SeparatorInfo,
    visible_hints,
)
from tests.separator_cases import QUICK_SIGNALS, RATE, SEPARATORS, Case, build, noise, sparse, with_all_hints

NOT_HERE = {"ast_tagger", "demucs"}  # a part of a separator; and one with four stems, see test_demucs.py
TYPICAL = "2 channels"  # the signal that no case refuses


def test_each_model_is_under_contract() -> None:
    files = (artifact.config_folder() / "model").glob("*.yaml")
    assert {path.stem for path in files} - NOT_HERE == {case.model for case in SEPARATORS}


def pairs(*, refused: bool) -> list[Any]:
    """Parameters (case, name of a signal) that the case is to refuse, or to separate."""
    return [
        pytest.param(
            case,
            name,
            id=f"{case}-{name}",
            marks=() if name in QUICK_SIGNALS or refused else pytest.mark.slow,
        )
        for case in SEPARATORS
        for name in case.signals
        if (name in case.refusals) == refused
    ]


each_signal = pytest.mark.parametrize(("case", "signal"), pairs(refused=False))
each_case = pytest.mark.parametrize("case", SEPARATORS, ids=str)


def adapted(case: Case, mixture: Mixture, sample_rate: int | None = None) -> Mixture:
    """The same samples, taken to be at the rate of the case or another, with queries that are long enough."""
    sample_rate = sample_rate or case.sample_rate
    queries = mixture.queries and tuple(
        replace(query, audio=query.audio.repeat(case.query_repeats), sample_rate=sample_rate)
        for query in mixture.queries
    )
    return replace(mixture, sample_rate=sample_rate, queries=queries)


def separate(case: Case, mixture: Mixture, sample_rate: int | None = None) -> Separation:
    """Separate as the evaluator does: with the declared hints alone."""
    separator = build(case.model)
    return separator.separate(adapted(case, mixture, sample_rate).only(separator.info.needs))


@cache
def estimates(case_name: str, signal: str) -> Tensor:
    """The sources of a signal, computed once; not to be written into."""
    case = next(case for case in SEPARATORS if case.model == case_name)
    return separate(case, with_all_hints(case.signals[signal].clone())).sources


# What comes out


@each_signal
def test_estimates_are_sources_at_channel_0(case: Case, signal: str) -> None:
    audio = case.signals[signal]
    sources = estimates(case.model, signal)
    assert sources.shape == (2, audio.shape[1])
    assert sources.dtype == torch.float32
    assert sources.isfinite().all()
    assert not sources.requires_grad
    if case.consistent:
        torch.testing.assert_close(
            sources.sum(dim=0), audio[0], atol=1e-5 * float(audio.abs().max()), rtol=1e-5
        )
    if not audio.any():
        assert not sources.any()


@each_signal
def test_the_input_is_left_as_it_was_and_determines_the_estimates(case: Case, signal: str) -> None:
    expected = estimates(case.model, signal)
    separate(case, with_all_hints(sparse(len(case.signals[signal]) + 1, 1000)))  # leaves no trace
    mixture = adapted(case, with_all_hints(case.signals[signal].clone()))
    tensors = [mixture.audio, mixture.references, *(query.audio for query in mixture.queries or ())]
    before = [tensor.clone() for tensor in tensors if tensor is not None]
    separator = build(case.model)
    assert torch.equal(separator.separate(mixture.only(separator.info.needs)).sources, expected)
    for tensor, copy in zip(tensors, before, strict=True):
        assert tensor is not None
        assert torch.equal(tensor, copy)


def takes_queries(case: Case) -> bool:
    return "queries" in build(case.model).info.needs


@pytest.mark.parametrize("case", filter(takes_queries, SEPARATORS), ids=str)
@pytest.mark.parametrize("signal", sorted(QUICK_SIGNALS))
def test_one_example_is_enough(case: Case, signal: str) -> None:
    if signal in case.refusals:
        pytest.skip("another test wants it to be refused")
    mixture = with_all_hints(case.signals[signal].clone())
    assert mixture.queries is not None
    sources = separate(
        case, replace(mixture, queries=mixture.queries[:1], n_sources=1, references=None)
    ).sources
    assert len(sources) >= 1
    assert sources.isfinite().all()
    if not mixture.audio.any():
        assert not sources.any()


@each_signal
def test_estimates_follow_the_level(case: Case, signal: str) -> None:
    mixture = with_all_hints(case.signals[signal].clone())
    assert mixture.references is not None
    for gain in (1e-3, 1e3):
        scaled = replace(mixture, audio=gain * mixture.audio, references=gain * mixture.references)
        expected = gain * estimates(case.model, signal)
        atol = 1e-4 * float(expected.abs().max())
        torch.testing.assert_close(separate(case, scaled).sources, expected, atol=atol, rtol=0)


@pytest.mark.parametrize(("case", "signal"), pairs(refused=True))
def test_what_cannot_be_separated_is_refused_with_the_reason(case: Case, signal: str) -> None:
    with pytest.raises(CannotSeparate, match=case.refusals[signal]):
        separate(case, with_all_hints(case.signals[signal]))


@pytest.mark.parametrize("case", [case for case in SEPARATORS if case.oracle], ids=str)
def test_an_oracle_serves_a_source_that_is_silent(case: Case) -> None:
    audio = case.signals[TYPICAL]
    silent = torch.stack([audio[0], torch.zeros_like(audio[0])])
    sources = separate(case, replace(with_all_hints(audio), references=silent)).sources
    assert sources.shape == (2, audio.shape[1])
    assert sources.isfinite().all()


@each_case
def test_more_sources_than_can_be_told_apart_are_given_or_refused(case: Case) -> None:
    mixture = adapted(case, replace(with_all_hints(case.signals[TYPICAL]), n_sources=41))
    separator = build(case.model)
    if case.refuses_many:
        assert "n_sources" in separator.info.needs
        with pytest.raises(CannotSeparate, match=case.refuses_many):
            separator.separate(visible_hints(separator, mixture))
        return
    sources = separator.separate(visible_hints(separator, mixture)).sources
    assert len(sources) == (41 if "n_sources" in separator.info.needs else 2)
    assert sources.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in SEPARATORS if not case.attention], ids=str)
def test_half_an_hour_at_once(case: Case) -> None:
    n_samples = 30 * 60 * RATE
    sources = separate(case, with_all_hints(sparse(2, n_samples))).sources
    assert sources.shape == (2, n_samples)
    assert sources.isfinite().all()


# What it says of itself


@each_case
def test_it_is_a_separator(case: Case) -> None:
    separator = build(case.model)
    assert isinstance(separator.info, SeparatorInfo)
    assert ("references" in separator.info.needs) == case.oracle
    assert list(inspect.signature(separator.separate).parameters) == ["mixture"]
    separation = separate(case, with_all_hints(case.signals[TYPICAL]))
    assert isinstance(separation, Separation)
    assert isinstance(separation.sources, Tensor)
    assert type(separator).__doc__


@each_case
def test_the_number_of_sources_is_the_one_it_announces(case: Case) -> None:
    separator = build(case.model)
    info = separator.info
    numbers = (1, 2) if case.multichannel else (1, 2, 3)
    for number in numbers:
        mixture = adapted(case, with_all_hints(case.signals[TYPICAL], n_sources=number))
        separation = separator.separate(visible_hints(separator, mixture))
        if info.n_sources is not None:
            expected = info.n_sources
        elif "queries" in info.needs:
            expected = max(2, number)  # a single query has a residual beside its target
        else:
            assert info.counts_sources or info.needs & {"n_sources", "references"}, "nothing tells the number"
            expected = number
        assert len(separation.sources) == expected


@each_case
def test_the_labels_are_those_it_announces(case: Case) -> None:
    separator = build(case.model)
    separation = separate(case, with_all_hints(case.signals[TYPICAL]))
    labels = separation.labels
    assert labels is None or len(labels) == len(separation.sources)
    if separator.info.needs & {"queries", "references"}:  # which give the order
        assert separator.info.labels is None
        assert labels is not None
    else:
        assert labels == separator.info.labels


@each_case
def test_another_rate_is_refused_exactly_where_one_is_announced(case: Case) -> None:
    mixture, other = with_all_hints(case.signals[TYPICAL]), 24000 - case.sample_rate
    own = build(case.model).info.sample_rate
    if own is None:
        assert separate(case, mixture, other).sources.shape == (2, mixture.audio.shape[1])
    else:
        assert own == case.sample_rate
        with pytest.raises(
            CannotSeparate, match=rf"made for {own} Hz.*{other} Hz.*sepnet\.inference\.Pipeline"
        ):
            separate(case, mixture, other)


@each_case
def test_a_number_of_sources_is_estimated_where_it_is_announced(case: Case) -> None:
    separator = build(case.model)
    if not separator.info.counts_sources:
        assert not isinstance(separator, CountingSeparator) or separator.info.n_sources is not None
        return
    assert isinstance(separator, CountingSeparator)
    for audio in case.signals.values():
        number = separator.estimate_n_sources(Mixture(audio, case.sample_rate))
        assert isinstance(number, int)
        assert number >= 1


@each_case
def test_the_latency_of_the_stream_is_the_one_it_announces(case: Case) -> None:
    separator = build(case.model)
    if separator.info.latency_seconds is not None:
        stream = StreamingSeparator(separator)
        assert stream.latency_ms == pytest.approx(1000 * separator.info.latency_seconds)


# What it may see


CHECK = inspect.unwrap(Mixture._check_hints).__code__


def guarded(mixture: Mixture, allowed: Iterable[str]) -> Mixture:
    """A mixture of which hints, labels and judged sources can only be read where they are allowed."""
    forbidden = (HINTS | {"labels", "is_target"}) - frozenset(allowed)

    class GuardedMixture(Mixture):
        def __getattribute__(self, name: str) -> Any:
            caller = sys._getframe(1)
            # dataclasses.replace copies what it does not show, and a new mixture checks its own hints.
            is_innocent = caller.f_globals.get("__name__") == "dataclasses" or caller.f_code is CHECK
            if name in forbidden and not is_innocent:
                raise AssertionError(f"reads {name}, which its info does not declare")
            return super().__getattribute__(name)

    fields = {field.name: getattr(mixture, field.name) for field in dataclasses.fields(mixture)}
    return GuardedMixture(**fields)


def check_that_it_does_not_peek(separator: Separator, mixture: Mixture) -> None:
    """Call a separator with all hints: to read one that it does not declare is an error."""
    needs = separator.info.needs
    assert needs <= HINTS
    counts = {"n_sources"} if separator.info.counts_sources else frozenset[str]()
    labelled = replace(mixture, labels=("a", "b"), is_target=(True, False))
    expected = separator.separate(visible_hints(separator, mixture)).sources
    assert torch.equal(separator.separate(guarded(labelled, needs | counts)).sources, expected)
    if isinstance(separator, CountingSeparator):
        separator.estimate_n_sources(guarded(labelled, ()))


@each_case
def test_no_method_peeks(case: Case) -> None:
    mixture = adapted(case, with_all_hints(case.signals[TYPICAL]))
    separator = build(case.model)
    check_that_it_does_not_peek(separator, mixture)
    for hint in separator.info.needs:
        with pytest.raises(CannotSeparate, match=hint):
            separate(case, replace(mixture, **{hint: None}))


class Peeking(Identity):
    """Declares the number of sources, and takes a look at the references."""

    def separate(self, mixture: Mixture) -> Separation:
        if mixture.references is not None:
            return Separation(mixture.references)
        return super().separate(mixture)


class PeekingAtACopy(Identity):
    """Looks at a copy of the mixture."""

    def separate(self, mixture: Mixture) -> Separation:
        queries = replace(mixture, sample_rate=16000).queries
        return Separation(super().separate(mixture).sources * (1 if queries is None else 2))


class PeekingAtLabels(Identity):
    """Looks at the classes of the sources."""

    def separate(self, mixture: Mixture) -> Separation:
        return Separation(super().separate(mixture).sources, mixture.labels)


@pytest.mark.parametrize(
    ("separator", "hint"),
    [(Peeking(), "references"), (PeekingAtACopy(), "queries"), (PeekingAtLabels(), "labels")],
)
def test_a_method_that_peeks_is_caught(separator: Separator, hint: str) -> None:
    with pytest.raises(AssertionError, match=f"reads {hint}"):
        check_that_it_does_not_peek(separator, with_all_hints(noise(1, 100)))


# What the pipeline makes of it


@each_case
def test_through_the_pipeline_it_serves_stereo_at_44100_hz(case: Case) -> None:
    sample_rate = 44100
    audio = sparse(2, sample_rate // 4)
    one_query = (Query(noise(sample_rate // 2, seed=3), sample_rate, "a sound"),)
    mixture = replace(with_all_hints(audio), sample_rate=sample_rate, queries=one_query)
    separator = build(case.model)
    pipeline = Pipeline(separator)
    assert pipeline.info == replace(separator.info, sample_rate=None, latency_seconds=None)
    separation = pipeline.separate(mixture)
    assert separation.sources.shape == (2, audio.shape[1])
    assert separation.sources.isfinite().all()
    # The pipeline makes all estimates sum to the mixture that are not of several queries, or leave out noise.
    error = (separation.sources.sum(dim=0) - audio[0]).abs().max()
    assert error <= 1e-5 * audio.abs().max() or not separator.info.covers_mixture
