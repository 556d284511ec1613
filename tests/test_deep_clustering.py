"""Laws of deep clustering: the low-rank losses are the full ones, and good embeddings separate any number."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sepnet.dsp.filterbank import STFT
from sepnet.losses import affinity_loss, whitened_kmeans_loss
from sepnet.metrics import best_permutation, pairwise, permute, si_sdr
from sepnet.separators.deep_clustering import DeepClustering
from sepnet.types import Batch, CannotSeparate, Mixture, SepnetError

RATE = 8000
N_DIMS = 6


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(*shape: int, seed: int = 0) -> Tensor:
    return nn.functional.normalize(noise(*shape, seed=seed), dim=-1)


def one_hot(n_sources: int, *shape: int, seed: int = 3) -> Tensor:
    drawn = torch.randint(n_sources, shape, generator=torch.Generator().manual_seed(seed))
    return nn.functional.one_hot(drawn, n_sources).double()


# The losses


@pytest.mark.parametrize("n_sources", [2, 3])
def test_the_low_rank_form_is_the_affinity_matrix(n_sources: int) -> None:
    v, y, w = unit(4, 50, N_DIMS), one_hot(n_sources, 4, 50), noise(4, 50, seed=2).abs()
    w[:, ::5] = 0  # silent bins
    difference = v @ v.mT - y @ y.mT  # (batch, point, point)
    full = (w[:, :, None] * w[:, None] * difference.square()).sum(dim=(1, 2)) / w.sum(dim=1).square()
    torch.testing.assert_close(affinity_loss(v, y, w), full)


def test_whitening_projects_onto_the_labels() -> None:
    v, y, w = unit(4, 50, N_DIMS), one_hot(3, 4, 50), noise(4, 50, seed=2).abs()
    root = w.sqrt()[..., None]
    projection = (root * v) @ torch.linalg.pinv(root * v)  # onto the columns of V, (batch, point, point)
    onto_labels = (root * y) @ torch.linalg.pinv(root * y)
    full = N_DIMS - (projection * onto_labels).sum(dim=(1, 2))
    torch.testing.assert_close(whitened_kmeans_loss(v, y, w, ridge=0.0), full)


@pytest.mark.parametrize("loss", [affinity_loss, whitened_kmeans_loss])
def test_losses_are_as_exact_under_autocast(loss: Any) -> None:
    """In bfloat16, rounding errors would be most of the gradient of embeddings that are nearly right."""
    y, w = one_hot(2, 1, 20000).float(), noise(1, 20000, seed=2).abs().float()
    v = (torch.cat([y, torch.zeros(1, 20000, 4)], dim=-1) + 0.1 * noise(1, 20000, 6).float()).requires_grad_()
    (exact,) = torch.autograd.grad(loss(v, y, w).sum(), v)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(v, y, w).sum()
    (under_autocast,) = torch.autograd.grad(value, v)
    assert (under_autocast - exact).norm() < 1e-4 * exact.norm()


def test_embeddings_that_are_labels_have_the_least_loss() -> None:
    y, w = one_hot(3, 2, 60), noise(2, 60, seed=2).abs()
    rotation = torch.linalg.qr(noise(5, 5)).Q[:3]  # labels, turned in a space of five dimensions
    assert affinity_loss(y @ rotation, y, w).abs().max() < 1e-12
    spread = y @ rotation + 1e-9 * noise(2, 60, 5)  # so that V'V has an inverse in all five
    least = whitened_kmeans_loss(spread, y, w, ridge=1e-6)
    torch.testing.assert_close(least, torch.full_like(least, 2.0), atol=1e-4, rtol=0)
    for loss in (affinity_loss, whitened_kmeans_loss):
        assert (loss(unit(2, 60, 5), y, w) > loss(y @ rotation, y, w) + 0.1).all()


@pytest.mark.parametrize("loss", [affinity_loss, whitened_kmeans_loss])
def test_losses_depend_on_neither_order_nor_scale_of_the_weights(loss: Any) -> None:
    v, y, w = unit(2, 40, N_DIMS), one_hot(3, 2, 40), noise(2, 40, seed=2).abs()
    expected = loss(v, y, w)
    torch.testing.assert_close(loss(v, y[..., [2, 0, 1]], w), expected)
    torch.testing.assert_close(loss(v, y, 1000 * w), expected)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss(v[:, order], y[:, order], w[:, order]), expected)
    absent = torch.cat([y, torch.zeros_like(y[..., :1])], dim=-1)  # a source that is never active
    torch.testing.assert_close(loss(v, absent, w), expected)


@pytest.mark.parametrize("loss", [affinity_loss, whitened_kmeans_loss])
def test_gradients_of_the_losses(loss: Any) -> None:
    y, w = one_hot(2, 1, 12), noise(1, 12, seed=2).abs()
    v = unit(1, 12, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: loss(v, y, w), (v,))
    silent = loss(v, y, torch.zeros_like(w))
    (slope,) = torch.autograd.grad(silent.sum(), v)
    assert silent.isfinite().all()
    assert not slope.any()


# The separator


class Bands(nn.Module):
    """A network that has learnt all: each third of the frequencies is another source."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.n_in, self.dims = n_in, n_out // n_in
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, features: Tensor) -> Tensor:
        batch, bins, frames = features.shape
        embeddings = torch.full((batch, self.dims, bins, frames), 0.01)
        for bin_ in range(bins):
            embeddings[:, 3 * bin_ // bins, bin_] = 1.0
        return self.scale * embeddings.flatten(1, 2)


def sounds(n_sources: int, time: int = 4000) -> Tensor:
    """Noises (source, time) in the lower, the upper and the middle third of the frequencies."""
    spectrum = torch.fft.rfft(noise(3, time))
    edges = torch.linspace(0, spectrum.shape[-1], 4).round().long().tolist()
    for source in range(3):
        outside = torch.ones(spectrum.shape[-1], dtype=torch.bool)
        outside[edges[source] + 60 : edges[source + 1] - 60] = False
        spectrum[source, outside] = 0
    return (0.1 * torch.fft.irfft(spectrum, n=time)).float()[[0, 2, 1][:n_sources]]


def deep_clustering(**settings: Any) -> DeepClustering:
    torch.manual_seed(0)
    return DeepClustering(
        filterbank=STFT(hop_samples=64), **{"network": Bands, "n_dims": N_DIMS, **settings}
    ).eval()


@pytest.mark.parametrize("n_sources", [2, 3])
@pytest.mark.parametrize("sharpness", [10.0, math.inf])
def test_good_embeddings_separate_any_given_number(n_sources: int, sharpness: float) -> None:
    sources = sounds(n_sources)
    mixture = Mixture(sources.sum(dim=0, keepdim=True), RATE, n_sources=n_sources)
    found = deep_clustering(sharpness=sharpness).separate(mixture).sources
    order = best_permutation(pairwise(si_sdr, found[None], sources[None]))
    assert si_sdr(permute(found[None], order)[0], sources).min() > 25


@pytest.mark.parametrize("n_sources", [1, 2, 3])
def test_the_number_of_sources_is_estimated(n_sources: int) -> None:
    separator = deep_clustering(source_count="estimated")
    assert separator.info.needs == frozenset()
    mixture = Mixture(sounds(n_sources).sum(dim=0, keepdim=True), RATE)
    assert separator.separate(mixture).sources.shape == (n_sources, 4000)


def test_the_head_serves_its_own_number_of_sources() -> None:
    separator = deep_clustering(head_sources=2, use_head=True)
    mixture = Mixture(sounds(2).sum(dim=0, keepdim=True), RATE, n_sources=2)
    halves = separator.separate(mixture).sources  # the third and fourth of Bands' outputs: masks of one half
    torch.testing.assert_close(halves[0], halves[1], atol=1e-6, rtol=0)
    clusters = deep_clustering(head_sources=2).separate(mixture).sources
    assert (clusters[0] - clusters[1]).abs().max() > 0.01
    three = Mixture(sounds(3).sum(dim=0, keepdim=True), RATE, n_sources=3)
    assert separator.separate(three).sources.shape == (3, 4000)


class BandsOfHead(Bands):
    """The head, too, tells the bands apart."""

    def forward(self, features: Tensor) -> Tensor:
        outputs = super().forward(features).unflatten(1, (self.dims, self.n_in))
        for bin_ in range(self.n_in):
            outputs[:, N_DIMS + 3 * bin_ // self.n_in, bin_] = 20.0
        return outputs.flatten(1, 2)


@pytest.mark.parametrize("n_sources", [1, 2, 3])
def test_the_head_counts_sources_by_its_outputs_that_are_not_quiet(n_sources: int) -> None:
    settings = {"network": BandsOfHead, "head_sources": 3, "count_by": "head", "source_count": "estimated"}
    separator = deep_clustering(**settings)
    sources = sounds(n_sources)
    mixture = Mixture(sources.sum(dim=0, keepdim=True), RATE)
    assert separator.estimate_n_sources(mixture) == n_sources
    assert separator.separate(mixture).sources.shape == (n_sources, 4000)
    sources[-1] *= 0.05  # 26 dB below the others
    quiet = Mixture(sources.sum(dim=0, keepdim=True), RATE)
    assert separator.estimate_n_sources(quiet) == max(1, n_sources - 1)
    keener = deep_clustering(**settings, quiet_output_db=30.0)
    assert keener.estimate_n_sources(quiet) == n_sources


def test_outputs_of_the_head_that_no_source_needs_are_to_be_silent() -> None:
    sources = sounds(2)[None]
    batch = Batch(sources.sum(dim=1, keepdim=True), sources, ("a",), RATE)
    right = deep_clustering(network=BandsOfHead, head_sources=3).loss(batch)["head"]
    wrong = deep_clustering(head_sources=3).loss(batch)["head"]  # all outputs alike
    assert right < 0.1 * wrong
    three = sounds(3)[None]
    with pytest.raises(SepnetError, match="hold up to 3 sources, but the head gives 2"):
        deep_clustering(head_sources=2).loss(Batch(three.sum(1, keepdim=True), three, ("a",), RATE))


@pytest.mark.parametrize("head_sources", [0, 2])
def test_the_loss_is_low_where_the_embeddings_are_right(head_sources: int) -> None:
    sources = sounds(2)[None]  # (1, source, time)
    separator = deep_clustering(head_sources=head_sources, head_weight=0.0)
    right = separator.loss(Batch(sources.sum(dim=1, keepdim=True), sources, ("a",), RATE))["loss"]
    wrong = torch.stack([sources[:, 0] + sources[:, 1], torch.zeros(1, 4000)], dim=1)
    assert right < 0.05
    assert separator.loss(Batch(sources.sum(dim=1, keepdim=True), wrong, ("a",), RATE))["loss"] > 0.3


def test_a_batch_with_an_absent_source_or_silence_has_a_finite_loss() -> None:
    sources = torch.stack([sounds(2), torch.zeros(2, 4000), sounds(2) * torch.tensor([[1.0], [0.0]])])
    batch = Batch(sources.sum(dim=1, keepdim=True), sources, ("a", "b", "c"), RATE)
    for name in ("affinity", "whitened_kmeans"):
        separator = deep_clustering(loss_function=name, head_sources=2)
        loss = separator.loss(batch)["loss"]
        loss.backward()
        assert loss.isfinite()
        assert separator.network.scale.grad.isfinite().all()


def test_invalid_settings_and_mixtures_are_refused() -> None:
    with pytest.raises(SepnetError, match="n_dims=1"):
        deep_clustering(n_dims=1)
    with pytest.raises(SepnetError, match="head_sources is 0: give 2 or more, or count_by=eigenvalues"):
        deep_clustering(count_by="head")
    with pytest.raises(CannotSeparate, match="8000 Hz"):
        deep_clustering().separate(Mixture(noise(1, 100).float(), 16000, n_sources=2))
    with pytest.raises(CannotSeparate, match="give a longer mixture"):
        deep_clustering(quiet_db=0.001).separate(Mixture(noise(1, 3000).float(), RATE, n_sources=40))
