"""Laws of the ratios in dB and of the assignment: closed forms, naive references, other implementations."""

from __future__ import annotations

import math
import warnings
from itertools import permutations

import fast_bss_eval
import jaxtyping
import numpy as np
import pytest
import torch
import torchmetrics.functional.audio as tm
from torch import Tensor

from sepnet.metrics import (
    Metric,
    best_permutation,
    improvement,
    is_silent,
    output_tracking,
    pairwise,
    permute,
    sd_sdr,
    sdr,
    si_sdr,
    si_sdr_improvement,
    snr,
    thresholded_snr,
)
from sepnet.types import SepnetError

RATIOS = (snr, thresholded_snr, si_sdr, sd_sdr)
ALL = (*RATIOS, sdr)
AGREEMENT_DB = 1e-4
# The runtime check of the annotations, where it is on, may refuse a wrong shape first.
WRONG_SHAPE = (SepnetError, jaxtyping.TypeCheckError)


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def orthonormal(n: int, samples: int) -> Tensor:
    """(n, samples) in float64: orthogonal, each of unit power."""
    return torch.linalg.qr(noise(samples, n)).Q.T * math.sqrt(samples)


def db(ratio: float) -> float:
    return 10 * math.log10(ratio)


def estimates_at(reference: Tensor, snrs_db: tuple[float, ...]) -> Tensor:
    """One estimate for each SNR, of a reference (snr, time): reference plus white noise."""
    disturbance = noise(*reference.shape, seed=99, dtype=reference.dtype)
    rms = reference.square().mean(-1, keepdim=True).sqrt()
    return reference + disturbance * rms * 10 ** (-torch.tensor(snrs_db, dtype=reference.dtype)[:, None] / 20)


@pytest.mark.parametrize("gain", [1.0, 0.5, 2.0, -0.7])
@pytest.mark.parametrize("noise_gain", [3.0, 1.0, 0.1, 1e-3])
@pytest.mark.parametrize("level", [1e-2, 1.0])
def test_closed_forms_on_orthogonal_signals(gain: float, noise_gain: float, level: float) -> None:
    s, n = orthonormal(2, 4000) * level
    e = gain * s + noise_gain * n
    error = (1 - gain) ** 2 + noise_gain**2  # the reference has unit power
    assert snr(e, s).item() == pytest.approx(-db(error), abs=1e-4)
    assert si_sdr(e, s).item() == pytest.approx(db(gain**2 / noise_gain**2), abs=1e-4)
    assert sd_sdr(e, s).item() == pytest.approx(db(gain**2 / error), abs=1e-4)
    assert sd_sdr(e, s).item() == pytest.approx(snr(e, s).item() + 20 * math.log10(abs(gain)), abs=1e-4)
    assert thresholded_snr(e, s, max_db=20.0).item() == pytest.approx(-db(error + 0.01), abs=1e-4)


def test_sdr_allows_a_filter_and_penalises_noise_orthogonal_to_all_delays() -> None:
    samples, taps = 3000, 512
    s = torch.zeros(samples, dtype=torch.float64)
    s[: samples - taps] = noise(samples - taps)  # each delayed copy fits whole
    delays = torch.stack([s.roll(k) for k in range(taps)], dim=1)
    target = delays @ (noise(taps, seed=1) * 0.95 ** torch.arange(taps))
    basis = torch.linalg.qr(delays).Q
    other = noise(samples, seed=2)
    other = other - basis @ (basis.T @ other)
    for ratio_db in (-5.0, 0.0, 17.0, 50.0):
        error = other * (target.norm() / other.norm()) * 10 ** (-ratio_db / 20)
        assert sdr(target + error, s).item() == pytest.approx(ratio_db, abs=1e-6)
    assert si_sdr(target + error, s) < 0  # which does not forgive the filter


@pytest.mark.parametrize("rms", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agreement_with_other_implementations(rms: float, dtype: torch.dtype) -> None:
    levels = (-20.0, 0.0, 20.0, 40.0, 60.0)
    reference = noise(len(levels), 3 * 8000, dtype=dtype) * rms
    estimate = estimates_at(reference, levels)
    e, s = estimate.double(), reference.double()

    def close(ours: Tensor, theirs: Tensor) -> None:
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), theirs, atol=AGREEMENT_DB, rtol=0)

    close(snr(estimate, reference), tm.signal_noise_ratio(e, s))
    close(si_sdr(estimate, reference), tm.scale_invariant_signal_distortion_ratio(e, s))
    close(
        si_sdr(estimate + 0.1, reference - 0.3, zero_mean=True),
        tm.scale_invariant_signal_distortion_ratio(
            (estimate + 0.1).double(), (reference - 0.3).double(), zero_mean=True
        ),
    )
    close(si_sdr(estimate, reference), fast_bss_eval.si_sdr(s[:, None], e[:, None]).squeeze(1))
    close(sdr(estimate, reference), tm.signal_distortion_ratio(e, s))
    close(sdr(estimate, reference), fast_bss_eval.sdr(s[:, None], e[:, None]).squeeze(1))


def test_sdr_agrees_with_mir_eval_for_several_sources_at_once() -> None:
    # mir_eval takes the interference out of the projection on all sources; its SDR is that of one source.
    from mir_eval.separation import bss_eval_sources

    references = noise(2, 8000) * torch.tensor([[0.1], [0.02]])
    leak = torch.tensor([[1.0, 0.3], [0.5, 1.0]], dtype=torch.float64)
    estimates = leak @ references + 0.001 * noise(2, 8000, seed=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = bss_eval_sources(references.numpy(), estimates.numpy(), compute_permutation=False)[0]
    np.testing.assert_allclose(sdr(estimates, references).numpy(), theirs, atol=AGREEMENT_DB)
    np.testing.assert_allclose(sdr(estimates.float(), references.float()).numpy(), theirs, atol=AGREEMENT_DB)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-3, 0.5, 1e3, -1.0])
@pytest.mark.parametrize("metric", [si_sdr, sdr])
def test_scale_of_the_estimate_does_not_matter(metric: Metric, scale: float, dtype: torch.dtype) -> None:
    reference = noise(5, 8000, dtype=dtype) * 0.01
    estimate = estimates_at(reference, (-20.0, 0.0, 20.0, 40.0, 60.0))
    atol = [1e-4, 1e-4, 1e-4, 1e-4, 1e-3]  # at 60 dB float32 rounds the scaled estimate itself
    difference = (metric(scale * estimate, reference) - metric(estimate, reference)).abs()
    assert (difference <= torch.tensor(atol, dtype=dtype)).all()
    assert (metric(estimate, scale * reference) - metric(estimate, reference)).abs().max() < 1e-3


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("scale", [1e-2, 30.0])
def test_a_common_scale_does_not_matter(metric: Metric, scale: float) -> None:
    reference = noise(3, 2000) * 0.1
    estimate = estimates_at(reference, (-3.0, 10.0, 30.0))
    torch.testing.assert_close(
        metric(scale * estimate, scale * reference), metric(estimate, reference), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("metric", RATIOS)
def test_time_order_and_repetition_do_not_matter(metric: Metric) -> None:
    reference = noise(2, 3, 500)
    estimate = 0.7 * reference + 0.2 * noise(2, 3, 500, seed=1)
    order = torch.randperm(500, generator=torch.Generator().manual_seed(0))
    for e, s in ((estimate[..., order], reference[..., order]), (estimate.tile(4), reference.tile(4))):
        torch.testing.assert_close(metric(e, s), metric(estimate, reference))


@pytest.mark.parametrize("metric", ALL)
def test_batches_are_their_items(metric: Metric) -> None:
    reference = noise(2, 3, 600)
    estimate = reference + noise(2, 3, 600, seed=1)
    batched = metric(estimate, reference)
    assert batched.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            assert metric(estimate[i, j], reference[i, j]).item() == pytest.approx(batched[i, j].item())
    assert metric(estimate[0, 0], reference[0, 0]).shape == ()


@pytest.mark.parametrize("metric", ALL)
def test_noise_lowers_every_ratio(metric: Metric) -> None:
    reference = noise(7, 4000) * 0.1
    values = metric(estimates_at(reference, (60.0, 40.0, 20.0, 10.0, 0.0, -10.0, -20.0)), reference)
    assert (values[:-1] > values[1:]).all()


def test_estimate_and_reference_are_not_interchangeable() -> None:
    s, n = orthonormal(2, 1000)
    assert snr(2 * s + n, s).item() == pytest.approx(-db(2))
    assert snr(s, 2 * s + n).item() == pytest.approx(db(5 / 2))


@pytest.mark.parametrize("metric", RATIOS)
def test_gradients_are_right(metric: Metric) -> None:
    reference = noise(2, 24)
    estimate = (0.6 * reference + 0.5 * noise(2, 24, seed=1)).requires_grad_()
    assert torch.autograd.gradcheck(metric, (estimate, reference.requires_grad_()))


def test_gradient_of_sdr_is_right() -> None:
    reference = noise(520)
    estimate = reference + 0.5 * noise(520, seed=1)
    direction = noise(520, seed=2)
    estimate.requires_grad_()
    sdr(estimate, reference).backward()
    step = 1e-6
    with torch.no_grad():
        slope = (
            sdr(estimate + step * direction, reference) - sdr(estimate - step * direction, reference)
        ) / (2 * step)
    assert (estimate.grad @ direction).item() == pytest.approx(slope.item(), rel=1e-5)


@pytest.mark.parametrize("max_db", [10.0, 30.0, 50.0])
def test_threshold_is_a_soft_ceiling(max_db: float) -> None:
    s, n = orthonormal(2, 2000) * 0.1
    assert thresholded_snr(s, s, max_db=max_db).item() == pytest.approx(max_db, abs=1e-6)
    at_ceiling = s + n * 10 ** (-max_db / 20)  # as much error as threshold: 3 dB below the ceiling
    assert thresholded_snr(at_ceiling, s, max_db=max_db).item() == pytest.approx(max_db - db(2), abs=1e-6)
    far_below = s + 10 * n
    assert thresholded_snr(far_below, s, max_db=max_db).item() == pytest.approx(
        snr(far_below, s).item(), abs=1e-2
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("metric", ALL)
def test_perfect_estimates_reach_the_ceiling(metric: Metric, dtype: torch.dtype) -> None:
    tone = torch.sin(torch.arange(4000, dtype=dtype) * 0.1)
    impulse = torch.zeros(4000, dtype=dtype).index_fill(0, torch.tensor([5]), 1.0)
    signals = [0.1 * noise(4000, seed=k, dtype=dtype) for k in range(8)]
    s = torch.stack([tone, impulse, torch.ones_like(tone), *signals])
    ceiling = 30.0 if metric is thresholded_snr else 120.0
    values = metric(s.clone(), s)
    assert (values <= ceiling + 1e-4).all()
    assert (values > ceiling - 0.5).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("level", [1e-30, 1e-10, 1e-5, 0.1, 1e4, 1e15])
@pytest.mark.parametrize("metric", ALL)
def test_silence_and_extremes_have_finite_values_and_gradients(
    metric: Metric, level: float, dtype: torch.dtype
) -> None:
    sound, other = noise(2, 600, dtype=dtype) * level
    silence = torch.zeros_like(sound)
    pairs = [
        (silence, silence),
        (silence, sound),
        (sound, silence),
        (other, sound),
        (sound + 0.01 * other, sound),
    ]
    for estimate, reference in pairs:
        estimate = estimate.clone().requires_grad_()
        value = metric(estimate, reference)
        value.backward()
        assert value.isfinite()
        assert estimate.grad is not None
        assert estimate.grad.isfinite().all()


@pytest.mark.parametrize("metric", [snr, thresholded_snr, sd_sdr])
def test_a_silent_reference_still_pushes_the_estimate_to_silence(metric: Metric) -> None:
    silence = torch.zeros(2000)
    estimate = (0.3 * noise(2000, dtype=torch.float32)).requires_grad_()
    before = metric(estimate, silence)
    before.backward()
    assert estimate.grad is not None
    cosine = torch.nn.functional.cosine_similarity(estimate.grad, -estimate.detach(), dim=0)
    assert cosine.item() == pytest.approx(1.0, abs=1e-5)  # uphill is straight towards zero
    assert metric(0.5 * estimate, silence).item() == pytest.approx(before.item() + db(4), abs=1e-3)
    assert metric(silence, silence).item() == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("metric", [si_sdr, sdr])
def test_scale_invariant_ratios_of_silence_are_the_worst(metric: Metric, dtype: torch.dtype) -> None:
    sound, silence = 0.1 * noise(1000, dtype=dtype), torch.zeros(1000, dtype=dtype)
    for estimate, reference in ((silence, sound), (sound, silence), (silence, silence)):
        assert metric(estimate, reference).item() == pytest.approx(-120.0, abs=1e-3)
    mixed = metric(torch.stack([silence, sound, sound]), torch.stack([sound, silence, sound]))
    assert mixed.tolist() == pytest.approx([-120.0, -120.0, 120.0], abs=0.5)


@pytest.mark.parametrize("max_db", [10.0, 30.0])
def test_a_silent_reference_is_measured_by_the_mixture(max_db: float) -> None:
    # FUSS: the loss of an inactive source is 10 log10(|e|^2 + tau |x|^2), up to what training can't change.
    mixture = 0.1 * orthonormal(1, 1000)[0]
    references = torch.stack([torch.zeros(1000, dtype=torch.float64), 0.3 * noise(1000, seed=4)])
    tau = 10 ** (-max_db / 10)
    for gain in (0.0, 1e-6, 0.1, 1.0, 5.0):
        estimates = gain * noise(2, 1000, seed=5)
        values = thresholded_snr(estimates, references, max_db=max_db, mixture=mixture[None])
        fuss = db(estimates[0].square().mean().item() + tau * 0.01) - db(0.01)
        assert values[0].item() == pytest.approx(-fuss, abs=1e-9)
        active = thresholded_snr(estimates[1], references[1], max_db=max_db)
        assert values[1].item() == pytest.approx(active.item())  # an active source is judged by itself
    silent = thresholded_snr(references[0], references[0], max_db=max_db, mixture=mixture)
    assert silent.item() == pytest.approx(max_db)


def test_si_sdr_is_constant_for_a_silent_reference() -> None:
    estimate = noise(1000).requires_grad_()
    si_sdr(estimate, torch.zeros(1000, dtype=torch.float64)).backward()
    assert estimate.grad is not None
    assert estimate.grad.abs().max() < 1e-15


@pytest.mark.parametrize("metric", ALL)
def test_half_precision_is_measured_in_float32(metric: Metric) -> None:
    estimate, reference = (noise(1000, seed=k).to(torch.bfloat16) for k in range(2))
    value = metric(estimate, reference)
    assert value.dtype == torch.float32
    assert value == metric(estimate.float(), reference.float())


def test_is_silent_at_minus_80_dbfs() -> None:
    unit = orthonormal(1, 4000)[0]
    levels_db = torch.tensor([0.0, -60.0, -79.9, -80.1, -200.0, -torch.inf], dtype=torch.float64)
    signals = unit * 10 ** (levels_db[:, None] / 20)
    expected = [False, False, False, True, True, True]
    assert is_silent(signals).tolist() == expected
    assert is_silent(signals.float()).tolist() == expected
    assert is_silent(signals[0]).shape == ()


def test_improvement_is_the_gain_over_the_mixture() -> None:
    references = 0.1 * noise(4, 2, 1000)
    mixture = references.sum(dim=1, keepdim=True)
    estimates = references + 0.02 * noise(4, 2, 1000, seed=1)
    expected = si_sdr(estimates, references) - si_sdr(mixture.expand(4, 2, 1000), references)
    torch.testing.assert_close(si_sdr_improvement(estimates, references, mixture), expected)
    torch.testing.assert_close(improvement(si_sdr, estimates, references, mixture), expected)
    assert (expected > 5).all()
    for metric in ALL:
        nothing = improvement(metric, mixture.expand(4, 2, 1000), references, mixture)
        torch.testing.assert_close(nothing, torch.zeros(4, 2, dtype=torch.float64))


@pytest.mark.parametrize("metric", ALL)
def test_shapes_that_differ_are_refused(metric: Metric) -> None:
    for other in (noise(2, 999), noise(1, 1000), noise(1000)):
        with pytest.raises(WRONG_SHAPE):
            metric(noise(2, 1000), other)


def test_sdr_refuses_less_than_its_filter() -> None:
    with pytest.raises(SepnetError, match=r"512 taps.*511 samples"):
        sdr(noise(511), noise(511))


# Assignment


@pytest.mark.parametrize("metric", RATIOS)
@pytest.mark.parametrize(("n_estimates", "n_references"), [(2, 2), (3, 2), (2, 3)])
def test_pairwise_is_the_loop_over_pairs(metric: Metric, n_estimates: int, n_references: int) -> None:
    estimates, references = noise(4, n_estimates, 300), noise(4, n_references, 300, seed=1)
    scores = pairwise(metric, estimates, references)
    assert scores.shape == (4, n_estimates, n_references)
    for b in range(4):
        for e in range(n_estimates):
            for r in range(n_references):
                torch.testing.assert_close(scores[b, e, r], metric(estimates[b, e], references[b, r]))


def test_pairwise_calls_the_metric_once() -> None:
    calls = []

    def metric(estimate: Tensor, reference: Tensor) -> Tensor:
        calls.append(estimate.shape)
        return si_sdr(estimate, reference)

    pairwise(metric, noise(2, 3, 50), noise(2, 3, 50))
    assert calls == [(2, 3, 3, 50)]


def brute_force(scores: Tensor, maximise: bool) -> list[float]:
    """The best mean score of each item, by trying every injection of references into estimates."""
    n_estimates, n_references = scores.shape[1:]
    best = max if maximise else min
    return [
        best(
            sum(matrix[e, r].item() for r, e in enumerate(order)) / n_references
            for order in permutations(range(n_estimates), n_references)
        )
        for matrix in scores
    ]


@pytest.mark.parametrize("maximise", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (2, 2), (3, 2), (3, 3), (4, 2), (4, 4), (5, 5), (6, 3)])
def test_best_permutation_is_the_brute_force(shape: tuple[int, int], maximise: bool) -> None:
    scores = noise(20, *shape)
    indices = best_permutation(scores, maximise=maximise)
    assert indices.shape == (20, shape[1])
    assert all(len(set(row)) == shape[1] for row in indices.tolist())  # no estimate is used twice
    reached = scores.gather(1, indices[:, None]).squeeze(1).mean(-1)
    assert reached.tolist() == pytest.approx(brute_force(scores, maximise))


def test_up_to_three_sources_are_assigned_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def on_the_cpu(*_: object, **__: object) -> None:
        raise AssertionError("the Hungarian algorithm was called")

    monkeypatch.setattr("scipy.optimize.linear_sum_assignment", on_the_cpu)
    best_permutation(noise(2, 3, 3))
    with pytest.raises(AssertionError, match="Hungarian"):
        best_permutation(noise(2, 4, 4))


@pytest.mark.parametrize("n_sources", [2, 3, 4, 5])
def test_best_permutation_undoes_a_shuffle(n_sources: int) -> None:
    references = noise(6, n_sources, 400)
    shuffle = noise(6, n_sources, seed=2).argsort(dim=1)
    estimates = permute(references, shuffle) + 0.1 * noise(6, n_sources, 400, seed=1)
    indices = best_permutation(pairwise(si_sdr, estimates, references))
    assert torch.equal(indices, shuffle.argsort(dim=1))
    assert (si_sdr(permute(estimates, indices), references) > 15).all()


def test_surplus_estimates_are_left_out() -> None:
    references = noise(2, 2, 400)
    estimates = torch.stack([noise(2, 400, seed=7), references[:, 1], references[:, 0]], dim=1)
    assert best_permutation(pairwise(si_sdr, estimates, references)).tolist() == [[2, 1], [2, 1]]


def test_permute_takes_items_of_any_shape() -> None:
    estimates = noise(2, 3, 5, 7)
    permuted = permute(estimates, torch.tensor([[2, 0], [1, 2]]))
    assert permuted.shape == (2, 2, 5, 7)
    assert torch.equal(permuted[0, 0], estimates[0, 2])
    assert torch.equal(permuted[1, 1], estimates[1, 2])


@pytest.mark.parametrize("n_sources", [2, 4])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused(n_sources: int, value: float) -> None:
    scores = noise(3, n_sources, n_sources)
    scores[1, 0, 1] = value
    with pytest.raises(SepnetError, match=r"items \[1\] are NaN"):
        best_permutation(scores)


def test_more_references_than_estimates_are_refused() -> None:
    with pytest.raises(SepnetError, match="3 references"):
        best_permutation(noise(1, 2, 3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("n_sources", [2, 3, 4])
def test_the_gpu_agrees_with_the_cpu(n_sources: int) -> None:
    references = 0.1 * noise(4, n_sources, 8000, dtype=torch.float32)
    estimates = references.flip(1) + 0.03 * noise(4, n_sources, 8000, seed=1, dtype=torch.float32)
    for metric in ALL:
        ours = pairwise(metric, estimates.cuda(), references.cuda())
        assert ours.is_cuda
        torch.testing.assert_close(ours.cpu(), pairwise(metric, estimates, references), atol=1e-3, rtol=1e-4)
        indices = best_permutation(ours)
        assert indices.is_cuda
        assert torch.equal(permute(estimates.cuda(), indices).cpu(), estimates.flip(1))


# ---------------------------------------------------------------- sources that keep their outputs


def test_output_tracking_counts_the_seconds_on_the_wrong_output() -> None:
    rate, n_seconds = 1000, 10
    references = torch.randn(2, rate * n_seconds + 300, generator=torch.Generator().manual_seed(0))
    references[:, 4 * rate : 5 * rate] = 0.0  # nobody talks, so that no order is wrong
    estimates = references.clone()
    estimates[:, 6 * rate : 8 * rate] = references[:, 6 * rate : 8 * rate].flip(0)
    result = output_tracking(estimates, references, rate)
    assert result.swapped == pytest.approx(2 / 9)
    mirrored = output_tracking(estimates.flip(0), references, rate)
    assert mirrored == pytest.approx(result)
    assert 0 < result.si_sdri_db < output_tracking(references + 1e-3, references, rate).si_sdri_db
    assert output_tracking(references + 1e-3, references, rate).swapped == 0
