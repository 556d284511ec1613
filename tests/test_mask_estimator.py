"""The mask estimator: losses, masks and networks; classes in slots; an unknown number of sources."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from itertools import permutations
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torchaudio.models import ConvTasNet

from sepnet import artifact
from sepnet.dsp.filterbank import STFT, LearnedFilterbank
from sepnet.metrics import best_permutation, improvement, pairwise, permute, si_sdr, snr, thresholded_snr
from sepnet.networks.blstm import BLSTM
from sepnet.networks.tcn import TCN
from sepnet.separators.mask_estimator.model import MaskEstimator
from sepnet.separators.mask_estimator.objectives import Objective, SpectralObjective, WaveformObjective
from sepnet.types import Batch, Mixture, SepnetError
from tests.separator_cases import RATE, SEPARATORS, SIGNALS, build, noise, with_all_hints


class Dictated(nn.Module):
    """A network with the same given outputs (out,) at each frame, whatever its input."""

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
    "phase-sensitive": {"objective": SpectralObjective(phase_sensitive=True)},
    "learned": {"filterbank": LearnedFilterbank(n_filters=32, rectified=True), "features": "coefficients"},
    "recurrent": {"network": partial(BLSTM, n_hidden=8, n_layers=1)},
}


@pytest.fixture(params=VARIANTS, name="variant")
def _variant(request: pytest.FixtureRequest) -> MaskEstimator:
    return estimator(**VARIANTS[request.param])


def test_the_loss_does_not_depend_on_the_order_of_the_references(variant: MaskEstimator) -> None:
    given = batch()
    turned = replace(given, sources=given.sources.flip(1))
    for name, value in variant.loss(given).items():
        torch.testing.assert_close(variant.loss(turned)[name], value)


@pytest.mark.parametrize("gain", [1e-3, 1e3])
def test_the_loss_does_not_depend_on_the_level(variant: MaskEstimator, gain: float) -> None:
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


def test_the_logged_improvement_is_that_of_an_evaluation(variant: MaskEstimator) -> None:
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
def test_activations_make_the_right_masks(activation: str, logit: float, share: float, learned: bool) -> None:
    bank = LearnedFilterbank(n_filters=32, rectified=True) if learned else STFT(hop_samples=128)
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
def test_settings_that_need_an_stft_refuse_learned_filters(settings: dict[str, Any]) -> None:
    with pytest.raises(SepnetError, match=r"need an STFT, but the filterbank is LearnedFilterbank"):
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
def test_a_causal_model_does_not_depend_on_the_future(changed_from: int) -> None:
    separator = build("pit_causal")
    assert separator.info.latency_seconds == 0.032
    audio = 0.1 * noise(1, 4000)
    other = torch.cat([audio[:, :changed_from], 30 * noise(1, 4000 - changed_from, seed=7)], dim=1)
    one, another = (separator.separate(Mixture(each, RATE)).sources for each in (audio, other))
    known = max(0, changed_from - round(0.032 * RATE) + 1)
    torch.testing.assert_close(another[:, :known], one[:, :known], atol=1e-6, rtol=0)
    assert (another[:, changed_from:] - one[:, changed_from:]).abs().max() > 1e-2


def test_a_model_that_needs_the_whole_recording_has_no_latency() -> None:
    assert build("pit").info.latency_seconds is None
    network = partial(TCN, n_channels=8, n_hidden=12, n_blocks=2, n_repeats=1, separable=True, causal=True)
    assert estimator(network=network).info.latency_seconds is None  # the level of the whole clip
    assert estimator(network=network, level="running").info.latency_seconds == 256 / RATE


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


# The conv autoencoder, and classes in fixed slots


def test_outputs_of_classes_are_labelled_and_trained_in_order() -> None:
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
        filterbank=STFT(hop_samples=64),
        network=Bands,
        objective=WaveformObjective(metric=thresholded_snr, allow_silence=True),
        n_sources=3,
        source_count=count,
        **more,
    ).eval()


@pytest.mark.parametrize("bands", [(0,), (2,), (0, 1), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("gain", [1e-3, 1.0])
def test_sources_are_counted_and_the_loudest_are_given(bands: tuple[int, ...], gain: float) -> None:
    references = gain * in_bands(*bands)
    mixture = Mixture(references.sum(dim=0, keepdim=True), RATE, n_sources=len(bands))
    found, told_number = counting("estimated"), counting("given")
    assert found.info.needs == frozenset()
    assert told_number.info.needs == frozenset({"n_sources"})
    assert found.estimate_n_sources(mixture) == told_number.estimate_n_sources(mixture) == len(bands)
    assert found.info.n_sources is None
    for separator in (found, told_number):
        sources = separator.separate(mixture.only(separator.info.needs)).sources
        assert sources.shape == references.shape
        assert si_sdr(sources, references).min() > 25
        torch.testing.assert_close(sources.sum(dim=0), mixture.audio[0], atol=1e-5 * gain, rtol=0)


def test_a_fixed_number_of_sources_is_not_estimated() -> None:
    fixed, mixture = build("pit"), with_all_hints(SIGNALS["half a second"])
    assert isinstance(fixed, MaskEstimator)
    assert (fixed.info.n_sources, fixed.info.counts_sources) == (2, False)
    assert fixed.estimate_n_sources(mixture) == 2
    assert counting("estimated").info.counts_sources
    assert counting("estimated").estimate_n_sources(Mixture(torch.zeros(1, 3000), RATE)) == 1


def test_silent_outputs_for_absent_sources_have_the_least_loss() -> None:
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


def test_a_source_alone_in_its_mixture_is_left_out_of_the_gain() -> None:
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


def test_silence_is_separated_into_new_tensors_of_silence() -> None:
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
        with pytest.raises(SepnetError, match="quiet_db has to be positive, and classes are not counted"):
            counting("given", **more)
    with pytest.raises(SepnetError, match="allow_silence=true needs a metric that takes the mixture"):
        WaveformObjective(allow_silence=True)


def test_an_objective_that_is_undefined_for_silence_is_refused() -> None:
    with pytest.raises(SepnetError, match=r"with source_count=given outputs may have to be silent"):
        MaskEstimator(
            filterbank=STFT(hop_samples=64),
            network=Bands,
            objective=WaveformObjective(),
            source_count="given",
        )
