"""The optimisation of a mask: each term of the loss, its effect on a mask, and the decisions of the guard."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from sepnet.query.mel_masking import MelMasking
from sepnet.query.optimisation import loss_terms
from sepnet.query.optimisation.descent import descend
from sepnet.query.optimisation.dgmo import DGMO
from sepnet.query.optimisation.mask_parameters import FreeForm, ParameteriseMask, free_form, gaussian_mixture
from sepnet.query.optimisation.task import OptimisationTask
from sepnet.query.windowing import zero_padded_windows
from sepnet.types import SepnetError

RATE, LR = 8000, 0.28
MASKING = MelMasking(sample_rate=RATE, window_samples=256, hop_samples=128, n_mels=24)
WEIGHTS = ("reference", "tv", "sat", "proximity", "target", "residual", "negative")
KINDS: list[ParameteriseMask] = [free_form, partial(gaussian_mixture, n_gaussians=24, fit_steps=15)]


def tones(*hertz: float, seconds: float = 1.5) -> Tensor:
    clock = torch.arange(round(seconds * RATE)) / RATE
    return torch.stack([0.1 * torch.sin(2 * math.pi * f * clock) for f in hertz])


def tagger(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Unflatten(1, (1, -1)), nn.Conv1d(1, 16, 64, stride=16), nn.Tanh(), nn.AdaptiveAvgPool1d(8),
        nn.Flatten(), nn.Linear(128, 12),
    )  # fmt: skip


@pytest.fixture(name="task")
def _task() -> OptimisationTask:
    """Two tones and a mask of one half."""
    mixture = tones(440, 2500).sum(dim=0)
    n_frames = MASKING.mel_powers(mixture).shape[0]
    return OptimisationTask(mixture, torch.full((n_frames, 24), 0.5), MASKING)


def only(**weights: float) -> DGMO:
    settings = dict.fromkeys((f"lambda_{name}" for name in WEIGHTS), 0.0)
    settings |= {f"lambda_{name}": value for name, value in weights.items()}
    return DGMO(lr=LR, guard=False, window_seconds=0.5, hop_seconds=0.25, **settings)  # type: ignore[arg-type]


def test_each_term_is_its_formula() -> None:
    mask = torch.tensor([[0.0, 0.5], [1.0, 0.5], [1.0, 0.0]])
    assert loss_terms.total_variation(mask).item() == pytest.approx(
        (1 + 0 + 0 + 0.5) / 4 + (0.5 + 0.5 + 1) / 3
    )
    assert loss_terms.saturation(mask).item() == pytest.approx(2 * 0.25 / 6)
    assert loss_terms.proximity(mask, torch.zeros(3, 2)).item() == pytest.approx((1 + 1 + 0.25 * 2) / 6)
    powers, wanted = torch.full((3, 2), 4.0), torch.full((3, 2), 1.0)
    weights = torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.0, 0.0]])
    # log(0.25 * 4 / 1) = 0 and log(1 * 4 / 1) = log 4
    found = loss_terms.reference_distance(mask, powers, wanted, weights)
    assert found.item() == pytest.approx(2 * math.log(4) / 3, abs=1e-5)
    ones, axes = torch.ones(3), torch.eye(3)
    assert loss_terms.dissimilarity(2 * axes, axes, ones).item() == pytest.approx(0)
    assert loss_terms.dissimilarity(axes, -axes, ones).item() == pytest.approx(2)
    assert loss_terms.similarity(axes, -axes, ones).item() == 0
    assert loss_terms.similarity(axes, axes[:1], torch.tensor([1.0, 1.0, 2.0])).item() == pytest.approx(0.25)


def test_below_the_floor_all_powers_are_equal() -> None:
    mixture = torch.tensor([[1.0, 1e-9, 0.0]])
    reference = torch.tensor([[1.0, 0.0, 1e-10]])
    assert loss_terms.reference_distance(torch.ones(1, 3), mixture, reference).item() < 1e-3
    assert loss_terms.total_variation(torch.ones(1, 1)).item() == 0  # no neighbours, and no NaN


def moved(dgmo: DGMO, task: OptimisationTask) -> Tensor:
    return dgmo.optimise(task).mask - task.start


def test_the_mask_approaches_the_reference(task: OptimisationTask) -> None:
    low = MASKING.mel_powers(tones(440)[0])
    mask = only(reference=1.0).optimise(replace(task, reference=low)).mask
    powers = MASKING.mel_powers(task.mixture).mean(dim=0)
    bands = (powers * (torch.arange(24) < 12)).argmax(), (powers * (torch.arange(24) >= 12)).argmax()
    assert mask[5:-5, bands[0]].min() > 0.8
    assert mask[5:-5, bands[1]].max() < 0.2
    elsewhere = torch.zeros_like(task.start)
    elsewhere[:10] = 1.0
    change = moved(only(reference=1.0), replace(task, reference=low, reference_weights=elsewhere))
    assert change[:10].abs().max() > 0.1
    assert not change[10:].any()


@pytest.mark.parametrize("name", ["tv", "sat", "proximity"])
def test_terms_of_the_mask_alone_decrease(name: str, task: OptimisationTask) -> None:
    generator = torch.Generator().manual_seed(0)
    start = 0.2 + 0.6 * torch.rand(task.start.shape, generator=generator)
    term: Callable[[Tensor], Tensor] = {
        "tv": loss_terms.total_variation,
        "sat": loss_terms.saturation,
        "proximity": lambda mask: loss_terms.proximity(mask, start),
    }[name]
    optimised = only(**{name: 1.0}).optimise(replace(task, start=start))
    if name == "proximity":  # it begins where it is content
        assert (optimised.mask - start).abs().max() < 0.01
        return
    assert term(optimised.mask) < 0.7 * term(start)


def test_proximity_limits_the_change(task: OptimisationTask) -> None:
    task = replace(task, reference=MASKING.mel_powers(tones(440)[0]))
    free, held = (moved(only(reference=0.1, proximity=weight), task).abs().mean() for weight in (0.0, 10.0))
    assert held < 0.7 * free


@pytest.mark.parametrize("name", ["target", "residual", "negative"])
def test_embedding_terms_move_similarities(name: str, task: OptimisationTask) -> None:
    """The gradient passes embedder, windows, synthesis and mask."""
    embed = tagger()

    def embeddings(signal: Tensor) -> Tensor:
        return embed(zero_padded_windows(signal, RATE // 2, RATE // 4))

    one, other = (embeddings(tone).mean(dim=0).detach() for tone in tones(440, 2500))
    task = replace(task, embed=embed, query=one, negative=other if name == "negative" else None)

    def similarities(mask: Tensor) -> dict[str, float]:
        split = MASKING.split(task.mixture, mask)
        both = [embeddings(signal) for signal in (split.target, split.residual)]
        target, residual = (torch.cosine_similarity(e, one[None]).mean().item() for e in both)
        return {"target": target, "residual": -residual, "negative": (
            torch.cosine_similarity(both[1], other[None]).mean()
            - torch.cosine_similarity(both[0], other[None]).mean()
        ).item()}  # fmt: skip

    optimised = replace(only(**{name: 1.0}), mask_floor=0.0).optimise(task)
    assert similarities(optimised.mask)[name] > similarities(task.start)[name] + 0.003
    assert optimised.losses[-1] < optimised.losses[0]
    assert all(parameter.grad is None for parameter in embed.parameters())  # frozen


def test_the_loss_sees_the_mask_above_its_floor(task: OptimisationTask) -> None:
    """An empty mask counts as 0.08, so its powers are 0.08^2 times those of the mixture."""
    powers = MASKING.mel_powers(task.mixture)
    settings = {f"lambda_{name}": 0.0 for name in WEIGHTS if name != "reference"}
    dgmo = DGMO(guard=False, opt_steps=1, floor_db=200, **settings)  # type: ignore[arg-type]
    silent = replace(task, start=torch.zeros_like(task.start), reference=0.08**2 * powers)
    assert dgmo.optimise(silent).losses[0] < 0.03  # the free mask starts at 0.001, so at 0.0809
    louder = replace(silent, reference=powers)
    assert dgmo.optimise(louder).losses[0] == pytest.approx(-2 * math.log(0.08), abs=0.03)


def test_the_recorded_terms_sum_to_the_losses(task: OptimisationTask) -> None:
    embed = tagger()
    task = replace(
        task, reference=MASKING.mel_powers(tones(440)[0]), embed=embed,
        query=torch.ones(12), negative=torch.eye(12)[0],
    )  # fmt: skip
    dgmo = DGMO(guard=False, lr=LR, window_seconds=0.5, hop_seconds=0.25, parameters=KINDS[1])
    optimised = dgmo.optimise(task)
    assert len(optimised.losses) == 18
    assert set(optimised.terms) == set(WEIGHTS)
    sums = [sum(step) for step in zip(*optimised.terms.values(), strict=True)]
    assert sums == pytest.approx(optimised.losses, rel=1e-5)
    assert optimised.losses[-1] < optimised.losses[0]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_deterministic_and_works_in_inference_mode(
    kind: ParameteriseMask, task: OptimisationTask
) -> None:
    task = replace(task, reference=MASKING.mel_powers(tones(440)[0]))
    dgmo = DGMO(parameters=kind, lr=LR, guard=False, opt_steps=4)
    before = task.start.clone()
    first = dgmo.optimise(task).mask
    with torch.inference_mode():
        again = dgmo.optimise(replace(task, mixture=task.mixture.clone(), start=task.start.clone())).mask
    assert torch.equal(first, again)
    assert torch.equal(task.start, before)
    assert not torch.equal(first, before)


def in_out(wanted: Tensor, other: Tensor) -> Callable[[Tensor, Tensor], float]:
    def score(target: Tensor, residual: Tensor) -> float:
        def like(signal: Tensor, what: Tensor) -> float:
            return torch.cosine_similarity(signal, what, dim=0).item()

        return like(target, wanted) - like(residual, wanted)

    return score


@pytest.mark.parametrize("kind", KINDS)
def test_the_guard_accepts_better_masks_and_rejects_worse_ones(
    kind: ParameteriseMask, task: OptimisationTask
) -> None:
    low, high = tones(440, 2500)
    task = replace(
        task, reference=MASKING.mel_powers(low), reference_weights=MASKING.mel_powers(task.mixture)
    )
    dgmo = DGMO(parameters=kind, lr=LR, max_mean_change=0.6)
    good = dgmo.optimise(replace(task, in_out_score=in_out(low, high)))
    assert good.decision.accepted
    assert good.decision.score_after > good.decision.score_before + 0.1
    assert "rose" in good.decision.reason
    bad = dgmo.optimise(replace(task, in_out_score=in_out(high, low)))
    assert not bad.decision.accepted
    assert bad.mask is task.start
    assert bad.decision.score_after < bad.decision.score_before
    assert "did not improve" in bad.decision.reason
    assert len(bad.losses) == 18  # the curve is kept all the same
    near = DGMO(parameters=kind, lr=LR, max_mean_change=0.01)
    far = near.optimise(replace(task, in_out_score=in_out(low, high)))
    assert not far.decision.accepted
    assert far.mask is task.start
    assert "differs from its start" in far.decision.reason
    assert far.decision.mean_change > 0.01


def test_an_equal_score_is_rejected(task: OptimisationTask) -> None:
    found = DGMO(guard=True).optimise(replace(task, in_out_score=lambda target, residual: 0.25))
    assert not found.decision.accepted
    assert (found.decision.score_before, found.decision.score_after) == (0.25, 0.25)


def test_a_loss_that_is_not_finite_ends_the_descent_and_returns_the_start(task: OptimisationTask) -> None:
    def broken(heard: Tensor) -> Tensor:
        return heard[:, :12] * float("nan")

    found = only(target=1.0).optimise(replace(task, embed=broken, query=torch.ones(12)))
    assert not found.decision.accepted
    assert found.mask is task.start
    assert len(found.losses) == 1
    assert math.isnan(found.losses[0])
    assert "not finite" in found.decision.reason


def test_windows_with_the_largest_weights_are_embedded(task: OptimisationTask) -> None:
    signal = torch.arange(1.0, 11.0)
    assert zero_padded_windows(signal, 4, 3).tolist() == [[1, 2, 3, 4], [4, 5, 6, 7], [7, 8, 9, 10]]
    assert zero_padded_windows(signal[:9], 4, 3).tolist() == [[1, 2, 3, 4], [4, 5, 6, 7], [7, 8, 9, 0]]
    assert zero_padded_windows(signal[:2], 4, 3).tolist() == [[1, 2, 0, 0]]
    embedded: list[Tensor] = []

    def embed(pieces: Tensor) -> Tensor:
        embedded.append(pieces.detach())
        return pieces[:, :12]

    weights = torch.tensor([0.1, 0.0, 0.5, 0.0, 0.2])
    task = replace(task, embed=embed, query=torch.ones(12), window_weights=weights)
    dgmo = replace(only(target=1.0), mask_floor=0.0, max_windows=2)
    dgmo.optimise(task)
    halves = MASKING.split(task.mixture, FreeForm(task.start).render())
    for signal, pieces in zip((halves.target, halves.residual), embedded[0].chunk(2), strict=True):
        torch.testing.assert_close(pieces, zero_padded_windows(signal, RATE // 2, RATE // 4)[[2, 4]])
    with pytest.raises(SepnetError, match=r"window_weights are \(3,\), but the mixture has 5 windows"):
        dgmo.optimise(replace(task, window_weights=torch.ones(3)))


def test_target_and_residual_sum_to_the_mixture(task: OptimisationTask) -> None:
    torch.manual_seed(0)
    mixture, mask = torch.randn(RATE), torch.rand(MASKING.mel_powers(torch.zeros(RATE)).shape)
    for soft, exponent in ((True, 1.0), (True, 2.0), (False, 1.0)):
        masking = MelMasking(
            sample_rate=RATE,
            window_samples=256,
            hop_samples=128,
            n_mels=24,
            soft_masking=soft,
            exponent=exponent,
        )
        parted = masking.split(mixture, mask)
        assert (parted.target + parted.residual - mixture).abs().max() < 1e-6
        whole = masking.split(mixture, torch.ones_like(mask))
        torch.testing.assert_close(whole.target, mixture, atol=1e-5, rtol=0)
        assert not masking.split(mixture, torch.zeros_like(mask)).target.any()
    half = torch.full_like(mask, 0.6)
    assert MASKING.effective_mask(half)[0, 0].item() == pytest.approx(0.6)
    hard = MelMasking(sample_rate=RATE, window_samples=256, hop_samples=128, n_mels=24, soft_masking=False)
    torch.testing.assert_close(hard.split(mixture, half).target, mixture, atol=1e-5, rtol=0)
    with pytest.raises(
        SepnetError, match=r"the mask is \(3, 24\), but a mixture of 8000 samples has 64 frames"
    ):
        MASKING.split(mixture, mask[:3])


def test_descent_is_adam() -> None:
    """The first step of Adam moves each value by the rate against the sign of its slope."""
    free = FreeForm(torch.full((2, 2), 0.5))
    losses = descend(
        free, lambda mask: (mask * torch.tensor([[1.0, -2.0], [3.0, 0.0]])).sum(), steps=1, lr=0.1
    )
    torch.testing.assert_close(
        free.logits.detach(), torch.tensor([[-0.1, 0.1], [-0.1, 0.0]]), atol=1e-5, rtol=0
    )
    assert losses == (pytest.approx(1.0),)
    assert descend(free, lambda mask: mask.sum(), steps=0, lr=0.1) == ()


def test_bad_settings_and_tasks_are_refused(task: OptimisationTask) -> None:
    with pytest.raises(SepnetError, match="guard needs an in/out score"):
        DGMO(guard=True).optimise(task)
    for settings, told in (
        ({"opt_steps": -1}, "opt_steps=-1"),
        ({"lr": 0.0}, "lr=0.0"),
        ({"mask_floor": 1.0}, "mask_floor=1.0"),
        ({"lambda_tv": -0.1}, "lambda_tv=-0.1"),
        ({"hop_seconds": 0.0}, "hop_seconds=0.0"),
    ):
        with pytest.raises(SepnetError, match=told):
            DGMO(**settings)  # type: ignore[arg-type]
    with pytest.raises(SepnetError, match=r"exponent=0\.0 has to be positive"):
        MelMasking(exponent=0.0)
    with pytest.raises(SepnetError, match=r"reference is \(2, 24\), but the mask"):
        only(reference=1.0).optimise(replace(task, reference=torch.ones(2, 24)))
    with pytest.raises(SepnetError, match="no embedding of a query"):
        only(target=1.0).optimise(replace(task, embed=tagger()))
    with pytest.raises(SepnetError, match=r"in \[0, 1\]"):
        only(tv=1.0).optimise(replace(task, start=task.start * 3))


def test_no_steps_return_the_start_itself(task: OptimisationTask) -> None:
    found = DGMO(opt_steps=0, guard=False).optimise(task)
    torch.testing.assert_close(found.mask, task.start)
    assert found.losses == ()
