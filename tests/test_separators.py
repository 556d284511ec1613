"""One contract for all separators, then the laws of each."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import permutations
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torchaudio.models import ConvTasNet

from sepnet import artifact
from sepnet.data.corpus import Manifest, Utterance
from sepnet.data.librimix import FixedSet, read_list
from sepnet.dsp.filterbank import STFT, LearnedFilterbank
from sepnet.dsp.masks import ideal_binary_mask, ideal_ratio_mask, wiener_mask
from sepnet.metrics import best_permutation, improvement, pairwise, permute, si_sdr, snr, thresholded_snr
from sepnet.networks.blstm import BLSTM
from sepnet.networks.tcn import TCN
from sepnet.separators.identity import Identity
from sepnet.separators.mask_estimator import MaskEstimator, Objective, SpectralObjective, WaveformObjective
from sepnet.separators.oracle import OracleMask
from sepnet.separators.wrappers import Consistent, Resampled
from sepnet.types import Batch, CannotSeparate, Mixture, Query, Separation, Separator, SepnetError

RATE = 8000
SHARED = Path(__file__).parents[2] / "shared"


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# The contract


@dataclass(frozen=True)
class Case:
    """A separator under contract: a file of conf/model, made small.

    consistent: whether the estimates sum to the mixture. at_once: whether half an hour fits into memory,
    which all pairs of its frames do not. refuses: a pattern that the reason of each CannotSeparate has to
    match, where the method may refuse a mixture at all. rate: what it was made for, in Hz. longer: how many
    times the queries have to be repeated to be long enough.
    """

    model: str
    overrides: dict[str, Any] = field(default_factory=dict)
    consistent: bool = True
    refuses: str | None = None
    at_once: bool = True
    rate: int = RATE
    longer: int = 1

    def __str__(self) -> str:
        return self.model


FEW_CHANNELS = "^needs 2 channels|channels have rank [01]"
TINY_TCN = {"network": {"n_channels": 8, "n_hidden": 12, "n_blocks": 2, "n_repeats": 1}}
FEW_GAUSSIANS = {
    "_target_": "sepnet.separators.query.parameters.gaussian_mixture",
    "_partial_": True,
    "n_gaussians": 6,
    "fit_steps": 2,
}

SEPARATORS = [
    Case("identity", consistent=False),
    Case("ibm"),
    Case("irm"),
    Case("wiener"),
    Case("iam", consistent=False),
    Case("psm", consistent=False),
    Case("crm", consistent=False),
    Case("oracle_gate"),
    Case("oracle_patches"),
    Case("oracle_mel"),
    Case("oracle_linear"),
    Case("hpss"),
    Case("repet", {"period_seconds": [0.04, 0.1]}, refuses="wants to hear a period"),
    Case("nmf", {"n_components": 6, "n_iterations": 20}),
    Case("nmf_rank", {"n_restarts": 1, "n_iterations": 20}),
    Case("nmf_supervised", {"n_groups": 3, "n_components": 4, "n_iterations": 10}),
    Case("fastica", refuses=FEW_CHANNELS),
    Case("auxiva", {"window_seconds": 0.016, "n_iterations": 5}, refuses=FEW_CHANNELS),
    Case("ilrma", {"window_seconds": 0.016, "n_iterations": 5, "warm_iterations": 5}, refuses=FEW_CHANNELS),
    Case("energy", {"descent": {"steps": 8}}),
    Case("energy_textbook", {"descent": {"steps": 4}}),
    Case("energy_reference", {"descent": {"steps": 8}}),
    Case("energy_reference_textbook", {"descent": {"steps": 4}}),
    Case("energy_live", {"descent": {"steps": 8}}),
    Case("nmf_online", {"n_components": 4, "n_iterations": 5}),
    Case("pit", TINY_TCN),
    Case("pit_blstm", {"network": {"hidden": 8, "n_layers": 1}}),
    Case("conv_tasnet", {**TINY_TCN, "filterbank": {"n_filters": 16}}, consistent=False),
    Case(
        "dprnn",
        {
            "filterbank": {"n_filters": 16},
            "network": {"n_channels": 8, "hidden": 6, "chunk": 10, "n_blocks": 1},
        },
    ),
    Case(
        "conv_autoencoder",
        {
            "sample_rate": RATE,
            "n_sources": 2,
            "labels": ["dog", "rain"],
            "network": {"n_vertical": 6, "n_horizontal": 4, "n_bottleneck": 8},
        },
    ),
    Case("pit_any", TINY_TCN, refuses="^41 sources"),
    Case("pit_causal", TINY_TCN),
    Case("deep_clustering", TINY_TCN, refuses="^41 sources"),
    Case(
        "pit_locoformer",
        {"network": {"n_channels": 8, "n_hidden": 8, "n_heads": 2, "n_groups": 2, "n_blocks": 1}},
        at_once=False,
    ),
    Case("pit_tcn", {**TINY_TCN, "filterbank": {"n_filters": 16}}),
    Case(
        "query_mask",
        {"network": {"n_channels": 8, "n_blocks": 2, "n_repeats": 1}},
        consistent=False,  # each query has a mask of its own
        rate=16000,
        longer=40,
    ),
    *(
        Case(f"ast_{start}", consistent=False, at_once=False, rate=16000, longer=40)
        for start in ("contrast", "network", "patches", "semantic", "stitching")
    ),
    *(
        Case(
            f"ast_dgmo{start}",
            {"dgmo": {"opt_steps": 2}},
            consistent=False,
            at_once=False,
            rate=16000,
            longer=40,
        )
        for start in ("", "_contrast", "_patches", "_semantic")
    ),
    Case(
        "ast_dgmo_faithful",
        {"dgmo": {"opt_steps": 2, "parameters": FEW_GAUSSIANS}},
        consistent=False,
        at_once=False,
        rate=16000,
        longer=40,
    ),
]
NOT_SEPARATORS = {"ast_tagger"}

SIGNALS = {
    "one sample": torch.tensor([[0.5]]),
    "100 samples": 0.1 * noise(1, 100),
    "777 samples": 0.1 * noise(1, 777),
    "half a second": 0.1 * noise(1, 4000),
    "silence": torch.zeros(1, 2000),
    "a constant": torch.full((1, 2000), 0.25),
    "a click": torch.zeros(1, 2000).index_fill(1, torch.tensor([700]), 0.9),
    "far too loud": 30.0 * noise(1, 2000),
    "2 channels": 0.1 * (noise(2, 2) @ noise(2, 3000, seed=1).pow(3)),
    "8 channels": 0.1 * noise(8, 1500),
    "the same channel twice": 0.1 * noise(1, 2000).expand(2, -1),
    "one channel of two silent": 0.1 * noise(1, 2000) * torch.tensor([[1.0], [0.0]]),
}


def test_each_model_is_under_contract() -> None:
    files = (artifact.config_folder() / "model").glob("*.yaml")
    assert {path.stem for path in files} - NOT_SEPARATORS == {case.model for case in SEPARATORS}


@cache
def build(model: str) -> Separator:
    case = next(case for case in SEPARATORS if case.model == model)
    node = OmegaConf.load(artifact.config_folder() / "model" / f"{model}.yaml")
    torch.manual_seed(0)
    separator = artifact.build(OmegaConf.merge(node, case.overrides))
    return separator.eval() if isinstance(separator, nn.Module) else separator


@pytest.fixture(params=SEPARATORS, ids=str, name="case")
def _case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(params=SIGNALS, name="audio")
def _audio(request: pytest.FixtureRequest) -> Tensor:
    return SIGNALS[request.param].clone()


def told(audio: Tensor, seed: int = 1) -> Mixture:
    """A mixture of two sources with every hint there is."""
    first = audio[0] * torch.rand(audio.shape[1], generator=torch.Generator().manual_seed(seed))
    return Mixture(
        audio=audio,
        sample_rate=RATE,
        n_sources=2,
        queries=(Query(noise(100, seed=seed), RATE, "a sound"), Query(noise(50, seed=seed + 1), RATE)),
        references=torch.stack([first, audio[0] - first]),
    )


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
    given = fitted(case, mixture, rate).only(separator.needs)
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
        sources = separator.separate(mixture.only(separator.needs)).sources
    except CannotSeparate as refusal:
        told_number = str(refusal)
        assert "41" in told_number
    else:
        assert len(sources) == (41 if "n_sources" in separator.needs else 2)
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
    needs = build(case.model).needs
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
            build(case.model).separate(fitted(case, mixture, other).only(build(case.model).needs))
    else:
        assert separate(case, mixture, other).shape == (2, 777)


def test_separators_are_separators(case: Case) -> None:
    separator = build(case.model)
    assert isinstance(separator, Separator)
    assert separator.needs <= {"n_sources", "queries", "references"}
    assert type(separator).__doc__


# Identity and the oracles


def test_identity_is_the_floor() -> None:
    mixture = replace(told(0.1 * noise(1, 4000)), n_sources=3)
    sources = Identity().separate(mixture).sources
    assert torch.equal(sources, mixture.audio.expand(3, -1))
    with pytest.raises(CannotSeparate, match="n_sources"):
        Identity().separate(Mixture(mixture.audio, RATE))


def sparse_sources(n_sources: int = 2, time: int = 16000, density: float = 0.08) -> Tensor:
    """Signals that are there in few bins of time and frequency, as speech is."""
    stft = STFT(window_samples=256, hop_samples=64, window="hann")
    shape = (n_sources, stft.n_bins, stft.n_frames(time))
    coarse = torch.rand(
        n_sources, -(-shape[1] // 8), -(-shape[2] // 8), generator=torch.Generator().manual_seed(3)
    )
    active = (
        (coarse < density).repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)[:, : shape[1], : shape[2]]
    )
    return 0.1 * stft.invert(torch.complex(noise(*shape), noise(*shape, seed=1)) * active, time)


def gain_db(separator: Separator, references: Tensor) -> float:
    """The SI-SDR improvement, the order given."""
    mixture = Mixture(
        references.sum(dim=0, keepdim=True), RATE, n_sources=len(references), references=references
    )
    sources = separator.separate(mixture.only(separator.needs)).sources
    return float(improvement(si_sdr, sources, references, mixture.audio).mean())


def test_oracles_are_the_ceiling_and_order_by_sparseness() -> None:
    references = sparse_sources()
    gains = {
        mask: gain_db(OracleMask(mask=mask), references)
        for mask in (ideal_binary_mask, ideal_ratio_mask, wiener_mask)
    }
    floor = gain_db(Identity(), references)
    assert floor == pytest.approx(0.0, abs=1e-4)
    assert min(gains.values()) > floor + 8
    assert gains[ideal_binary_mask] > gains[ideal_ratio_mask] + 0.5
    assert gains[wiener_mask] > gains[ideal_ratio_mask] + 0.5


def test_oracles_separate_what_never_meets() -> None:
    references = torch.zeros(2, 8000)
    references[0, :3000], references[1, 4000:] = 0.1 * noise(3000), 0.1 * noise(4000, seed=1)
    for mask in (ideal_binary_mask, ideal_ratio_mask, wiener_mask):
        assert gain_db(OracleMask(mask=mask), references) > 60


def test_oracles_keep_the_order_of_the_references() -> None:
    references = sparse_sources(3)
    mixture = Mixture(references.sum(dim=0, keepdim=True), RATE, references=references)
    oracle = OracleMask(mask=ideal_ratio_mask)
    separation = oracle.separate(mixture)
    assert separation.labels == ("source 1", "source 2", "source 3")
    turned = oracle.separate(replace(mixture, references=references[[2, 0, 1]])).sources
    torch.testing.assert_close(turned, separation.sources[[2, 0, 1]])
    scores = pairwise(si_sdr, separation.sources[None], references[None])
    assert best_permutation(scores).tolist() == [[0, 1, 2]]


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the published lists and their speech are not at {SHARED}")
@pytest.mark.parametrize(("mask", "published_db"), [(ideal_ratio_mask, 12.60), (ideal_binary_mask, 13.34)])
def test_oracles_score_as_published_on_libri2mix(
    mask: Callable[[Tensor], Tensor], published_db: float
) -> None:
    # Cosentino et al. 2020, table 5, over 3,000 mixtures; these are the first 40 of 246 of them.
    root = SHARED / "audio" / "speech8k"
    files = tuple(
        Utterance(path.relative_to(root).as_posix(), path.parent.name, "test", "", 1.0, RATE, "")
        for path in sorted((root / "test").glob("*/*.flac"))
    )
    mixtures = read_list(root / "libri2mix_test-clean_subset.csv")[:40]
    gains = [
        gain_db(OracleMask(mask=mask), mixture.references)
        for mixture in FixedSet(mixtures=mixtures, manifest=Manifest(root, files), sample_rate=RATE)
    ]
    assert sum(gains) / len(gains) == pytest.approx(published_db, abs=0.6)


# The mask estimator


class Dictated(nn.Module):
    """A network that says what it was told, whatever it sees: (out,) at each frame."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, features: Tensor) -> Tensor:
        return self.logits[None, :, None].expand(len(features), -1, features.shape[-1])


def tiny(n_in: int, n_out: int) -> nn.Module:
    return TCN(n_in, n_out, n_channels=16, n_hidden=24, n_blocks=3, n_repeats=1, separable=False)


def estimator(**settings: Any) -> MaskEstimator:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {
        "filterbank": STFT(hop_samples=128),
        "network": tiny,
        "objective": WaveformObjective(),
    }
    return MaskEstimator(**{**defaults, **settings})


def batch(n_items: int = 3, time: int = 2000, seed: int = 0, n_sources: int = 2) -> Batch:
    sources = 0.1 * noise(n_items, n_sources, time, seed=seed) * torch.linspace(0.3, 1, n_sources)[:, None]
    ids = tuple(str(item) for item in range(n_items))
    return Batch(sources.sum(dim=1, keepdim=True), sources, ids, RATE)


VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "snr": {"objective": WaveformObjective(metric=snr), "consistent": False},
    "thresholded": {"objective": WaveformObjective(metric=partial(thresholded_snr, max_db=30.0))},
    "softmax": {"activation": "softmax", "features": "coefficients"},
    "relu": {"activation": "relu", "features": "compressed", "consistent": False},
    "complex": {"activation": "complex", "features": "compressed"},
    "magnitudes": {"objective": SpectralObjective(phase_sensitive=False)},
    "phase-sensitive": {"objective": SpectralObjective()},
    "learned": {"filterbank": LearnedFilterbank(n_filters=32), "features": "coefficients"},
    "recurrent": {"network": partial(BLSTM, hidden=8, n_layers=1)},
}


@pytest.fixture(params=VARIANTS, name="variant")
def _variant(request: pytest.FixtureRequest) -> MaskEstimator:
    return estimator(**VARIANTS[request.param])


def test_the_loss_does_not_know_the_order_of_the_references(variant: MaskEstimator) -> None:
    given = batch()
    turned = replace(given, sources=given.sources.flip(1))
    for name, value in variant.loss(given).items():
        torch.testing.assert_close(variant.loss(turned)[name], value)


@pytest.mark.parametrize("gain", [1e-3, 1e3])
def test_the_loss_does_not_know_the_level(variant: MaskEstimator, gain: float) -> None:
    given = batch()
    scaled = replace(given, mixture=gain * given.mixture, sources=gain * given.sources)
    for name, value in variant.loss(given).items():
        torch.testing.assert_close(variant.loss(scaled)[name], value, rtol=1e-3, atol=1e-3)


def test_the_loss_of_a_batch_is_the_mean_of_its_items(variant: MaskEstimator) -> None:
    given = batch()
    alone = [
        variant.loss(Batch(given.mixture[k : k + 1], given.sources[k : k + 1], ("",), RATE))["loss"]
        for k in range(3)
    ]
    torch.testing.assert_close(variant.loss(given)["loss"], torch.stack(alone).mean(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("silent", ["a source", "a mixture", "all"])
def test_silence_does_not_break_the_gradient(variant: MaskEstimator, silent: str) -> None:
    given = batch()
    if silent == "a source":
        given.sources[1, 0] = 0
        given.mixture[1] = given.sources[1, 1:]
    else:
        items = [1] if silent == "a mixture" else [0, 1, 2]
        given.sources[items], given.mixture[items] = 0, 0
    losses = variant.loss(given)
    assert all(value.isfinite() for value in losses.values())
    losses["loss"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in variant.parameters())
    if silent == "all":
        assert losses["si_sdri"] == 0


def test_what_is_logged_is_what_evaluation_finds(variant: MaskEstimator) -> None:
    given = batch(n_items=1, time=4000)
    mixture = Mixture(given.mixture[0], RATE)
    sources = variant.separate(mixture).sources
    logged = variant.loss(given)["si_sdri"].item()
    gains = [
        improvement(si_sdr, sources[list(order)], given.sources[0], mixture.audio).mean().item()
        for order in permutations(range(2))
    ]
    assert any(logged == pytest.approx(gain, abs=1e-2) for gain in gains)  # the objective chose the order
    if getattr(variant.objective, "metric", None) is si_sdr:
        assert logged == pytest.approx(max(gains), abs=1e-2)


def test_the_default_loss_is_the_negated_si_sdr_of_the_best_order() -> None:
    model, given = estimator(), batch(n_sources=2)
    losses = []
    for item in range(3):
        sources = model.separate(Mixture(given.mixture[item], RATE)).sources
        losses.append(
            min(-float(si_sdr(sources[list(o)], given.sources[item]).mean()) for o in permutations(range(2)))
        )
    assert model.loss(given)["loss"].item() == pytest.approx(sum(losses) / 3, abs=1e-3)


@pytest.mark.parametrize("phase_sensitive", [False, True])
def test_spectral_losses_are_those_of_the_paper(phase_sensitive: bool) -> None:
    # Kolbaek et al. 2017, eq. 9 and 10, by a loop over orders.
    stft = STFT(hop_samples=128)
    model = estimator(
        filterbank=stft, objective=SpectralObjective(phase_sensitive=phase_sensitive), consistent=False
    )
    given = batch(n_items=1)
    level = given.mixture.square().mean().sqrt()
    signal, references = given.mixture[0] / level, given.sources[0] / level
    masked = model(signal).masked[0]
    magnitudes = torch.complex(*masked.chunk(2, dim=1)).abs()
    observed, sources = stft.spectrogram(signal)[0], stft.spectrogram(references)
    targets = sources.abs()
    if phase_sensitive:
        targets = (
            (targets * torch.cos(sources.angle() - observed.angle())).clamp_min(0).minimum(observed.abs())
        )
    expected = min(
        (magnitudes[list(order)] - targets).square().mean().item() for order in permutations(range(2))
    )
    assert model.loss(given)["loss"].item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("activation", "logit", "share"),
    [
        ("sigmoid", 0.0, 0.5),
        ("sigmoid", math.log(3), 0.75),
        ("softmax", 2.0, 1 / 3),
        ("relu", 1.5, 1.5),
        ("relu", -1.0, 0.0),
    ],
)
@pytest.mark.parametrize("learned", [False, True])
def test_activations_make_the_masks_that_they_should(
    activation: str, logit: float, share: float, learned: bool
) -> None:
    bank = LearnedFilterbank(n_filters=32) if learned else STFT(hop_samples=128)
    model = estimator(
        filterbank=bank,
        features="coefficients",
        activation=activation,
        network=lambda n_in, n_out: Dictated(torch.full((n_out,), logit)),
        n_sources=3,
        consistent=False,
    )
    signal = noise(1, 1000)
    expected = share * bank.decode(bank.encode(signal), 1000).expand(3, -1)
    torch.testing.assert_close(model(signal).sources[0], expected, atol=1e-5, rtol=1e-4)


def test_complex_masks_turn_the_phase() -> None:
    quarter = 2 * math.atanh(0.5)  # 2 tanh(x / 2) = 1

    def network(n_in: int, n_out: int) -> nn.Module:
        zero, one = torch.zeros(n_out // 4), torch.full((n_out // 4,), quarter)
        return Dictated(torch.cat([one, zero, zero, one]))  # 1 for the first source, i for the second

    model = estimator(activation="complex", network=network, consistent=False)
    stft = model.filterbank
    signal = noise(1, 1000)
    first, second = model(signal).sources[0]
    torch.testing.assert_close(first, signal[0], atol=1e-5, rtol=1e-4)
    turned = stft.invert(1j * stft.spectrogram(signal), 1000)[0]
    torch.testing.assert_close(second, turned, atol=1e-5, rtol=1e-4)
    extreme = estimator(
        activation="complex", network=lambda _, n: Dictated(torch.full((n,), 1e4)), consistent=False
    )
    masked = extreme(signal).masked[0, 0]
    bound = 2 * math.sqrt(2) * torch.complex(*stft.encode(signal)[0].chunk(2)).abs()
    torch.testing.assert_close(torch.complex(*masked.chunk(2)).abs(), bound, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"features": "log_magnitude"},
        {"features": "compressed"},
        {"features": "coefficients", "activation": "complex"},
        {"features": "coefficients", "objective": SpectralObjective()},
    ],
    ids=("log_magnitude", "compressed", "complex", "spectral objective"),
)
def test_what_wants_an_stft_refuses_learned_filters(settings: dict[str, Any]) -> None:
    with pytest.raises(SepnetError, match=r"want an STFT, but the filterbank is LearnedFilterbank"):
        estimator(filterbank=LearnedFilterbank(), **settings)


@pytest.mark.parametrize("time", [800, 803, 1607])
@pytest.mark.parametrize("n_sources", [2, 3])
def test_conv_tasnet_is_that_of_torchaudio(n_sources: int, time: int) -> None:
    torch.manual_seed(0)
    peer = ConvTasNet(num_sources=n_sources, msk_num_layers=4, msk_num_stacks=2)
    node = OmegaConf.load(artifact.config_folder() / "model" / "conv_tasnet.yaml")
    sizes = {"n_sources": n_sources, "network": {"n_blocks": 4, "n_repeats": 2}}
    ours: MaskEstimator = artifact.build(OmegaConf.merge(node, sizes))
    theirs = peer.state_dict()
    filters = [theirs.pop("encoder.weight"), theirs.pop("decoder.weight")]
    ours.network.load_state_dict(
        {name: theirs[peers] for name, peers in zip(ours.network.state_dict(), theirs, strict=True)}
    )
    ours.filterbank.load_state_dict(dict(zip(ours.filterbank.state_dict(), filters, strict=True)))
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in peer.parameters())
    signal = noise(2, time)
    with torch.no_grad():
        torch.testing.assert_close(ours(signal).sources, peer(signal[:, None]), atol=1e-5, rtol=0)


def test_conv_tasnet_has_the_size_of_torchaudio_s() -> None:
    node = OmegaConf.load(artifact.config_folder() / "model" / "conv_tasnet.yaml")
    ours, theirs = (
        sum(p.numel() for p in each.parameters()) for each in (artifact.build(node), ConvTasNet())
    )
    assert ours == theirs


@pytest.mark.parametrize("changed_from", [0, 100, 1000, 2500])
def test_a_causal_model_knows_nothing_of_the_future(changed_from: int) -> None:
    separator = build("pit_causal")
    assert separator.latency_seconds == 0.032  # type: ignore[attr-defined]
    audio = 0.1 * noise(1, 4000)
    other = torch.cat([audio[:, :changed_from], 30 * noise(1, 4000 - changed_from, seed=7)], dim=1)
    one, another = (separator.separate(Mixture(each, RATE)).sources for each in (audio, other))
    known = max(0, changed_from - round(0.032 * RATE) + 1)
    torch.testing.assert_close(another[:, :known], one[:, :known], atol=1e-6, rtol=0)
    assert (another[:, changed_from:] - one[:, changed_from:]).abs().max() > 1e-2


def test_what_waits_for_the_end_has_no_latency() -> None:
    assert build("pit").latency_seconds is None  # type: ignore[attr-defined]
    network = partial(TCN, n_channels=8, n_hidden=12, n_blocks=2, n_repeats=1, causal=True)
    assert estimator(network=network).latency_seconds is None  # the level of the whole clip
    assert estimator(network=network, level="running").latency_seconds == 256 / RATE


def test_more_sources_than_it_was_built_for_are_refused() -> None:
    with pytest.raises(SepnetError, match="hold up to 3 sources, but the network gives 2"):
        estimator().loss(batch(n_sources=3))


@pytest.mark.parametrize(
    "objective", [WaveformObjective(), SpectralObjective()], ids=["waveform", "spectral"]
)
def test_it_learns_one_mixture(objective: Objective) -> None:
    time = torch.arange(4000) / RATE
    sources = torch.stack(
        [torch.sin(2 * math.pi * 300 * time * (1 + time)), torch.sin(2 * math.pi * 2500 * time)]
    )
    given = Batch(0.1 * sources.sum(dim=0)[None, None], 0.1 * sources[None], ("two tones",), RATE)
    model = estimator(objective=objective)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        losses = model.loss(given)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    assert losses["si_sdri"] > 12
    mixture = Mixture(given.mixture[0], RATE)
    estimates = model.eval().separate(mixture).sources[None]
    order = best_permutation(pairwise(si_sdr, estimates, given.sources))
    scores = snr(permute(estimates, order), given.sources)
    assert scores.min() > 10  # the level is right, too


# Wrappers


class Spy:
    """Takes note of what it is given, and returns the mixture and its negative."""

    needs: ClassVar[frozenset[str]] = frozenset({"queries", "references", "n_sources"})

    def separate(self, mixture: Mixture) -> Separation:
        self.seen = mixture
        return Separation(torch.stack([mixture.audio[0], -mixture.audio[0]]), labels=("plus", "minus"))


def tones(sample_rate: int, seconds: float = 0.5) -> Tensor:
    """(source, time): two sources with nothing above 3.2 kHz."""
    time = torch.arange(round(seconds * sample_rate)) / sample_rate
    hertz = torch.tensor([[200.0, 900.0, 2500.0], [450.0, 1500.0, 3200.0]])
    return 0.1 * torch.sin(2 * math.pi * hertz[..., None] * time).sum(dim=1)


@pytest.mark.parametrize("sample_rate", [16000, 44100, 48000, 11025, 8000, 6000])
@pytest.mark.parametrize("time", [1, 2, 999, 4001])
def test_resampling_gives_length_rate_and_labels_back(sample_rate: int, time: int) -> None:
    spy = Spy()
    audio = noise(2, time)
    query = Query(noise(500), 16000, "a sound")
    mixture = Mixture(audio, sample_rate, n_sources=2, queries=(query,), references=noise(3, time))
    separation = Resampled(spy, sample_rate=RATE).separate(mixture)
    assert separation.sources.shape == (2, time)
    assert separation.labels == ("plus", "minus")
    inside = -(-time * RATE // sample_rate)
    assert spy.seen.sample_rate == RATE
    assert spy.seen.audio.shape == (2, inside)
    assert spy.seen.references.shape == (3, inside)
    assert spy.seen.n_sources == 2
    if sample_rate != RATE:
        assert [(q.audio.shape[0], q.sample_rate, q.label) for q in spy.seen.queries] == [
            (250, RATE, "a sound")
        ]
    assert Resampled(spy, sample_rate=RATE).needs == spy.needs


@pytest.mark.parametrize("sample_rate", [16000, 44100])
def test_what_lies_below_the_inner_rate_comes_back_unharmed(sample_rate: int) -> None:
    sources = tones(sample_rate)
    mixture = Mixture(sources.sum(dim=0, keepdim=True), sample_rate, references=sources)
    resampled = Resampled(OracleMask(mask=ideal_binary_mask), sample_rate=RATE)
    estimates = resampled.separate(mixture).sources
    inner = slice(sample_rate // 20, -sample_rate // 20)  # a filter has no signal to go on at the ends
    scores = snr(estimates[:, inner], sources[:, inner])
    direct = snr(OracleMask(mask=ideal_binary_mask).separate(mixture).sources[:, inner], sources[:, inner])
    assert scores.min() > 25
    assert (scores > direct - 6).all()
    spied = Resampled(Spy(), sample_rate=RATE)
    mixture = replace(mixture, n_sources=2, queries=())
    through = spied.separate(mixture).sources[0]
    assert snr(through[inner], mixture.audio[0, inner]) > 45


def test_the_same_rate_passes_untouched() -> None:
    mixture = Mixture(noise(1, 100), RATE, n_sources=2, queries=(), references=noise(2, 100))
    spy = Spy()
    Resampled(spy, sample_rate=RATE).separate(mixture)
    assert spy.seen is mixture


def test_consistent_estimates_sum_to_channel_0() -> None:
    mixture = Mixture(noise(3, 500), RATE, n_sources=2, queries=(), references=noise(2, 500))
    separator = Consistent(Spy())
    separation = separator.separate(mixture)
    torch.testing.assert_close(separation.sources.sum(dim=0), mixture.audio[0])
    torch.testing.assert_close(separation.sources, 1.5 * mixture.audio[:1] * torch.tensor([[1.0], [-1 / 3]]))
    assert separation.labels == ("plus", "minus")
    assert separator.needs == Spy.needs


def test_wrappers_wrap_wrappers() -> None:
    sources = tones(16000) + 0.05 * noise(2, 8000)  # with a high band, which the inner rate loses
    mixture = Mixture(sources.sum(dim=0, keepdim=True), 16000, references=sources)
    separator = Consistent(Resampled(OracleMask(mask=ideal_ratio_mask), sample_rate=RATE))
    assert isinstance(separator, Separator)
    estimates = separator.separate(mixture.only(separator.needs)).sources
    torch.testing.assert_close(estimates.sum(dim=0), mixture.audio[0], atol=1e-6, rtol=1e-5)


# The conv autoencoder, and classes in fixed slots


def test_outputs_that_stand_for_classes_are_labelled_and_trained_in_order() -> None:
    separator = build("conv_autoencoder")
    assert isinstance(separator, MaskEstimator)
    audio = 0.1 * noise(1, 2000)
    assert separator.separate(Mixture(audio, RATE)).labels == ("dog", "rain")
    sources = 0.1 * noise(3, 2, 2000)
    batch = Batch(sources.sum(dim=1, keepdim=True), sources, ("a", "b", "c"), RATE)
    turned = replace(batch, sources=sources.flip(1))
    losses = [float(separator.loss(one)["loss"].detach()) for one in (batch, turned)]
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)
    node = OmegaConf.load(artifact.config_folder() / "model" / "conv_autoencoder.yaml")
    case = next(case for case in SEPARATORS if case.model == "conv_autoencoder")
    torch.manual_seed(0)
    free = artifact.build(OmegaConf.merge(node, case.overrides, {"pit": True})).eval()
    assert free.separate(Mixture(audio, RATE)).labels is None
    losses = [float(free.loss(one)["loss"].detach()) for one in (batch, turned)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_ratio_masks_are_shares_and_a_silent_class_has_a_finite_loss() -> None:
    separator = build("conv_autoencoder")
    assert isinstance(separator, MaskEstimator)
    sources = 0.1 * noise(2, 2, 2000) * torch.tensor([1.0, 0.0])[:, None]
    estimate = separator(sources.sum(dim=1))
    torch.testing.assert_close(estimate.masked.sum(dim=1), estimate.analysis, atol=1e-5, rtol=1e-5)
    loss = separator.loss(Batch(sources.sum(dim=1, keepdim=True), sources, ("a", "b"), RATE))["loss"]
    assert loss.isfinite()


def test_labels_and_their_number_have_to_agree() -> None:
    node = OmegaConf.load(artifact.config_folder() / "model" / "conv_autoencoder.yaml")
    with pytest.raises(SepnetError, match=r"n_sources=3, but there are 5 labels \(dog_bark, rain"):
        artifact.build(OmegaConf.merge(node, {"n_sources": 3}))


# An unknown number of sources


class Bands(nn.Module):
    """A network that has learnt all: each third of the frequencies is another source's."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.n_in, self.n_sources = n_in, n_out // n_in
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, features: Tensor) -> Tensor:
        batch, bins, frames = features.shape
        logits = torch.full((batch, self.n_sources, bins, frames), -30.0)
        for place in range(bins):
            logits[:, self.n_sources * place // bins, place] = 30.0
        return self.scale * logits.flatten(1, 2)


def in_bands(*bands: int) -> Tensor:
    """Noises (source, time), each in one third of the frequencies."""
    spectrum = torch.fft.rfft(noise(len(bands), 8000))
    for source, band in enumerate(bands):
        inside = torch.zeros(spectrum.shape[-1], dtype=torch.bool)
        inside[1333 * band + 150 : 1333 * (band + 1) - 150] = True
        spectrum[source, ~inside] = 0
    return 0.1 * torch.fft.irfft(spectrum, n=8000)


def counting(count: str, **more: Any) -> MaskEstimator:
    return MaskEstimator(
        filterbank=STFT(),
        network=Bands,
        objective=WaveformObjective(metric=thresholded_snr, silent=True),
        n_sources=3,
        count=count,
        **more,
    ).eval()


@pytest.mark.parametrize("bands", [(0,), (2,), (0, 1), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("gain", [1e-3, 1.0])
def test_sources_are_counted_and_the_loudest_are_given(bands: tuple[int, ...], gain: float) -> None:
    references = gain * in_bands(*bands)
    mixture = Mixture(references.sum(dim=0, keepdim=True), RATE, n_sources=len(bands))
    found, told_number = counting("estimated"), counting("given")
    assert found.needs == frozenset()
    assert told_number.needs == frozenset({"n_sources"})
    assert found.count(mixture) == told_number.count(mixture) == len(bands)
    assert found.n_sources is None
    for separator in (found, told_number):
        sources = separator.separate(mixture.only(separator.needs)).sources
        assert sources.shape == references.shape
        assert si_sdr(sources, references).min() > 25
        torch.testing.assert_close(sources.sum(dim=0), mixture.audio[0], atol=1e-5 * gain, rtol=0)


def test_what_always_gives_the_same_number_does_not_count() -> None:
    assert build("pit").count(told(SIGNALS["half a second"])) is None  # type: ignore[attr-defined]
    assert counting("estimated").count(Mixture(torch.zeros(1, 3000), RATE)) == 1


def test_a_network_that_leaves_the_absent_silent_has_the_least_loss() -> None:
    """Three outputs for two sources: the third is silent, and a leak into it costs."""
    references = in_bands(0, 1)[None]
    batch = Batch(references.sum(dim=1, keepdim=True), references, ("a",), RATE)
    padded = replace(batch, sources=torch.cat([references, torch.zeros(1, 1, 8000)], dim=1))
    right = counting("given").loss(batch)["loss"].item()
    assert right == pytest.approx(counting("given").loss(padded)["loss"].item(), abs=1e-4)
    assert right < -25  # each of the three is at most 30 dB
    leaky = counting("given")
    with torch.no_grad():
        leaky.network.scale.mul_(0.05)  # masks of 0.82 and 0.18 instead of 1 and 0
    loss = leaky.loss(batch)["loss"]
    assert loss.item() > right + 10
    loss.backward()
    assert leaky.network.scale.grad.isfinite()


def test_more_sources_than_outputs_are_refused() -> None:
    references = 0.1 * noise(1, 4, 2000)
    with pytest.raises(SepnetError, match=r"hold up to 4 sources, but the network gives 3"):
        counting("given").loss(Batch(references.sum(dim=1, keepdim=True), references, ("a",), RATE))


def test_a_source_that_is_all_of_its_mixture_has_no_say_in_the_gain() -> None:
    """Of it and a mixture of two the gain is that of the two; of it alone it is 0 dB."""
    two = in_bands(0, 1)[None]
    one = torch.cat([two[:, :1], torch.zeros_like(two[:, :1])], dim=1)
    batches = [
        Batch(s.sum(dim=1, keepdim=True), s, ("a",) * len(s), RATE) for s in (two, torch.cat([two, one]), one)
    ]
    gains = [counting("given").loss(batch)["si_sdri"].item() for batch in batches]
    assert gains[0] > 20
    assert gains[1] == pytest.approx(gains[0], abs=1e-3)
    assert gains[2] == 0.0


def test_silence_is_given_back_as_silence_of_its_own() -> None:
    for model in ("pit", "pit_causal", "pit_locoformer"):
        audio = torch.zeros(1, 2000)
        sources = build(model).separate(Mixture(audio, RATE)).sources
        sources[1] += 1
        assert not audio.any()
        assert not sources[0].any()


def test_silent_classes_in_order_are_defined_too() -> None:
    """Outputs that stand for classes, a loss of waveforms, and a class that does not sound."""
    references = torch.cat([in_bands(0, 1), torch.zeros(1, 8000)])[None]
    separator = counting("fixed", labels=["low", "middle", "high"])
    batch = Batch(references.sum(dim=1, keepdim=True), references, ("a",), RATE)
    assert separator.loss(batch)["loss"].item() < -25
    turned = replace(batch, sources=references[:, [1, 0, 2]])
    assert separator.loss(turned)["loss"].item() > -10
    with pytest.raises(SepnetError, match="the outputs stand for 3 classes, but the mixtures have 2 slots"):
        separator.loss(replace(batch, sources=references[:, :2]))


def test_settings_that_contradict_each_other_are_refused() -> None:
    for more in ({"quiet_db": -20.0}, {"labels": ["a", "b", "c"]}):
        with pytest.raises(SepnetError, match="quiet_db is positive, and classes are not counted"):
            counting("given", **more)
    with pytest.raises(SepnetError, match="silent=true wants a metric that is given the mixture"):
        WaveformObjective(silent=True)


def test_an_objective_that_knows_no_silence_is_refused() -> None:
    with pytest.raises(SepnetError, match=r"with count=given outputs may have to be silent"):
        MaskEstimator(filterbank=STFT(), network=Bands, objective=WaveformObjective(), count="given")
