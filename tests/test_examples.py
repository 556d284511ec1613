"""Examples are checked by one rule for all methods, and a missing hint names its remedy."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from sepnet import artifact
from sepnet.separators.checks import require_n_sources, require_references
from sepnet.separators.examples import checked_examples, example_labels
from sepnet.types import CannotSeparate, Mixture, Query, Separator, SepnetError

RATE = 8000
METHODS = {
    "energy_reference": {"descent": {"steps": 2}},
    "nmf_online": {"n_components": 2, "n_iterations": 2},
}
UNUSABLE = {
    "another rate": (torch.ones(800), 16000, "query 2 is at 16000 Hz, but the mixture at 8000 Hz: resample"),
    "silence": (torch.zeros(800), RATE, "query 2 is silent: give an example in which the sound is heard"),
    "almost silence": (torch.full((800,), 9e-7), RATE, "query 2 is silent"),
}


@pytest.mark.parametrize(
    ("audio", "sentence"),
    [
        (torch.ones(2, 800), r"a query is \(time,\) in floats, but this one is \(2, 800\)"),
        (torch.tensor([1.0, torch.nan, 1.0]), "a query holds 1 samples of 3 that are NaN .*: repair"),
        (torch.zeros(0), "a query holds no samples"),
    ],
)
def test_what_is_no_signal_is_no_query(audio: Tensor, sentence: str) -> None:
    with pytest.raises(SepnetError, match=sentence):
        Query(audio, RATE)


def noise(n_samples: int, seed: int = 0) -> Tensor:
    return torch.randn(n_samples, generator=torch.Generator().manual_seed(seed))


def mixture(*queries: Query) -> Mixture:
    return Mixture(0.1 * noise(2000)[None], RATE, queries=queries)


def build(model: str) -> Separator:
    node = OmegaConf.load(artifact.config_folder() / "model" / f"{model}.yaml")
    separator: Separator = artifact.build(OmegaConf.merge(node, METHODS[model]))
    return separator


@pytest.mark.parametrize("model", METHODS)
@pytest.mark.parametrize("case", UNUSABLE)
def test_methods_refuse_an_unusable_example_with_the_same_sentence(model: str, case: str) -> None:
    audio, rate, sentence = UNUSABLE[case]
    with pytest.raises(CannotSeparate, match=sentence):
        build(model).separate(mixture(Query(noise(800), RATE), Query(audio, rate)))


@pytest.mark.parametrize("model", METHODS)
def test_methods_without_bounds_take_examples_of_any_length_and_level(model: str) -> None:
    queries = (Query(noise(300), RATE, "short"), Query(2e-6 * noise(31 * RATE, seed=1), RATE, "long"))
    separation = build(model).separate(mixture(*queries))
    assert separation.labels == ("short", "long")
    assert separation.sources.isfinite().all()


@pytest.mark.parametrize(("n_samples", "refused"), [(799, True), (800, False), (16000, False), (16001, True)])
def test_bounds_of_the_length_are_those_of_the_method(n_samples: int, refused: bool) -> None:
    given = mixture(Query(noise(n_samples), RATE))
    if not refused:
        assert checked_examples(given, min_seconds=0.1, max_seconds=2.0) == given.queries
        return
    with pytest.raises(
        CannotSeparate, match=r"query 1 lasts \d\.\d\d s, but the method needs 0\.1 to 2 s: give"
    ):
        checked_examples(given, min_seconds=0.1, max_seconds=2.0)


def test_estimates_are_labelled_by_class_or_number_and_a_single_one_leaves_a_residual() -> None:
    plain, dog = Query(noise(9), RATE), Query(noise(9), RATE, "dog")
    assert example_labels((plain, dog, plain)) == ("query 1", "dog", "query 3")
    assert example_labels((dog,)) == ("dog", "residual")


@pytest.mark.parametrize(
    ("hint", "remedy"),
    [
        ("n_sources", "give their number, n_sources=2"),
        ("queries", "give an example of the sound, query=example.wav"),
        ("references", "it is an oracle, and only an evaluation knows the true sources"),
    ],
)
def test_a_missing_hint_names_its_remedy(hint: str, remedy: str) -> None:
    bare = Mixture(torch.ones(1, 10), RATE)
    sentence = f"^the method needs {hint}, which this mixture does not give: {remedy}$"
    with pytest.raises(CannotSeparate, match=sentence):
        bare.only({hint})
    check = {"n_sources": require_n_sources, "queries": checked_examples, "references": require_references}[
        hint
    ]
    with pytest.raises(CannotSeparate, match=sentence):
        check(bare)
