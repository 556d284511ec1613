"""What every separator keeps."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sepnet import artifact
from sepnet.types import CannotSeparate, Mixture, Separator
from tests.separator_cases import RATE, SEPARATORS, SIGNALS, Case, build, noise, told

NOT_SEPARATORS = {"ast_tagger"}


def test_each_model_is_under_contract() -> None:
    files = (artifact.config_folder() / "model").glob("*.yaml")
    assert {path.stem for path in files} - NOT_SEPARATORS == {case.model for case in SEPARATORS}


@pytest.fixture(params=SEPARATORS, ids=str, name="case")
def _case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(params=SIGNALS, name="audio")
def _audio(request: pytest.FixtureRequest) -> Tensor:
    return SIGNALS[request.param].clone()


def fitted(case: Case, mixture: Mixture, rate: int | None = None) -> Mixture:
    """The same samples, said to be of the rate of the case or another, with queries that are long enough."""
    rate = rate or case.rate
    queries = mixture.queries and tuple(
        replace(query, audio=query.audio.repeat(case.longer), sample_rate=rate) for query in mixture.queries
    )
    return replace(mixture, sample_rate=rate, queries=queries)


def separate(case: Case, mixture: Mixture, rate: int | None = None) -> Tensor:
    """As the evaluator calls it. A refusal ends the test: well, where the method may refuse so."""
    separator = build(case.model)
    given = fitted(case, mixture, rate).only(separator.info.needs)
    try:
        separation = separator.separate(given)
    except CannotSeparate as refusal:
        if case.refuses is None or not re.search(case.refuses, str(refusal)):
            raise
        pytest.skip(f"refused: {refusal}")
    assert separation.labels is None or len(separation.labels) == len(separation.sources)
    return separation.sources


def test_estimates_are_sources_at_channel_0(case: Case, audio: Tensor) -> None:
    mixture = told(audio)
    kept = [
        mixture.audio.clone(),
        mixture.references.clone(),
        *(query.audio.clone() for query in mixture.queries),
    ]
    sources = separate(case, mixture)
    assert sources.shape == (2, audio.shape[1])
    assert sources.dtype == torch.float32
    assert sources.isfinite().all()
    assert not sources.requires_grad
    for before, after in zip(
        kept, [mixture.audio, mixture.references, *(q.audio for q in mixture.queries)], strict=True
    ):
        assert torch.equal(before, after)  # it leaves its input alone
    if case.consistent:
        torch.testing.assert_close(
            sources.sum(dim=0), audio[0], atol=1e-5 * float(audio.abs().max()), rtol=1e-5
        )
    if not audio.any():
        assert not sources.any()


def test_the_same_mixture_gives_the_same_estimates(case: Case, audio: Tensor) -> None:
    first = separate(case, told(audio)).clone()
    separate(case, told(noise(len(audio), 500, seed=7)))  # what it saw in between does not matter
    assert torch.equal(separate(case, told(audio)), first)


@pytest.mark.parametrize("gain", [1e-3, 1e3])
def test_estimates_follow_the_level(case: Case, audio: Tensor, gain: float) -> None:
    mixture = told(audio)
    scaled = replace(mixture, audio=gain * mixture.audio, references=gain * mixture.references)
    expected = gain * separate(case, mixture)
    atol = 1e-4 * float(expected.abs().max())
    torch.testing.assert_close(separate(case, scaled), expected, atol=atol, rtol=0)


def test_one_source_of_two_is_silent(case: Case) -> None:
    audio = SIGNALS["2 channels"]
    silent = torch.stack([audio[0], torch.zeros_like(audio[0])])
    sources = separate(case, replace(told(audio), references=silent))
    assert sources.shape == (2, audio.shape[1])
    assert sources.isfinite().all()


def test_more_sources_than_channels_and_components(case: Case) -> None:
    mixture = replace(told(SIGNALS["2 channels"]), n_sources=41)
    separator, mixture = build(case.model), fitted(case, mixture)
    try:
        sources = separator.separate(mixture.only(separator.info.needs)).sources
    except CannotSeparate as refusal:
        told_number = str(refusal)
        assert "41" in told_number
    else:
        assert len(sources) == (41 if "n_sources" in separator.info.needs else 2)
        assert sources.isfinite().all()


@pytest.mark.slow
def test_half_an_hour_at_once(case: Case) -> None:
    if not case.at_once:
        pytest.skip("attention, or windows at hand all at once: half an hour has to go in blocks")
    time = 30 * 60 * RATE
    audio = 0.1 * (noise(2, 2) @ noise(2, time, seed=1).pow(3))
    sources = separate(case, told(audio))
    assert sources.shape == (2, time)
    assert sources.isfinite().all()


def test_no_method_peeks(case: Case) -> None:
    audio = 0.1 * noise(2, 1000)
    one, other = told(audio), told(audio, seed=5)
    other = replace(other, n_sources=3)
    needs = build(case.model).info.needs
    same = {hint: getattr(one, hint) for hint in needs}
    assert torch.equal(separate(case, one), separate(case, replace(other, **same)))
    seen = one.only(needs)
    assert all(
        (getattr(seen, hint) is None) == (hint not in needs)
        for hint in ("n_sources", "queries", "references")
    )
    for hint in needs:
        with pytest.raises(CannotSeparate, match=hint):
            separate(case, replace(one, **{hint: None}))


def test_another_rate_is_refused_where_a_network_was_made_for_one(case: Case) -> None:
    mixture, other = told(SIGNALS["777 samples"]), 24000 - case.rate
    if hasattr(build(case.model), "sample_rate"):
        with pytest.raises(CannotSeparate, match=rf"made for {case.rate} Hz.*{other} Hz.*Resampled"):
            build(case.model).separate(fitted(case, mixture, other).only(build(case.model).info.needs))
    else:
        assert separate(case, mixture, other).shape == (2, 777)


def test_separators_are_separators(case: Case) -> None:
    separator = build(case.model)
    assert isinstance(separator, Separator)
    assert separator.info.needs <= {"n_sources", "queries", "references"}
    assert type(separator).__doc__
