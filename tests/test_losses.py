"""Laws of the losses: brute force over permutations, gradients of the chosen pairs, closed forms."""

from __future__ import annotations

import math
from functools import partial
from itertools import permutations

import pytest
import torch
from torch import Tensor

from sepnet.dsp.masks import phase_sensitive_mask
from sepnet.losses import magnitude_mse, negative, phase_sensitive_mse, phase_sensitive_target, pit
from sepnet.metrics import Metric, pairwise, permute, sd_sdr, si_sdr, snr, thresholded_snr
from sepnet.types import SepnetError

RATIOS = (snr, thresholded_snr, si_sdr, sd_sdr)


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def spectrum(*shape: int, seed: int = 0) -> Tensor:
    return noise(*shape, seed=seed, dtype=torch.complex128)


def naive_pit(loss: Metric, estimates: Tensor, references: Tensor) -> tuple[list[float], list[list[int]]]:
    """By definition: for each item the least mean loss over all orders of the estimates."""
    values, orders = [], []
    for items, targets in zip(estimates, references, strict=True):
        table = {
            order: sum(loss(items[e], targets[r]).item() for r, e in enumerate(order)) / len(targets)
            for order in permutations(range(len(items)), len(targets))
        }
        orders.append(list(min(table, key=table.__getitem__)))
        values.append(min(table.values()))
    return values, orders


@pytest.mark.parametrize("metric", RATIOS)
def test_a_loss_is_the_negated_metric(metric: Metric) -> None:
    estimate, reference = noise(3, 2, 100), noise(3, 2, 100, seed=1)
    assert torch.equal(negative(metric)(estimate, reference), -metric(estimate, reference))


@pytest.mark.parametrize("metric", [si_sdr, thresholded_snr])
@pytest.mark.parametrize(("n_estimates", "n_references"), [(2, 2), (3, 3), (4, 4), (5, 5), (3, 2), (4, 3)])
def test_pit_is_the_brute_force(metric: Metric, n_estimates: int, n_references: int) -> None:
    estimates, references = noise(3, n_estimates, 64), noise(3, n_references, 64, seed=1)
    loss, indices = pit(partial(pairwise, negative(metric)), estimates, references)
    values, orders = naive_pit(negative(metric), estimates, references)
    assert loss.shape == (3,)
    assert loss.tolist() == pytest.approx(values)
    assert indices.tolist() == orders


@pytest.mark.parametrize("n_sources", [2, 3, 4])
def test_pit_does_not_depend_on_the_order_of_the_estimates(n_sources: int) -> None:
    estimates, references = noise(4, n_sources, 64), noise(4, n_sources, 64, seed=1)
    loss, indices = pit(partial(pairwise, negative(si_sdr)), estimates, references)
    shuffle = torch.roll(torch.arange(n_sources), 1)
    shuffled, moved = pit(partial(pairwise, negative(si_sdr)), estimates[:, shuffle], references)
    torch.testing.assert_close(shuffled, loss)
    assert torch.equal(shuffle[moved], indices)
    backwards, _ = pit(partial(pairwise, negative(si_sdr)), estimates, references.flip(1))
    torch.testing.assert_close(backwards, loss)


@pytest.mark.parametrize(("n_estimates", "n_references"), [(2, 2), (3, 3), (3, 2), (5, 5)])
def test_the_gradient_of_pit_is_that_of_the_chosen_pairs(n_estimates: int, n_references: int) -> None:
    estimates = noise(3, n_estimates, 64).requires_grad_()
    references = noise(3, n_references, 64, seed=1)
    loss, indices = pit(partial(pairwise, negative(si_sdr)), estimates, references)
    (ours,) = torch.autograd.grad(loss.sum(), estimates)
    chosen = -si_sdr(permute(estimates, indices), references).mean(dim=1)
    (expected,) = torch.autograd.grad(chosen.sum(), estimates)
    torch.testing.assert_close(ours, expected)
    used = torch.zeros(3, n_estimates, dtype=torch.bool).scatter(1, indices, True)
    assert torch.equal(ours.abs().amax(dim=-1) > 0, used)  # an estimate that none took is left alone


def test_pit_passes_gradcheck() -> None:
    def loss(estimates: Tensor) -> Tensor:
        return pit(partial(pairwise, negative(snr)), estimates, references)[0]

    references = noise(2, 3, 16, seed=1)
    assert torch.autograd.gradcheck(loss, noise(2, 3, 16).requires_grad_())


@pytest.mark.parametrize("metric", RATIOS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pit_with_silence_is_finite(metric: Metric, dtype: torch.dtype) -> None:
    references = 0.1 * noise(4, 3, 400, dtype=dtype)
    references[0, 1] = references[1] = 0  # an inactive source; none active
    estimates = 0.1 * noise(4, 3, 400, seed=1, dtype=dtype)
    estimates[2, 0] = estimates[3] = 0  # a dead output; all dead
    estimates[1, 0] = 0
    estimates.requires_grad_()
    loss, _ = pit(partial(pairwise, negative(metric)), estimates, references)
    loss.mean().backward()
    assert loss.isfinite().all()
    assert estimates.grad is not None
    assert estimates.grad.isfinite().all()


def test_descent_silences_the_output_of_an_inactive_source() -> None:
    references = 0.1 * noise(1, 2, 400)
    references[:, 1] = 0
    estimates = (0.1 * noise(1, 2, 400, seed=1)).requires_grad_()
    mixture = references.sum(dim=1)
    metric = partial(thresholded_snr, mixture=mixture[:, None, None])
    loss_of = partial(pairwise, negative(metric))
    for step in torch.linspace(2e-2, 0, 400):
        loss, indices = pit(loss_of, estimates, references)
        (gradient,) = torch.autograd.grad(loss.sum(), estimates)
        estimates = (estimates - step * gradient).detach().requires_grad_()
    best = permute(estimates, indices).detach()[0]
    assert snr(best[0], references[0, 0]) > 20
    assert best[1].square().mean() < 1e-4 * references[0, 0].square().mean()


def test_pit_refuses_a_loss_that_is_not_pairwise() -> None:
    with pytest.raises(SepnetError, match=r"partial\(pairwise, loss\)"):
        pit(negative(si_sdr), noise(4, 2, 50), noise(4, 2, 50))


def test_pit_refuses_nan() -> None:
    estimates = noise(3, 2, 50)
    estimates[2, 1, 7] = math.nan
    with pytest.raises(SepnetError, match=r"items \[2\]"):
        pit(partial(pairwise, negative(si_sdr)), estimates, noise(3, 2, 50, seed=1))


# Spectra


def test_magnitude_mse_is_the_mean_of_squares() -> None:
    estimate, reference = noise(2, 3, 5, 7).abs(), noise(2, 3, 5, 7, seed=1).abs()
    loss = magnitude_mse(estimate, reference)
    for b in range(2):
        for s in range(3):
            pairs = zip(estimate[b, s].flatten().tolist(), reference[b, s].flatten().tolist(), strict=True)
            assert loss[b, s].item() == pytest.approx(sum((e - r) ** 2 for e, r in pairs) / 35)
    assert magnitude_mse(reference, reference).abs().max() == 0
    assert magnitude_mse(reference + 0.5, reference)[0, 0].item() == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("angle", "plain", "truncated"),
    [(0.0, 3.0, 2.0), (math.pi / 3, 1.5, 1.5), (math.pi / 2, 0.0, 0.0), (2 * math.pi / 3, -1.5, 0.0)],
)
def test_phase_sensitive_target_is_the_projection_on_the_mixture(
    angle: float, plain: float, truncated: float
) -> None:
    mixture = torch.polar(torch.full((4, 6), 2.0).double(), noise(4, 6))
    reference = torch.polar(torch.full((4, 6), 3.0).double(), mixture.angle() + angle)
    for truncate, expected in ((False, plain), (True, truncated)):
        target = phase_sensitive_target(mixture, reference, truncate=truncate)
        torch.testing.assert_close(target, torch.full_like(target, expected))
        zero = torch.zeros_like(target)
        worst = phase_sensitive_mse(zero, mixture, reference, truncate=truncate)
        assert worst.item() == pytest.approx(expected**2)
        perfect = phase_sensitive_mse(zero + expected, mixture, reference, truncate=truncate)
        assert perfect.item() == pytest.approx(0.0, abs=1e-20)


def test_phase_sensitive_target_is_the_nearest_to_the_source() -> None:
    # |m Y/|Y| - S|^2 = (m - |S| cos)^2 + |S|^2 sin^2: what is left over does not depend on the magnitude m.
    mixture, reference = spectrum(5, 7), spectrum(5, 7, seed=1)
    target = phase_sensitive_target(mixture, reference, truncate=False)
    magnitude = target + noise(5, 7, seed=2)
    direction = mixture / mixture.abs()

    def distance(m: Tensor) -> Tensor:
        return (m * direction - reference).abs().square().mean()

    gap = distance(magnitude) - distance(target)
    torch.testing.assert_close(phase_sensitive_mse(magnitude, mixture, reference, truncate=False), gap)


def test_phase_sensitive_targets_of_all_sources_sum_to_the_mixture() -> None:
    sources = spectrum(2, 3, 5, 7)
    mixture = sources.sum(dim=1, keepdim=True)
    targets = phase_sensitive_target(mixture, sources, truncate=False)
    torch.testing.assert_close(targets.sum(dim=1), mixture.squeeze(1).abs())


@pytest.mark.parametrize("truncate", [True, False])
def test_phase_sensitive_target_is_the_mask_times_the_mixture(truncate: bool) -> None:
    sources = spectrum(2, 3, 5, 7)
    mixture = sources.sum(dim=1)
    mask = phase_sensitive_mask(sources, mixture, truncate=truncate)
    target = phase_sensitive_target(mixture.unsqueeze(1), sources, truncate=truncate)
    torch.testing.assert_close(target, mask * mixture.abs().unsqueeze(1))


@pytest.mark.parametrize("truncate", [True, False])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_a_mixture_without_energy_has_a_target_of_zero(truncate: bool, dtype: torch.dtype) -> None:
    mixture = torch.zeros(4, 5, dtype=dtype)
    mixture[0] = 1e-30
    target = phase_sensitive_target(mixture, spectrum(4, 5).to(dtype), truncate=truncate)
    assert target.isfinite().all()
    assert target[1:].abs().max() == 0


def test_gradients_of_the_spectral_losses_are_right() -> None:
    estimate = noise(2, 4, 5).abs().requires_grad_()
    mixture, reference = spectrum(2, 4, 5), spectrum(2, 4, 5, seed=1)
    loss = partial(phase_sensitive_mse, truncate=False)
    assert torch.autograd.gradcheck(loss, (estimate, mixture, reference))
    assert torch.autograd.gradcheck(magnitude_mse, (estimate, reference.abs()))


@pytest.mark.parametrize("n_sources", [2, 3, 4])
def test_pit_on_spectra_is_the_brute_force(n_sources: int) -> None:
    sources = spectrum(3, n_sources, 5, 7)
    targets = phase_sensitive_target(sources.sum(dim=1, keepdim=True), sources)
    magnitudes = noise(3, n_sources, 5, 7, seed=1).abs()
    loss, indices = pit(partial(pairwise, magnitude_mse), magnitudes, targets)
    values, orders = naive_pit(magnitude_mse, magnitudes, targets)
    assert loss.tolist() == pytest.approx(values)
    assert indices.tolist() == orders


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("n_sources", [2, 3, 4])
def test_pit_on_the_gpu_agrees_with_the_cpu(n_sources: int) -> None:
    estimates, references = noise(4, n_sources, 4000), noise(4, n_sources, 4000, seed=1)
    results = []
    for device in ("cpu", "cuda"):
        inputs = estimates.to(device).requires_grad_()
        loss, indices = pit(partial(pairwise, negative(si_sdr)), inputs, references.to(device))
        (gradient,) = torch.autograd.grad(loss.sum(), inputs)
        results.append([x.detach().cpu() for x in (loss, indices, gradient)])
    for cpu, gpu in zip(*results, strict=True):
        torch.testing.assert_close(gpu, cpu)
