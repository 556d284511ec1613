"""The laws of the energy methods: the gradient, the descent, the targets, and what a start decides."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from scipy.fft import dct
from torch import Tensor

from sepnet import artifact
from sepnet.dsp.adam import adam
from sepnet.dsp.energy import energy_gradient, energy_loss, frame_energy, spectral_centroid, split_frames
from sepnet.dsp.mfcc import mel_filters, mfcc, pearson_correlation
from sepnet.metrics import best_permutation, improvement, pairwise, permute, si_sdr, snr
from sepnet.separators.energy import descent as energy_descent
from sepnet.separators.energy.blind import Energy
from sepnet.separators.energy.descent import EnergyDescent
from sepnet.separators.energy.fit import FrameFit
from sepnet.separators.energy.reference import EnergyReference
from sepnet.separators.energy.signatures import Signatures
from sepnet.separators.energy.step import EnergyStream
from sepnet.separators.frame_stream import StreamSetup
from sepnet.types import CannotSeparate, Mixture, Query, SepnetError

RATE = 8000


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def voice(pitch_hz: float, seconds: float, seed: int) -> Tensor:
    """A buzz of harmonics, its envelope and a little of its pitch moving."""
    time = torch.arange(round(seconds * RATE)) / RATE
    slow = 2 * math.pi * (1 + seed % 3) * time
    phase = 2 * math.pi * pitch_hz * time + 0.3 * torch.sin(slow)
    weights = torch.rand(12, generator=torch.Generator().manual_seed(round(pitch_hz)))
    buzz = sum(weight * torch.sin(k * phase) for k, weight in enumerate(weights, start=1))
    return 0.05 * buzz * (1.2 + torch.sin(slow + seed))


def by_query(seconds: float = 1.0, n_queries: int = 2) -> Mixture:
    """Two voices, and for each an example that is not in the mixture."""
    references = torch.stack([voice(131.0, seconds, 1), voice(204.0, seconds, 2)])
    queries = (Query(voice(131.0, 0.6, 5), RATE, "low"), Query(3 * voice(204.0, 0.6, 7), RATE, "high"))
    return Mixture(references.sum(dim=0, keepdim=True), RATE, 2, queries[:n_queries], references)


def build(model: str, **overrides: Any) -> Energy | EnergyReference:
    node = OmegaConf.load(artifact.config_folder() / "model" / f"{model}.yaml")
    return artifact.build(OmegaConf.merge(node, overrides))


def gains_db(separator: Energy | EnergyReference, mixture: Mixture) -> Tensor:
    sources = separator.separate(mixture.only(separator.info.needs)).sources
    if isinstance(separator, Energy):
        order = best_permutation(pairwise(si_sdr, sources[None], mixture.references[None]))
        sources = permute(sources[None], order)[0]
    return improvement(si_sdr, sources, mixture.references, mixture.audio.expand_as(mixture.references))


# Energies and their gradient


@pytest.mark.parametrize("seed", range(5))
def test_the_gradient_in_closed_form_is_that_of_autograd(seed: int) -> None:
    frames = noise(3, 7, 80, seed=seed).double().requires_grad_()
    target = noise(3, 7, seed=seed + 10).double().exp() * 80
    (expected,) = torch.autograd.grad(energy_loss(frames, target).sum(), frames)
    torch.testing.assert_close(energy_gradient(frames, target), expected)
    assert expected.abs().max() > 100  # far from the end


def test_a_plain_descent_only_scales_the_frame() -> None:
    start, target = noise(5, 80).double() / 9, torch.tensor([0.0, 0.2, 1.0, 3.0, 7.0]).double()
    frames = start.clone()
    for _ in range(3000):
        frames = frames - 0.005 * energy_gradient(frames, target)
    expected = (target / frame_energy(start)).sqrt()[:, None] * start
    torch.testing.assert_close(frames[1:], expected[1:], atol=1e-6, rtol=1e-5)
    assert frames[0].abs().max() < 0.05  # to nothing the way is long: the slope falls with the frame


def test_frames_of_a_signal_and_their_energies() -> None:
    signal = torch.arange(1.0, 8.0)
    assert split_frames(signal, 3).tolist() == [[1, 2, 3], [4, 5, 6], [7, 0, 0]]
    assert frame_energy(split_frames(signal, 3)).tolist() == [14, 77, 49]


@pytest.mark.parametrize("hertz", [500.0, 1000.0, 3000.0])
def test_the_centroid_of_a_tone_is_the_tone(hertz: float) -> None:
    tone = torch.sin(2 * math.pi * hertz * torch.arange(800) / RATE)
    powers = torch.fft.rfft(tone * torch.hann_window(800)).abs().square()
    assert float(spectral_centroid(powers)) * RATE / 2 == pytest.approx(hertz, abs=1)
    assert spectral_centroid(torch.zeros(2, 9)).tolist() == [0, 0]


# MFCC


def test_mfcc_follow_their_definition() -> None:
    n_bins, n_mels, floor = 129, 20, 1e-3
    powers = noise(4, n_bins).square().double().numpy()
    mel = np.linspace(
        2595 * np.log10(1 + 50 / 700), 2595 * np.log10(1 + RATE / 2 / 700), n_mels + 2
    )  # HTK's scale
    edges = 700 * (10 ** (mel / 2595) - 1)
    hertz = np.linspace(0, RATE / 2, n_bins)[:, None]
    rising = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0, np.minimum(rising, falling))
    bands = np.log(powers / powers.mean(axis=1, keepdims=True) @ filters + floor)
    expected = dct(bands, norm="ortho", axis=1)[:, 1:13]
    found = mfcc(torch.tensor(powers).float(), mel_filters(n_bins, RATE, n_mels), floor=floor)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-4)


def test_mfcc_do_not_depend_on_the_level() -> None:
    filters, powers = mel_filters(129, RATE, 26), noise(6, 129).square()
    torch.testing.assert_close(mfcc(1e-8 * powers, filters), mfcc(powers, filters), atol=1e-4, rtol=0)
    assert mfcc(torch.zeros(1, 129), filters).abs().max() < 1e-4


def test_the_correlation_is_pearsons() -> None:
    one, other = noise(3, 12), noise(3, 12, seed=1)
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(one.numpy(), other.numpy(), strict=True)]
    np.testing.assert_allclose(pearson_correlation(one, other).numpy(), expected, atol=1e-6)
    assert pearson_correlation(torch.ones(1, 12), other[:1]).tolist() == [0]


# The descent


def test_adam_is_adam() -> None:
    def slope(x: Tensor) -> Tensor:
        return 4 * (x.square() - 0.3) * x + 0.1 * torch.sin(5 * x)

    start, steps, rate = noise(4, 6).double(), 30, 0.1
    slopes, point = [], start
    for step in range(1, steps + 1):
        slopes.append(slope(point))
        ages = torch.arange(step - 1, -1, -1).double()[:, None, None]
        one, two = 0.8**ages, 0.95**ages  # the unbiased means, as weighted sums over all that was seen
        mean = (one * torch.stack(slopes)).sum(dim=0) / one.sum()
        size = ((two * torch.stack(slopes).square()).sum(dim=0) / two.sum()).sqrt()
        point = point - rate * (steps - step + 1) / steps * mean / (size + 1e-4)
    torch.testing.assert_close(adam(start, slope, steps=steps, lr=rate), point)


def test_rows_that_have_settled_stay() -> None:
    start = torch.tensor([[1.0], [5.0]])
    found = adam(start, lambda x: x, steps=50, lr=0.1, has_converged=lambda x: x.abs().amax(dim=-1) < 2)
    assert found[0] == 1
    assert 0 < float(found[1]) < 4


def fit(settings: EnergyDescent) -> FrameFit:
    shapes = noise(2, 241).abs() + 0.1
    signatures = Signatures(shapes / shapes.mean(dim=1, keepdim=True), torch.eye(2))
    return FrameFit(settings.fit_settings, signatures, mel_filters(241, RATE, 26))


@pytest.mark.parametrize("model", ["energy_reference", "energy_reference_textbook"])
@pytest.mark.parametrize("one_cell", [True, False])
def test_the_loss_falls(model: str, one_cell: bool) -> None:
    node = OmegaConf.load(artifact.config_folder() / "model" / f"{model}.yaml").descent
    target = torch.rand(2, 30, 1 if one_cell else 241, generator=torch.Generator().manual_seed(0))
    start = noise(2, 30, 80) / 80**0.5 if one_cell else torch.ones(2, 30, 241)

    def powers(x: Tensor) -> Tensor:
        return torch.fft.rfft(x, n=480).abs().square() if one_cell else x.square()

    losses = []
    for steps in (0, 5, 15, 50):
        fitting = fit(artifact.build({**node, "steps": steps, "learning_rate": 0.02 if one_cell else 0.1}))
        x = fitting.descend(start, target, powers, one_cell=one_cell)
        cells = x.unsqueeze(-2) if one_cell else x.unsqueeze(-1)
        losses.append(energy_loss(cells, target).sum(dim=-1) + fitting.penalties(x, powers))
    for before, after in itertools.pairwise(losses):
        assert after.mean() < before.mean()
    assert (losses[-1] <= losses[0]).all()  # of each frame
    if model == "energy_reference":
        assert losses[-1].mean() < 2e-3 * losses[0].mean()


def test_bands_converge_to_the_closed_form_and_keep_the_phase() -> None:
    # From the mixture, L ends at gains of sqrt(share): equation (1) of sepnet.dsp.energy.
    mixture = torch.complex(noise(9, 241), noise(9, 241, seed=1))
    share = torch.rand(9, 241, generator=torch.Generator().manual_seed(2))
    shares = torch.stack([share, 1 - share])
    found = fit(EnergyDescent(normalise=False)).bands(mixture, mixture.expand(2, -1, -1), shares)
    torch.testing.assert_close(found.abs(), shares.sqrt() * mixture.abs(), atol=0.3, rtol=0.1)
    torch.testing.assert_close(found.angle(), mixture.angle().expand(2, -1, -1))
    normalised = fit(EnergyDescent()).bands(mixture, mixture.expand(2, -1, -1), shares)
    torch.testing.assert_close(normalised.abs().square().sum(dim=0), mixture.abs().square())


def test_the_targets_share_the_energy_and_smooth_the_loudness() -> None:
    energies = noise(3, 20, 50).square()
    plain = EnergyDescent(look_ahead_frames=0).target_shares(energies)
    torch.testing.assert_close(plain, energies / energies.sum(dim=0))
    smooth = EnergyDescent(look_ahead_frames=3).target_shares(energies)
    torch.testing.assert_close(smooth.sum(dim=0), torch.ones(20, 50))
    ratio = (smooth[0] / smooth[1]) / (plain[0] / plain[1])  # one factor for each frame
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-3, atol=1e-4)
    assert ratio.std() > 0.05
    assert EnergyDescent().target_shares(torch.zeros(4, 5, 6)).unique().tolist() == [0.25]


def test_frame_energies_of_the_textbook_form_are_the_targets() -> None:
    mixture, shares = noise(12, 80), torch.tensor([[0.8], [0.2]]).expand(2, 12)
    found = fit(EnergyDescent(cells="frames", learning_rate=0.02, normalise=False)).frames(
        mixture, mixture.expand(2, -1, -1), shares
    )
    torch.testing.assert_close(frame_energy(found), shares * frame_energy(mixture), rtol=0.01, atol=0)


def test_rematching_puts_swapped_segments_back() -> None:
    shapes = torch.ones(2, 241) * 0.01
    shapes[0, :40], shapes[1, 120:] = 1.0, 1.0
    signatures = Signatures(shapes / shapes.mean(dim=1, keepdim=True), torch.eye(2))
    fitting = FrameFit(EnergyDescent(rematch=True).fit_settings, signatures, mel_filters(241, RATE, 26))
    time = torch.arange(8000) / RATE
    low, high = (
        sum(torch.sin(2 * math.pi * f * time) for f in tones)
        for tones in (range(100, 650, 75), range(2000, 3900, 150))
    )
    right = torch.stack([low, high])
    mixed = right.clone()
    mixed[:, 1600:3200], mixed[:, 7200:] = right[:, 1600:3200].flip(0), right[:, 7200:].flip(0)
    assert torch.equal(fitting.rematch(mixed, 80), right)


# By example


def test_examples_separate_the_sources() -> None:
    mixture = by_query()
    improved = gains_db(build("energy_reference"), mixture)
    assert improved.min() > 8
    assert improved.mean() > gains_db(build("energy_reference_textbook"), mixture).mean() + 3


def test_estimates_come_in_the_order_of_the_queries() -> None:
    mixture, separator = by_query(), build("energy_reference")
    found = separator.separate(mixture)
    assert found.labels == ("low", "high")
    turned = separator.separate(replace(mixture, queries=mixture.queries[::-1]))
    assert turned.labels == ("high", "low")
    torch.testing.assert_close(turned.sources.flip(0), found.sources, atol=1e-3, rtol=0)
    louder = tuple(replace(q, audio=50 * q.audio) for q in mixture.queries)  # an example has no level
    same = separator.separate(replace(mixture, queries=louder)).sources
    torch.testing.assert_close(same, found.sources, atol=1e-4, rtol=0)


def test_one_query_gives_the_target_and_the_residual() -> None:
    mixture = by_query(n_queries=1)
    found = build("energy_reference").separate(mixture)
    assert found.labels == ("low", "residual")
    torch.testing.assert_close(found.sources.sum(dim=0), mixture.audio[0], atol=1e-5, rtol=0)
    scores = pairwise(si_sdr, found.sources[None], mixture.references[None])[0]
    assert scores[0, 0] > scores[0, 1] + 3
    assert scores[1, 1] > scores[1, 0] + 3


def test_energies_do_not_determine_the_waveform() -> None:
    # From noise, the energies come right and the signal does not: what the method can't know.
    mixture = by_query()
    plain = EnergyDescent(cells="frames", learning_rate=0.02)
    sources = EnergyReference(descent=plain, start="random", n_signatures=0).separate(mixture).sources
    assert si_sdr(sources, mixture.references).max() < 1
    random = build("energy_reference", start="random")
    assert gains_db(random, mixture).mean() < -3
    assert torch.equal(random.separate(mixture).sources, random.separate(mixture).sources)
    other = build("energy_reference", start="random", seed=1).separate(mixture).sources
    assert not torch.allclose(random.separate(mixture).sources, other, atol=1e-3)


@pytest.mark.parametrize("n_queries", [1, 2])
@pytest.mark.parametrize("model", ["energy_reference", "energy_reference_textbook"])
def test_an_aligned_reference_is_subtracted_from_the_mixture(model: str, n_queries: int) -> None:
    mixture = by_query()
    clean = tuple(Query(5 * reference, RATE) for reference in mixture.references[:n_queries])
    separator = build(model, start="difference", descent={"subtract": False, "rematch": False})
    sources = separator.separate(replace(mixture, queries=clean)).sources
    assert snr(sources, mixture.references).min() > 6
    assert gains_db(build("energy_reference", start="difference"), replace(mixture, queries=clean)).min() > 12


@pytest.mark.parametrize(
    ("queries", "reason"),
    [
        ((), "give an example of the sound, query="),
        ((Query(torch.zeros(800), RATE),), "query 1 is silent"),
        ((Query(noise(800), RATE), Query(noise(800), 16000)), "query 2 is at 16000 Hz.*8000 Hz: resample"),
    ],
)
def test_unusable_queries_are_refused(queries: tuple[Query, ...], reason: str) -> None:
    with pytest.raises(CannotSeparate, match=reason):
        build("energy_reference").separate(replace(by_query(), queries=queries))


def test_a_reference_that_is_not_aligned_is_refused() -> None:
    mixture, separator = by_query(), build("energy_reference", start="difference")
    with pytest.raises(CannotSeparate, match=r"of 8000 samples, but the query has 4800"):
        separator.separate(mixture)
    with pytest.raises(CannotSeparate, match=r"correlation is -?0.0"):
        separator.separate(replace(mixture, queries=(Query(noise(8000), RATE),)))


# Blind


def in_turns() -> Mixture:
    """Two voices that mostly speak in turns."""
    references = torch.stack([voice(131.0, 2.0, 1), voice(330.0, 2.0, 2)])
    turn = (torch.arange(16000) // 2000 % 2).float()
    references = references * torch.stack([turn + 0.05, 1.05 - turn])
    return Mixture(references.sum(dim=0, keepdim=True), RATE, 2, references=references)


def test_clusters_of_frames_separate_sources_that_take_turns() -> None:
    improved = gains_db(build("energy"), in_turns())
    assert improved.min() > 6


@pytest.mark.parametrize("model", ["energy", "energy_textbook"])
def test_more_sources_than_frames_with_sound_are_refused(model: str) -> None:
    with pytest.raises(CannotSeparate, match=r"20 sources, but only \d frames"):
        build(model).separate(Mixture(torch.ones(1, 1), RATE, n_sources=20))
    one = Mixture(noise(1, 900), RATE, n_sources=1)
    assert torch.equal(build(model).separate(one).sources, one.audio)


def test_a_frame_does_not_explain_itself() -> None:
    # Else each frame would go to its own cluster whole, however mixed it is.
    shapes = noise(9, 241).abs() + 0.1
    shapes = shapes / shapes.mean(dim=1, keepdim=True)
    shares = torch.eye(2).repeat(1, 5)[:, :9]
    numbers, descent = torch.arange(9), EnergyDescent(trust=0.5)
    away = descent.explain(shapes, Signatures(shapes, shares, numbers, 0), numbers)
    allowed = descent.explain(shapes, Signatures(shapes, shares), numbers)
    for k in range(9):
        others = [j for j in range(9) if j != k]
        without = Signatures(shapes[others], shares[:, others])
        alone = descent.explain(shapes[k : k + 1], without, numbers[:1])
        torch.testing.assert_close(away[:, k : k + 1], alone, rtol=0.2, atol=0.02)
        assert (allowed[:, k].sum(dim=0) - shapes[k]).norm() < 0.7 * (
            away[:, k].sum(dim=0) - shapes[k]
        ).norm()


# Blocks and frames


STREAMS = {
    "energy_reference": {"descent": {"steps": 20}},
    "energy_reference_textbook": {"descent": {"rematch": False, "look_ahead_frames": 2, "steps": 5}},
    "energy": {"descent": {"steps": 20}},
    "energy_textbook": {"descent": {"rematch": False, "steps": 5}},
}


@pytest.mark.parametrize("model", STREAMS)
@pytest.mark.parametrize("n_frames", [3, 23])
def test_frame_by_frame_gives_the_same_output(model: str, n_frames: int) -> None:
    separator, mixture = build(model, **STREAMS[model]), by_query()
    mixture = replace(mixture, audio=mixture.audio[:, : 80 * n_frames].contiguous(), references=None)
    whole = separator.separate(mixture.only(separator.info.needs)).sources
    # Blind, the frames of this very mixture are the signatures, none of which may explain itself.
    stream = EnergyStream(separator.descent, separator.signatures(mixture), RATE)
    assert stream.hop_samples == 80
    wait = round(separator.descent.latency_seconds / separator.descent.frame_seconds) - 1
    assert stream.lag_samples == 80 * wait
    state, found = stream.initial_state(), []
    for frame in split_frames(mixture.audio[0], 80):
        given, state = stream.step(frame, state)
        found.append(given)
    found = torch.cat([*found, stream.flush(state)], dim=1)
    assert not found[:, : stream.lag_samples].any()
    found = found[:, stream.lag_samples :]
    torch.testing.assert_close(found, whole, atol=2e-4 * float(whole.abs().max()), rtol=0)


def test_the_latency_is_as_stated() -> None:
    assert build("energy_reference").descent.latency_seconds == pytest.approx(0.10)
    with pytest.raises(SepnetError, match=r"set descent\.rematch to false"):
        build("energy_textbook").stream(StreamSetup(RATE, 2, enrollment=by_query().audio[0]))
    with pytest.raises(CannotSeparate, match="start=mixture"):
        build("energy_reference", start="random").stream(StreamSetup(RATE, queries=by_query().queries))


@pytest.mark.parametrize("model", ["energy_reference", "energy_reference_textbook", "energy"])
def test_blocks_equal_the_whole(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    separator, mixture = build(model), by_query()
    mixture = replace(mixture, audio=mixture.audio[:, :7777].contiguous(), references=None)
    whole = separator.separate(mixture.only(separator.info.needs)).sources
    monkeypatch.setattr(energy_descent, "CHUNK_FRAMES", 30)
    blocks = separator.separate(mixture.only(separator.info.needs)).sources
    torch.testing.assert_close(blocks, whole, atol=2e-4 * float(whole.abs().max()), rtol=0)


@pytest.mark.parametrize(
    "settings",
    [{"steps": -1}, {"trust": 0.0}, {"window_frames": 1}, {"look_ahead_frames": -1}],
    ids=str,
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SepnetError, match=str(next(iter(settings.values())))):
        artifact.build({"_target_": "sepnet.separators.energy.descent.EnergyDescent", **settings})
