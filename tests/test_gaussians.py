"""Masks of Gaussians: the sparse rendering against the definition, its gradient, and matching pursuit."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from sepnet.query.optimisation.gaussians import CUT_SIGMAS, Gaussians, render, render_dense
from sepnet.query.optimisation.mask_parameters import (
    FreeForm,
    GaussianMixture,
    fit_mask,
    free_form,
    gaussian_mixture,
)
from sepnet.query.optimisation.matching_pursuit import matching_pursuit
from sepnet.types import SepnetError

T, N = 90, 24


def draw(n: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Gaussians:
    """Of all sizes and directions, some of them beyond the edges."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=generator, dtype=dtype)

    means = torch.stack([uniform(-20, T + 20), uniform(-10, N + 10)], dim=-1)
    return Gaussians(uniform(-3, 6), means, uniform(-1.0, 3.0, 2), uniform(-4, 4))


def leaves(gaussians: Gaussians) -> list[Tensor]:
    return [getattr(gaussians, entry.name).requires_grad_() for entry in fields(gaussians)]


def one(height: float, mean: tuple[float, float], sigmas: tuple[float, float], turn: float) -> Gaussians:
    double = torch.float64
    return Gaussians(
        torch.logit(torch.tensor([height], dtype=double)),
        torch.tensor([mean], dtype=double),
        torch.tensor([sigmas], dtype=double).log(),
        torch.tensor([turn], dtype=double),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 7, 60])
def test_it_is_the_dense_formula_cut_off(n: int, dtype: torch.dtype) -> None:
    for seed in range(4):
        gaussians = draw(n, seed, dtype)
        sparse = render(gaussians, T, N)
        dense = render_dense(gaussians, T, N, cut_sigmas=CUT_SIGMAS)
        # in float32 a cell on the very border may fall to either side: 1.2 % of a height
        off = (sparse - dense).abs()
        tolerance = 1e-12 if dtype == torch.float64 else 1e-5
        assert (off > tolerance).sum() <= (0 if dtype == torch.float64 else 2)
        assert sparse.min() >= 0
        assert sparse.max() <= 1


def test_what_is_cut_off_is_small() -> None:
    for seed in range(4):
        gaussians = draw(5, seed)
        uncut, cut = render_dense(gaussians, T, N), render(gaussians, T, N)
        assert (uncut - cut).min() >= -1e-12
        assert (uncut - cut).max() < 1 - (1 - math.exp(-(CUT_SIGMAS**2) / 2)) ** 5


def test_a_single_one_is_its_closed_form() -> None:
    height, (s, r), turn = 0.7, (6.0, 2.0), 0.5
    mask = render(one(height, (40.0, 12.0), (s, r), turn), T, N)
    assert mask[40, 12].item() == pytest.approx(height)
    dt, df = 3.0, 2.0
    along, across = dt * math.cos(turn) + df * math.sin(turn), -dt * math.sin(turn) + df * math.cos(turn)
    expected = height * math.exp(-((along / s) ** 2 + (across / r) ** 2) / 2)
    assert mask[43, 14].item() == pytest.approx(expected)
    apart = (one(height, (10.0, 3.0), (2.0, 2.0), 0.0), one(0.4, (70.0, 20.0), (2.0, 1.0), 0.0))
    both = Gaussians(*(torch.cat([getattr(g, entry.name) for g in apart]) for entry in fields(Gaussians)))
    torch.testing.assert_close(render(both, T, N), sum(render(each, T, N) for each in apart))


def test_two_at_one_place_combine_by_a_product() -> None:
    twice = one(0.5, (40.0, 12.0), (4.0, 3.0), 0.0)
    twice = Gaussians(*(getattr(twice, entry.name).repeat_interleave(2, 0) for entry in fields(twice)))
    assert render(twice, T, N)[40, 12].item() == pytest.approx(0.75)


def test_rotations_by_quarter_and_half_turns() -> None:
    gaussians = draw(20)
    mask = render(gaussians, T, N)
    swapped = replace(
        gaussians, log_scales=gaussians.log_scales.flip(-1), rotations=gaussians.rotations + math.pi / 2
    )
    torch.testing.assert_close(render(swapped, T, N), mask)
    turned = replace(gaussians, rotations=gaussians.rotations + math.pi)
    torch.testing.assert_close(render(turned, T, N), mask)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    shuffled = Gaussians(*(getattr(gaussians, entry.name)[order] for entry in fields(gaussians)))
    torch.testing.assert_close(render(shuffled, T, N), mask)


def test_gradients_are_those_of_the_dense_formula() -> None:
    outer = torch.randn(T, N, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for seed in range(4):
        gaussians = draw(40, seed)
        inputs = leaves(gaussians)
        found = torch.autograd.grad((outer * render(gaussians, T, N)).sum(), inputs)
        dense = render_dense(gaussians, T, N, cut_sigmas=CUT_SIGMAS)
        wanted = torch.autograd.grad((outer * dense).sum(), inputs)
        for ours, theirs in zip(found, wanted, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


def test_gradients_are_those_of_differences() -> None:
    """For Gaussians without cells so near their border that a finite difference would cross it."""
    gaussians = draw(5, seed=3)
    gaussians = replace(gaussians, means=gaussians.means * torch.tensor([20 / T, 12 / N]))
    assert torch.autograd.gradcheck(
        lambda *parts: render(Gaussians(*parts), 20, 12), leaves(gaussians), eps=1e-7
    )


@pytest.mark.parametrize("logit", [20.0, 40.0, 90.0, 300.0])
def test_heights_of_nearly_one_keep_their_gradient(logit: float) -> None:
    """1 - g is lost in rounding where it is taken as a difference; as expm1 it is not."""
    gaussians = one(0.5, (40.0, 12.0), (4.0, 3.0), 0.0)
    for dtype in (torch.float32, torch.float64):
        high = replace(gaussians, logits=torch.tensor([logit]))
        high = Gaussians(*(getattr(high, entry.name).to(dtype) for entry in fields(high)))
        inputs = leaves(high)
        slopes = torch.autograd.grad(render(high, T, N)[40, 12], inputs)
        assert all(bool(slope.isfinite().all()) for slope in slopes)
        # d sigmoid / da = sigmoid(a) sigmoid(-a)
        assert slopes[0].item() == pytest.approx(math.exp(-logit), rel=1e-3, abs=1e-37)


def test_gaussians_outside_give_an_empty_mask() -> None:
    away = one(0.9, (-500.0, 12.0), (3.0, 3.0), 0.2)
    inputs = leaves(away)
    mask = render(away, T, N)
    assert not mask.any()
    assert all(not slope.any() for slope in torch.autograd.grad(mask.sum(), inputs))


def test_one_cell_is_a_mask_too() -> None:
    assert render(one(0.6, (0.0, 0.0), (5.0, 5.0), 0.3), 1, 1).item() == pytest.approx(0.6)


def test_pursuit_recovers_separate_gaussians() -> None:
    """Gaussians far apart, of sizes that the pursuit tries, are found to the cell."""
    apart = [
        one(0.9, (12.0, 5.0), (3.0, 2.5), 0.0),
        one(0.5, (45.0, 14.0), (3.0, 0.8), 0.0),
        one(0.8, (75.0, 9.0), (1.0, 2.5), 0.0),
    ]
    true = Gaussians(*(torch.cat([getattr(g, entry.name) for g in apart]) for entry in fields(Gaussians)))
    wanted = render_dense(true, T, N)
    found = matching_pursuit(wanted, 3)
    order = found.means[:, 0].argsort()
    torch.testing.assert_close(found.means[order], true.means)
    torch.testing.assert_close(found.log_scales[order], true.log_scales)
    torch.testing.assert_close(
        torch.sigmoid(found.logits[order]), torch.sigmoid(true.logits), atol=1e-2, rtol=0
    )


def blobs() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    rough = torch.rand(1, 1, T // 6, N // 4, generator=generator)
    smooth = torch.nn.functional.interpolate(rough, size=(T, N), mode="bilinear")[0, 0]
    return ((smooth - 0.3) * 2).clamp(0, 1)


def test_fitting_a_mask_falls_with_steps_and_with_gaussians() -> None:
    wanted = blobs()

    def error(n: int, steps: int) -> float:
        mask = gaussian_mixture(wanted, n_gaussians=n, fit_steps=steps).render()
        return (mask - wanted).square().mean().item() / wanted.var().item()

    best = error(64, 30)
    assert best < 0.5 * error(8, 30)
    assert best < 0.5 * error(64, 0)
    assert best < 0.1


def test_weights_say_which_cells_matter() -> None:
    wanted = blobs()
    early = torch.ones(T, N)
    early[T // 2 :] = 1e-3

    def errors(weights: Tensor | None) -> Tensor:
        mask = gaussian_mixture(wanted, weights, n_gaussians=6, fit_steps=30).render()
        return (mask - wanted).square()[: T // 2].mean()

    assert errors(early) < 0.8 * errors(None)


@pytest.mark.parametrize("wanted", [torch.zeros(T, N), torch.ones(T, N), torch.full((3, 2), 0.5)])
def test_constant_masks_are_fitted(wanted: Tensor) -> None:
    mask = gaussian_mixture(wanted, n_gaussians=16).render()
    assert mask.shape == wanted.shape
    assert (mask - wanted).abs().mean() < 0.15
    again = gaussian_mixture(wanted, n_gaussians=16).render()
    assert torch.equal(mask, again)  # nothing is drawn


def test_free_form_is_the_mask_itself() -> None:
    wanted = blobs()
    torch.testing.assert_close(free_form(wanted).render(), wanted, atol=1e-3, rtol=1e-4)
    free = FreeForm(torch.full((T, N), 0.5))
    losses = fit_mask(free, wanted, steps=200, lr=0.3)
    assert len(losses) == 200
    assert (free.render() - wanted).abs().max() < 0.05


def test_both_are_modules_with_one_set_of_parameters() -> None:
    mixture = gaussian_mixture(blobs(), n_gaussians=5, fit_steps=2)
    assert isinstance(mixture, GaussianMixture)
    assert [tuple(each.shape) for each in mixture.parameters()] == [(5, 6)]
    assert [tuple(each.shape) for each in FreeForm(blobs()).parameters()] == [(T, N)]


def test_masks_beyond_their_range_are_refused() -> None:
    for make in (free_form, gaussian_mixture):
        with pytest.raises(SepnetError, match=r"in \[0, 1\], but this one has values from 0 to 2"):
            make(torch.tensor([[0.0, 2.0]]))
        with pytest.raises(SepnetError, match="nan"):
            make(torch.full((2, 2), float("nan")))
        with pytest.raises(SepnetError, match="has no cells"):
            make(torch.zeros(0, 4))
    with pytest.raises(SepnetError, match="n_gaussians=0"):
        gaussian_mixture(blobs(), n_gaussians=0)
