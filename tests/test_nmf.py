"""Non-negative matrix factorisation: its updates, and the separators that are made of it."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, nnls
from sklearn import decomposition
from torch import Tensor
from training_fixtures import RATE, TINY, compose, make_corpus, only_run, settings

import sepnet
from sepnet import artifact
from sepnet.artifact import newest_run
from sepnet.cli.train import train
from sepnet.dsp import nmf, nmf_iterations
from sepnet.dsp.blocks import excerpt_spectrogram, mask_in_blocks
from sepnet.dsp.fast_stft import FastSTFT
from sepnet.dsp.filterbank import STFT
from sepnet.dsp.nmf_extrapolated import GUARD_EVERY
from sepnet.dsp.nmf_least_squares_start import start_by_least_squares
from sepnet.dsp.nmf_updates import Problem
from sepnet.metrics import best_permutation, improvement, pairwise, permute, si_sdr
from sepnet.separators.nmf.blind import NMF
from sepnet.separators.nmf.features import pitch
from sepnet.separators.nmf.supervised import SupervisedNMF
from sepnet.training.task import si_sdr_gain
from sepnet.types import CannotSeparate, FittedSeparator, Mixture, Query, SepnetError

DIVERGENCES = ("frobenius", "kullback_leibler", "itakura_saito")
NAMES = {
    "frobenius": "frobenius",
    "kullback_leibler": "kullback-leibler",
    "itakura_saito": "itakura-saito",
}


each_solver = pytest.mark.parametrize("solver", ["accelerated", "multiplicative"])


def uniform(*shape: int, seed: int = 0, lowest: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return lowest + torch.rand(*shape, generator=generator, dtype=torch.float64)


def spectrogram(seed: int, n_items: int = 1, n_bins: int = 12, n_frames: int = 17) -> Tensor:
    """Low rank times exponential noise, as a power spectrogram is, with a range of 60 dB."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(n_items, n_bins, 4, generator=generator, dtype=torch.float64)
    frames = torch.rand(n_items, 4, n_frames, generator=generator, dtype=torch.float64)
    noise = torch.rand(n_items, n_bins, n_frames, generator=generator, dtype=torch.float64)
    return 10 ** (6 * draws - 3) @ frames * -torch.log(noise.clamp_min(1e-12))


# ---------------------------------------------------------------- the updates


@pytest.mark.parametrize(
    ("sparsity", "solver"), [(0.0, "multiplicative"), (0.3, "multiplicative"), (0.0, "accelerated")]
)
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_objective_never_rises(divergence: Any, sparsity: float, solver: Any) -> None:
    # 300 problems at once: dense, with zeros, with empty bins and frames, one of them all zero.
    X = torch.cat([spectrogram(0, 100), spectrogram(1, 100), uniform(100, 12, 17, seed=2)])
    X[100:200] *= uniform(100, 12, 17, seed=3) > 0.4
    X[100:150, 3] = 0
    X[120:170, :, 5] = 0
    X[199] = 0
    start = nmf.random_start(X, 5, torch.Generator().manual_seed(0))
    found = nmf.Factorisation(*start, torch.empty(0), torch.empty(0))
    before = nmf.objective(X, *start, divergence=divergence, sparsity=sparsity)
    first = before
    # An accelerated call of one iteration begins with the start by least squares, each time.
    for _ in range(8 if solver == "accelerated" else 40):
        found = nmf.factorise_from(
            X,
            found.dictionary,
            found.activations,
            divergence=divergence,
            n_iterations=1,
            tolerance=0,
            sparsity=sparsity,
            solver=solver,
        )
        assert found.objective.isfinite().all()
        assert (found.objective <= before * (1 + 1e-12) + 1e-12 * first).all()
        before = found.objective
    assert (before[:100] < 0.7 * first[:100]).all()
    assert min(found.dictionary.min(), found.activations.min()) >= 0


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_more_accelerated_iterations_are_never_worse(divergence: Any) -> None:
    X = torch.cat([spectrogram(0, 20), uniform(20, 12, 17, seed=2)])
    X[30:] *= uniform(10, 12, 17, seed=3) > 0.4
    start = nmf.random_start(X, 5, torch.Generator().manual_seed(0))
    before = nmf.objective(X, *start, divergence=divergence)
    first = before
    for count in (1, 2, 3, 4, 5, 8, 11, 12, 20, 36, 60):
        found = nmf.factorise_from(
            X, *start, divergence=divergence, n_iterations=count, tolerance=0, solver="accelerated"
        )
        assert (found.objective <= before * (1 + 1e-12) + 1e-12 * first).all()
        if divergence == "frobenius" or count % GUARD_EVERY == 0:  # when the objective is looked at
            before = found.objective


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_accelerated_updates_reach_the_objective_of_the_textbook_in_fewer_iterations(divergence: Any) -> None:
    low_rank = uniform(8, 40, 6, seed=1) ** 3 @ uniform(8, 6, 60, seed=2) ** 3
    X = low_rank * (0.5 + uniform(8, 40, 60, seed=3)) + 1e-3
    start = nmf.random_start(X, 8, torch.Generator().manual_seed(0))
    settings: Any = {"divergence": divergence, "tolerance": 0}
    textbook = nmf.factorise_from(X, *start, n_iterations=200, solver="multiplicative", **settings)
    n_iterations = 80 if divergence == "frobenius" else 30
    found = nmf.factorise_from(X, *start, n_iterations=n_iterations, solver="accelerated", **settings)
    assert (found.objective / textbook.objective).mean() < 1.0


def test_a_divergence_is_nearly_the_square_that_the_start_takes_for_it() -> None:
    # Equation (1) of sepnet.dsp.nmf_least_squares_start.
    X, change = uniform(1, 12, 24, lowest=0.1), 1e-3 * (uniform(1, 12, 24, seed=1) - 0.5)
    identity = torch.eye(24, dtype=torch.float64)[None]
    for divergence, power in (("kullback_leibler", 1), ("itakura_saito", 2)):
        exact = nmf.objective(X, X + X * change, identity, divergence=divergence)  # type: ignore[arg-type]
        square = ((X * change).square() / (2 * X**power)).sum()
        torch.testing.assert_close(exact[0], square, rtol=2e-3, atol=0)


@pytest.mark.parametrize("n_fixed", [0, 2])
@pytest.mark.parametrize("divergence", ["kullback_leibler", "itakura_saito"])
def test_the_start_by_least_squares_lowers_the_objective_and_keeps_zeros_and_fixed_spectra(
    divergence: Any, n_fixed: int
) -> None:
    X = torch.cat(
        [uniform(3, 15, 4) ** 3 @ uniform(3, 4, 100, seed=1) ** 3 + 0.01, uniform(1, 15, 100, seed=5)]
    )
    W, H = nmf.random_start(X, 4, torch.Generator().manual_seed(0))
    W[:, 3, 3], H[:, 1, :9] = 0, 0
    problem = Problem(X, W, H, divergence, 0.0, n_fixed)
    before = problem.objective()
    start_by_least_squares(problem)
    after = problem.objective()
    assert (after <= before).all()
    assert (after[:3] < 0.7 * before[:3]).all()
    assert not problem.dictionary[:, 3, 3].any()
    assert not problem.activations[:, 1, :9].any()
    assert torch.equal(problem.dictionary[..., :n_fixed], W[..., :n_fixed])
    # Factors that can't be improved on are kept.
    exact = Problem(W @ H, W, H, divergence, 0.0, 0)
    start_by_least_squares(exact)
    torch.testing.assert_close(exact.dictionary, W)
    torch.testing.assert_close(exact.activations, H)


@pytest.mark.parametrize(("sparsity", "fastest"), [(0.0, "accelerated"), (0.1, "multiplicative")])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_solver_that_takes_less_time_is_the_default(
    divergence: Any, sparsity: float, fastest: Any
) -> None:
    settings: Any = {"n_components": 3, "divergence": divergence, "n_iterations": 5, "tolerance": 0}
    settings["sparsity"] = sparsity
    X = uniform(2, 20, 25)
    assert torch.equal(nmf.factorise(X, **settings).model, nmf.factorise(X, solver=fastest, **settings).model)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_accelerated_updates_end_where_those_of_the_textbook_end(divergence: Any) -> None:
    # Each component alone in some bin and in some frame: there is one factorisation, whose objective is 0.
    W = torch.cat([torch.eye(3, dtype=torch.float64), uniform(9, 3, lowest=0.1)])[None] + 0.02
    H = torch.cat([torch.eye(3, dtype=torch.float64), uniform(3, 20, seed=1)], dim=1)[None] + 0.02
    start = nmf.random_start(W @ H, 3, torch.Generator().manual_seed(1))
    ends = [
        nmf.factorise_from(W @ H, *start, divergence=divergence, n_iterations=n, tolerance=0, solver=solver)
        for solver, n in (("multiplicative", 3000), ("accelerated", 1000))
    ]
    torch.testing.assert_close(ends[1].model, ends[0].model, atol=0.02, rtol=0)
    assert ends[1].objective <= 1.01 * ends[0].objective + 1e-9


def test_accelerated_activations_are_those_of_other_methods() -> None:
    X, dictionary = uniform(2, 20, 15, lowest=0.01), uniform(2, 20, 4, seed=1, lowest=0.01)
    settings: Any = {"n_iterations": 3000, "solver": "accelerated"}
    squares = nmf.activate(X, dictionary, divergence="frobenius", **settings)
    for item, frame in np.ndindex(2, 15):
        best, _ = nnls(dictionary[item].numpy(), X[item, :, frame].numpy())
        np.testing.assert_allclose(squares[item, :, frame].numpy(), best, atol=1e-6)
    accelerated = nmf.activate(X, dictionary, **settings)
    textbook = nmf.activate(X, dictionary, n_iterations=5000, solver="multiplicative")
    torch.testing.assert_close(accelerated, textbook, atol=1e-4, rtol=0)


@each_solver
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_objective_never_rises_in_single_precision(divergence: Any, solver: Any) -> None:
    X = torch.cat([spectrogram(0, 50), uniform(50, 12, 17, seed=2)]).float()
    settings: Any = {"divergence": divergence, "n_iterations": 1, "tolerance": 0, "solver": solver}
    found = nmf.factorise(X, n_components=5, **settings)
    for _ in range(10 if solver == "accelerated" else 60):
        before = found.objective
        found = nmf.factorise_from(X, found.dictionary, found.activations, **settings)
        assert (found.objective <= before * (1 + 1e-5)).all()


def test_divergences_are_those_of_the_papers() -> None:
    X, W, H = uniform(1, 4, 5, lowest=0.1), uniform(1, 4, 2, seed=1), uniform(1, 2, 5, seed=2)
    x, v = X[0].numpy(), (W @ H)[0].numpy()
    expected = {
        "frobenius": ((x - v) ** 2 / 2).sum(),
        "kullback_leibler": (x * np.log(x / v) - x + v).sum(),
        "itakura_saito": (x / v - np.log(x / v) - 1).sum(),
    }
    penalty = sum(np.linalg.norm(W[0, :, k]) * H[0, k].sum() for k in range(2)).item()
    for divergence, value in expected.items():
        assert nmf.objective(X, W, H, divergence=divergence).item() == pytest.approx(value, rel=1e-8)
        sparse = nmf.objective(X / X.mean(), W, H / X.mean(), divergence=divergence, sparsity=0.2).item()
        plain = nmf.objective(X / X.mean(), W, H / X.mean(), divergence=divergence).item()
        assert sparse - plain == pytest.approx(0.2 * penalty / X.mean().item(), rel=1e-8)


def sklearn(X: Tensor, W: Tensor, H: Tensor, divergence: str, **settings: Any) -> tuple[Tensor, Tensor, int]:
    """What scikit-learn makes of one matrix, from the same start."""
    given: dict[str, Any] = {"max_iter": 60, "tol": 0.0, "n_components": W.shape[-1], **settings}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it did not converge, which it was not meant to
        found = decomposition.non_negative_factorization(
            X.numpy(),
            W=W.numpy().copy(),
            H=H.numpy().copy(),
            init="custom",
            solver="mu",
            beta_loss=NAMES[divergence],
            **given,
        )
    return torch.from_numpy(found[0]), torch.from_numpy(found[1]), found[2]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_it_equals_scikit_learn_from_the_same_start(divergence: Any, seed: int) -> None:
    X = uniform(1, 30, 40, seed=seed, lowest=0.01)
    start = nmf.random_start(X, 6, torch.Generator().manual_seed(seed))
    found = nmf.factorise_from(
        X, *start, divergence=divergence, n_iterations=60, tolerance=0, solver="multiplicative"
    )
    W, H, _ = sklearn(X[0], start[0][0], start[1][0], divergence)
    torch.testing.assert_close(found.dictionary[0], W, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.activations[0], H, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("divergence", ["frobenius", "kullback_leibler"])
def test_it_equals_scikit_learn_where_there_are_zeros(divergence: Any) -> None:
    X = uniform(1, 30, 40)
    X[X < 0.3] = 0
    X[0, 4] = X[0, :, 7] = 0
    start = nmf.random_start(X, 6, torch.Generator().manual_seed(0))
    found = nmf.factorise_from(
        X, *start, divergence=divergence, n_iterations=60, tolerance=0, solver="multiplicative"
    )
    W, H, _ = sklearn(X[0], start[0][0], start[1][0], divergence)
    torch.testing.assert_close(found.model[0], W @ H, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.dictionary[0], W, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_it_stops_where_scikit_learn_stops(divergence: Any) -> None:
    X = torch.cat([uniform(1, 30, 40, lowest=0.01), uniform(1, 30, 3, lowest=0.01) @ uniform(1, 3, 40)])
    start = nmf.random_start(X, 6, torch.Generator().manual_seed(0))
    found = nmf.factorise_from(
        X, *start, divergence=divergence, n_iterations=400, tolerance=1e-3, solver="multiplicative"
    )
    for item in range(2):
        W, H, count = sklearn(X[item], start[0][item], start[1][item], divergence, tol=1e-3, max_iter=400)
        assert found.n_iterations[item] == count < 400
        torch.testing.assert_close(found.model[item], W @ H, atol=1e-5, rtol=1e-5)
    assert found.n_iterations[0] != found.n_iterations[1]


# Not for Kullback-Leibler, where scikit-learn adds the penalty anew in each iteration when it keeps H.
@pytest.mark.parametrize("divergence", ["frobenius", "itakura_saito"])
def test_with_a_given_dictionary_sparsity_is_that_of_scikit_learn(divergence: Any) -> None:
    X = uniform(1, 30, 40, lowest=0.01)
    X = X / X.mean()
    dictionary = uniform(1, 30, 6, seed=1)
    dictionary = dictionary / dictionary.norm(dim=1, keepdim=True)
    start = torch.full((1, 6, 40), (1 / 6) ** 0.5, dtype=torch.float64)  # it takes no other
    found = nmf.factorise_from(
        X, dictionary, start, divergence=divergence, n_iterations=60, tolerance=0, sparsity=0.5, n_fixed=6
    )
    assert torch.equal(found.dictionary, dictionary)
    # It keeps its second factor, so both are transposed; it multiplies alpha_W by the features, here bins.
    activations, _, _ = sklearn(
        X[0].mT.contiguous(),
        start[0].mT.contiguous(),
        dictionary[0].mT.contiguous(),
        divergence,
        update_H=False,
        alpha_W=0.5 / 30,
        l1_ratio=1.0,
    )
    torch.testing.assert_close(found.activations[0], activations.mT, atol=1e-5, rtol=1e-5)
    plain = nmf.factorise_from(
        X,
        dictionary,
        start,
        divergence=divergence,
        n_iterations=60,
        tolerance=0,
        n_fixed=6,
        solver="multiplicative",
    )
    assert found.activations.sum() < 0.98 * plain.activations.sum()


def test_a_sparse_answer_is_the_minimum_that_another_method_finds() -> None:
    X = uniform(1, 10, 4, lowest=0.01)
    X = X / X.mean()
    dictionary = uniform(1, 10, 3, seed=1)
    norms = dictionary[0].norm(dim=0).numpy()
    found = nmf.activate(X, dictionary, n_iterations=5000, sparsity=0.5)
    x, w = X[0].numpy(), dictionary[0].numpy()

    def penalised(h: np.ndarray) -> tuple[float, np.ndarray]:
        h = h.reshape(3, 4)
        v = w @ h + 1e-10
        value = (x * np.log(x / v) - x + v).sum() + 0.5 * (norms[:, None] * h).sum()
        return value, (w.T @ (1 - x / v) + 0.5 * norms[:, None]).ravel()

    best = minimize(penalised, np.full(12, 0.5), jac=True, bounds=[(0, None)] * 12, method="L-BFGS-B")
    reached = nmf.objective(X, dictionary, found, sparsity=0.5).item()
    assert reached == pytest.approx(best.fun, rel=1e-6)
    np.testing.assert_allclose(found[0].numpy().ravel(), best.x, atol=1e-3)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_penalty_does_not_drive_the_level_into_the_dictionary(divergence: Any) -> None:
    X = uniform(1, 30, 40, lowest=0.01)
    W, H = nmf.random_start(X, 6, torch.Generator().manual_seed(0))
    settings: Any = {"divergence": divergence, "n_iterations": 50, "tolerance": 0, "sparsity": 0.5}
    one = nmf.factorise_from(X, W, H, **settings)
    other = nmf.factorise_from(X, 100 * W, H / 100, **settings)
    torch.testing.assert_close(other.model, one.model)
    torch.testing.assert_close(other.objective, one.objective)


@each_solver
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_items_of_a_batch_are_independent(divergence: Any, solver: Any) -> None:
    X = torch.cat([uniform(4, 20, 25), 1e4 * spectrogram(4, 3, 20, 25)])
    start = nmf.random_start(X, 3, torch.Generator().manual_seed(0))
    settings: Any = {
        "divergence": divergence,
        "n_iterations": 100,
        "tolerance": 1e-3,
        "solver": solver,
    }
    together = nmf.factorise_from(X, *start, **settings)
    for item in range(7):
        alone = nmf.factorise_from(X[item : item + 1], *(each[item : item + 1] for each in start), **settings)
        torch.testing.assert_close(together.model[item], alone.model[0])
        assert together.n_iterations[item] == alone.n_iterations[0]


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("together", [(1, 2), (1, 3), (4, 1), (9, 1), (2, 4)])
def test_splitting_items_and_frames_changes_nothing(
    divergence: Any, together: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    X = spectrogram(6, 9, 20, 25)
    settings: Any = {"n_components": 3, "divergence": divergence, "n_iterations": 20, "sparsity": 0.1}
    found = []
    for size in ((9, 1), together):
        monkeypatch.setattr(nmf_iterations, "cache_parts", lambda X, size=size: size)
        found.append(nmf.factorise(X, **settings))
    torch.testing.assert_close(found[1].dictionary, found[0].dictionary)
    torch.testing.assert_close(found[1].activations, found[0].activations)
    torch.testing.assert_close(found[1].objective, found[0].objective)


def test_large_items_are_split_and_small_ones_grouped() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert nmf_iterations.cache_parts(torch.zeros(16, 513, 628)) == (2, 1)
        assert nmf_iterations.cache_parts(torch.zeros(1, 513, 628)) == (1, 2)
        assert nmf_iterations.cache_parts(torch.zeros(16, 10, 10)) == (16, 1)
        assert nmf_iterations.cache_parts(torch.zeros(1, 600_000, 1)) == (1, 1)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("sparsity", "dtype"),
    # Accelerated and multiplicative updates; the former may amplify errors of rounding.
    [(0.0, torch.float64), (0.1, torch.float32)],
)
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_model_follows_the_level(divergence: Any, sparsity: float, dtype: torch.dtype) -> None:
    X = uniform(1, 20, 25, lowest=0.01).to(dtype)
    one = nmf.factorise(X, n_components=3, divergence=divergence, sparsity=sparsity)
    for gain in (1e-6, 1e6):
        other = nmf.factorise(gain * X, n_components=3, divergence=divergence, sparsity=sparsity)
        torch.testing.assert_close(other.model, gain * one.model, rtol=1e-3, atol=1e-3 * gain)
        expected = one.objective * gain ** nmf.DEGREE[divergence]
        torch.testing.assert_close(other.objective, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("start", ["random", "nndsvd"])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_a_low_rank_matrix_is_recovered(divergence: Any, start: Any) -> None:
    # Each component alone in some bin and in some frame: then the factors are unique but for order and level.
    W = torch.cat([torch.eye(3, dtype=torch.float64), uniform(9, 3)])[None]
    H = torch.cat([torch.eye(3, dtype=torch.float64), uniform(3, 20, seed=1)], dim=1)[None]
    X = W @ H + 1e-9
    found = nmf.factorise(
        X, n_components=3, divergence=divergence, start=start, n_restarts=3, n_iterations=300, tolerance=0
    )
    torch.testing.assert_close(found.model, X, atol=2e-2, rtol=0)
    norm = found.dictionary[0] / found.dictionary[0].norm(dim=0)
    cosines = norm.mT @ (W[0] / W[0].norm(dim=0))
    assert cosines.amax(dim=0).min() > 0.99


def test_more_restarts_are_not_worse_and_the_seed_decides() -> None:
    X = spectrogram(5, 6, 20, 25)
    few, many = (nmf.factorise(X, n_components=4, n_restarts=n, n_iterations=50) for n in (1, 6))
    assert (many.objective <= few.objective).all()
    assert (many.objective < few.objective).any()
    assert torch.equal(nmf.factorise(X, n_components=4, n_iterations=50).model, few.model)
    assert not torch.equal(nmf.factorise(X, n_components=4, n_iterations=50, seed=1).model, few.model)


def test_nndsvd_is_that_of_scikit_learn() -> None:
    X = uniform(1, 20, 25)
    begin = decomposition.NMF(
        n_components=5, init="nndsvda", solver="mu", max_iter=1, tol=0.0, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        W = begin.fit_transform(X[0].numpy())
    found = nmf.factorise_from(
        X, *nmf.nndsvd(X, 5), divergence="frobenius", n_iterations=1, tolerance=0, solver="multiplicative"
    )
    torch.testing.assert_close(found.dictionary[0], torch.from_numpy(W), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        found.activations[0], torch.from_numpy(begin.components_), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_fixed_components_stay_and_the_others_learn(divergence: Any) -> None:
    known, new = uniform(1, 20, 2, lowest=0.01), uniform(1, 20, 1, seed=9, lowest=0.01)
    X = torch.cat([known, new], dim=2) @ uniform(1, 3, 60, seed=1) ** 4
    start, activations = nmf.random_start(X, 3, torch.Generator().manual_seed(0))
    start[:, :, :2] = known
    found = nmf.factorise_from(
        X, start, activations, divergence=divergence, n_iterations=2000, tolerance=0, n_fixed=2
    )
    assert torch.equal(found.dictionary[:, :, :2], known)
    torch.testing.assert_close(found.model, X, atol=0.05, rtol=0.1)
    assert torch.cosine_similarity(found.dictionary[0, :, 2], new[0, :, 0], dim=0) > 0.97


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_activations_of_a_known_dictionary_are_found(divergence: Any) -> None:
    dictionary = torch.cat([torch.eye(4, dtype=torch.float64), uniform(8, 4)])[None] + 0.01
    truth = uniform(1, 4, 30, seed=3) * (uniform(1, 4, 30, seed=4) > 0.3)
    truth[0, :, 6] = 0
    found = nmf.activate(dictionary @ truth, dictionary, divergence=divergence, n_iterations=3000)
    torch.testing.assert_close(found, truth, atol=2e-3, rtol=0)


def test_small_numbers_do_not_become_denormal() -> None:
    X = torch.zeros(1, 20, 30)
    X[0, 3, 4] = 1.0  # all else is driven to zero
    found = nmf.factorise(X, n_components=3, divergence="frobenius", n_iterations=300, tolerance=0)
    for factor in (found.dictionary, found.activations):
        assert factor.isfinite().all()
        assert ((factor == 0) | (factor > 1e-20)).all()
    torch.testing.assert_close(found.model, X)


def test_a_component_of_zeros_does_no_harm() -> None:
    X = uniform(1, 20, 30).float()
    W, H = nmf.random_start(X, 4, torch.Generator().manual_seed(0))
    W[0, 5], W[0, :, 1], H[0, 2] = 0, 0, 0
    for divergence in DIVERGENCES:
        found = nmf.factorise_from(X, W, H, divergence=divergence, n_iterations=30)
        assert found.model.isfinite().all()
        assert not found.model[0, 5].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_components": 0}, "n_components=0"),
        ({"n_restarts": 0}, "n_restarts=0"),
        ({"start": "nndsvd", "n_components": 9}, "n_components=9 for 8 bins and 10 frames"),
        ({"sparsity": -0.1}, "sparsity=-0.1"),
        ({"X": -uniform(1, 8, 10)}, "X has values from -0.99"),
        ({"X": torch.full((1, 8, 10), float("nan"))}, "X has values from nan to nan"),
        ({"X": torch.zeros(1, 8, 0)}, "it has no entries"),
    ],
)
def test_invalid_matrices_are_refused(change: dict[str, Any], message: str) -> None:
    settings: Any = {"X": uniform(1, 8, 10), "n_components": 2, "n_iterations": 1, **change}
    with pytest.raises(SepnetError, match=message):
        nmf.factorise(settings.pop("X"), **{"divergence": "frobenius", **settings})


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_choosing_groups_never_raises_its_objective(divergence: Any) -> None:
    X = torch.cat([spectrogram(seed, 1, 20, 30) for seed in range(20)])
    dictionary = uniform(20, 20, 12, seed=3)
    level = X.mean(dim=(1, 2))
    for penalty in (0.01, 0.3):
        values = []
        for count in range(0, 60, 3):
            H = nmf.activate_groups(
                X, dictionary, 4, penalty=penalty, divergence=divergence, n_iterations=count
            )
            totals = H.reshape(20, 4, -1).sum(dim=2) / level[:, None]
            if count == 0:
                smallest = 1e-3 * totals.mean(dim=1, keepdim=True)
            log = penalty * X[0].numel() * torch.log(smallest + totals).sum(dim=1)
            unit = nmf.objective(X, dictionary, H, divergence=divergence) / level ** nmf.DEGREE[divergence]
            values.append(unit + log)
        falls = torch.stack(values).diff(dim=0)
        assert (falls <= 1e-9 * values[0].abs()).all()
        assert (falls[0] < 0).all()


def test_block_sparsity_chooses_the_groups_that_are_present() -> None:
    dictionary = uniform(1, 40, 24, seed=1) ** 4  # eight groups of three
    truth = torch.zeros(1, 24, 50, dtype=torch.float64)
    truth[:, 6:9], truth[:, 15:18] = uniform(1, 3, 50), uniform(1, 3, 50, seed=2)
    noisy = (dictionary @ truth) * (0.7 + 0.6 * uniform(1, 40, 50, seed=5))
    found = [nmf.activate_groups(noisy, dictionary, 8, penalty=penalty) for penalty in (0.0, 0.1)]
    free, sparse = (each.reshape(8, -1).sum(dim=1) / each.sum() for each in found)
    assert set(sparse.topk(2).indices.tolist()) == {2, 5}
    assert sparse[[0, 1, 3, 4, 6, 7]].sum() < 0.01 < free[[0, 1, 3, 4, 6, 7]].sum()
    with pytest.raises(SepnetError, match="n_components=24 has to be a multiple of n_groups=5"):
        nmf.activate_groups(noisy, dictionary, 5, penalty=0.1)


def test_gains_are_shares_of_the_power_of_the_models() -> None:
    W, H = uniform(10, 5), uniform(5, 12, seed=1)
    H[:, 3] = 0
    sources = torch.tensor([0, 2, 0, 1, 2])
    parts = torch.stack([sum(W[:, k, None] * H[k] for k in ks) for ks in ((0, 2), (3,), (1, 4))])
    for exponent in (1.0, 2.0):
        expected = parts**exponent / (parts**exponent).sum(dim=0)
        expected[:, :, 3] = 1 / 3
        torch.testing.assert_close(nmf.source_masks(W, H, sources, 3, exponent), expected)
    tiny = nmf.source_masks(1e-30 * W.float(), 1e-8 * H.float(), sources, 3, 2.0)
    torch.testing.assert_close(tiny.double(), nmf.source_masks(W, H, sources, 3, 2.0), atol=1e-4, rtol=1e-4)
    assert not nmf.source_masks(W, H, torch.zeros(5, dtype=torch.int64), 2)[
        1, :, :3
    ].any()  # a source of nothing


# ---------------------------------------------------------------- in blocks


@pytest.mark.parametrize(("window", "hop"), [(64, 16), (60, 16), (32, 32)])
@pytest.mark.parametrize("time", [1, 50, 777, 1000])
def test_blocks_equal_the_whole(window: int, hop: int, time: int) -> None:
    stft = STFT(window_samples=window, hop_samples=hop, window="hann" if window > hop else "boxcar")
    signal = uniform(time).float() - 0.5
    bins = torch.linspace(0, 1, stft.n_bins)

    def mask_of(spectrogram: Tensor) -> Tensor:
        # Of each frame by itself, and not linear.
        first = torch.sigmoid(spectrogram.abs().sum(dim=0) - 3 * bins[:, None])
        return torch.stack([first, 1 - first])

    whole = stft.invert(mask_of(stft.spectrogram(signal)) * stft.spectrogram(signal), time)
    for block in (1, 100, 250, 5000):
        parts = mask_in_blocks(signal, stft, mask_of, block_samples=block)
        torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-5)


def test_an_excerpt_covers_a_long_signal_evenly() -> None:
    stft = STFT(window_samples=64, hop_samples=16, window="hann")
    clock = torch.arange(100_000) / 100_000
    signal = torch.sin(2 * torch.pi * 3000 * clock + 8000 * torch.pi * clock**2)  # a rising tone
    short = excerpt_spectrogram(signal, stft, max_samples=10_000, piece_samples=1000)
    assert stft.n_frames(10_000) <= short.shape[1] <= stft.n_frames(10_000) + 80
    peaks = short.abs().argmax(dim=0)
    assert peaks.max() - peaks.min() >= 4  # from its beginning to its end
    assert torch.equal(
        excerpt_spectrogram(signal[:999], stft, max_samples=1000, piece_samples=100),
        stft.spectrogram(signal[:999]),
    )


# ---------------------------------------------------------------- blind separation


def notes(seed: int, shape: float, seconds: float = 4.0) -> Tensor:
    """An instrument (time,): short notes of many pitches whose k-th harmonic is k^shape strong."""
    generator = torch.Generator().manual_seed(seed)
    clock = torch.arange(round(seconds * RATE)) / RATE
    signal = torch.zeros(len(clock))
    for begin in torch.arange(0, seconds, 0.25).tolist():
        pitch = 110 * 2 ** (torch.randint(0, 20, (), generator=generator) / 12)
        active = (clock >= begin) & (clock < begin + 0.2)
        for k in range(1, int(RATE / 2 / pitch)):
            phase = 6.3 * torch.rand((), generator=generator)
            signal += active * k**shape * torch.sin(2 * torch.pi * k * pitch * clock + phase)
    return 0.1 * signal / signal.std()


def gain_db(separator: Any, references: Tensor, **hints: Any) -> float:
    """The mean SI-SDR improvement in the best order; in the order given, where it is labelled."""
    mixture = Mixture(references.sum(dim=0, keepdim=True), RATE, n_sources=len(references), **hints)
    separation = separator.separate(mixture.only(separator.info.needs))
    estimates = separation.sources
    torch.testing.assert_close(estimates.sum(dim=0), mixture.audio[0], atol=1e-6, rtol=1e-5)
    if separation.labels is None:
        order = best_permutation(pairwise(si_sdr, estimates[None], references[None]))
        estimates = permute(estimates[None], order)[0]
    return float(improvement(si_sdr, estimates, references, mixture.audio).mean())


def test_one_component_a_source_separates_sources_of_one_spectrum() -> None:
    clock = torch.arange(2 * RATE) / RATE
    tones = torch.stack([torch.sin(2 * torch.pi * hertz * clock) for hertz in (300.0, 1100.0, 2500.0)])
    levels = 0.5 + 0.5 * torch.sin(2 * torch.pi * torch.tensor([[1.0], [1.7], [2.3]]) * clock)
    for divergence, least in (("frobenius", 25), ("kullback_leibler", 25), ("itakura_saito", 10)):
        assert (
            gain_db(NMF(n_components=None, n_iterations=200, divergence=divergence), 0.1 * levels * tones)
            > least
        )


def test_components_are_grouped_by_timbre() -> None:
    dull, bright = notes(0, -2.5), notes(1, 0.3).roll(900)
    assert gain_db(NMF(n_components=30, features={"timbre": 1.0}), torch.stack([dull, bright])) > 8


def test_components_are_grouped_by_when_they_are_active() -> None:
    truth = torch.arange(12) % 2
    gates = torch.repeat_interleave(uniform(2, 10, seed=5) > 0.5, 30, dim=1)
    activations = (gates[truth] * uniform(12, 300, seed=6))[None].float()
    learnt = nmf.Factorisation(uniform(1, 129, 12).float(), activations, torch.empty(0), torch.empty(0))
    found = NMF(n_components=12, features={"activations": 1.0})._groups(learnt, 2, RATE, 128)
    assert torch.equal(found, truth) or torch.equal(found, 1 - truth)


def harmonic_spectra(hertz: list[float]) -> Tensor:
    """(bin, component): magnitudes of buzzes with tilts of all kinds, over a little noise."""
    clock = torch.arange(512) / RATE
    window = torch.hann_window(512)
    columns = []
    for number, fundamental in enumerate(hertz):
        orders = torch.arange(1, int(RATE / 2 / fundamental))[:, None]
        tilt = -2.0 * uniform(1, seed=number).float()
        phases = 6.3 * uniform(len(orders), 1, seed=number).float()
        buzz = (orders**tilt * torch.sin(2 * torch.pi * orders * fundamental * clock + phases)).sum(dim=0)
        columns.append(torch.fft.rfft(window * (buzz / buzz.std() + 0.01 * uniform(512, seed=number))).abs())
    return torch.stack(columns, dim=1).float()


def test_the_pitch_of_a_component_is_found() -> None:
    hertz = [82.0, 97.0, 110.0, 131.0, 160.0, 200.0, 246.0, 301.0]
    found, clarity = pitch(harmonic_spectra(hertz), torch.ones(8, 3), RATE, 128)
    expected = torch.tensor(hertz).log2()
    assert (found[:, 0] - expected).abs().median() < 1 / 24  # octaves: half a semitone
    assert ((found[:, 0] - expected).abs() < 1 / 12).sum() >= 7
    hiss = torch.fft.rfft(torch.hann_window(512) * (uniform(30, 512).float() - 0.5)).abs().mT
    assert clarity.min() > pitch(hiss, torch.ones(30, 3), RATE, 128)[1].median()
    assert not pitch(torch.zeros(257, 2), torch.ones(2, 3), RATE, 128)[1].any()


def test_components_are_grouped_by_pitch() -> None:
    hertz = [90.0, 210.0, 95.0, 250.0, 105.0, 230.0, 120.0, 260.0]
    spectra = harmonic_spectra(hertz)[None]
    learnt = nmf.Factorisation(spectra, uniform(1, 8, 50).float(), torch.empty(0), torch.empty(0))
    found = NMF(n_components=8, features={"pitch": 1.0})._groups(learnt, 2, RATE, 128)
    truth = torch.arange(8) % 2
    assert torch.equal(found, truth) or torch.equal(found, 1 - truth)


def test_a_long_mixture_keeps_its_sources_apart_in_all_blocks() -> None:
    references = torch.stack([notes(0, -2.5, 12.0), notes(1, 0.3, 12.0).roll(900)])
    settings: Any = {
        "n_components": 20,
        "features": {"timbre": 1.0},
        "learn_seconds": 3.0,
        "n_iterations": 60,
    }
    mixture = Mixture(references.sum(dim=0, keepdim=True), RATE, n_sources=2)
    short, long = (NMF(**settings, block_seconds=s).separate(mixture).sources for s in (1.0, 7.0))
    torch.testing.assert_close(short, long, atol=1e-5, rtol=0)  # where the blocks end does not matter
    for part in torch.arange(12 * RATE).chunk(4):
        scores = pairwise(si_sdr, short[None, :, part], references[None, :, part])
        if part[0] == 0:
            first = best_permutation(scores)
        assert torch.equal(best_permutation(scores), first)
    assert gain_db(NMF(**settings), references) > 5


def test_memory_does_not_grow_with_the_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    frames: list[int] = []
    spectrogram_of = FastSTFT.spectrogram

    def watched(self: FastSTFT, signal: Tensor) -> Tensor:
        found = spectrogram_of(self, signal)
        frames.append(found.shape[-1])
        return found

    monkeypatch.setattr(FastSTFT, "spectrogram", watched)
    model = NMF(n_components=4, n_iterations=2, learn_seconds=6.0, block_seconds=2.0)
    model.separate(Mixture(0.1 * uniform(1, 60 * RATE).float(), RATE, n_sources=2))
    assert len(frames) >= 30
    assert max(frames) * 0.016 < 6  # seconds


def test_more_sources_than_components_are_refused() -> None:
    mixture = Mixture(0.1 * uniform(1, 2000).float(), RATE, n_sources=5)
    with pytest.raises(CannotSeparate, match="5 sources can't share 4 components"):
        NMF(n_components=4).separate(mixture)
    assert NMF(n_components=5, n_iterations=3).separate(mixture).sources.shape == (5, 2000)
    for wrong in ({"mask_exponent": 0.0}, {"window_seconds": -1.0}, {"learn_seconds": 0.0}):
        with pytest.raises(SepnetError, match="have to be positive"):
            NMF(**wrong)
    for features in ({}, {"colour": 1.0}, {"pitch": 0.0}):
        with pytest.raises(SepnetError, match="one or more of pitch, bands, timbre, activations"):
            NMF(features=features)


# ---------------------------------------------------------------- dictionaries that are fitted


SHAPES = {"dull": -2.5, "bright": 0.5, "plain": -1.0, "hollow": -1.7, "odd": 0.0}


def clips(names: Any = SHAPES, seconds: float = 4.0) -> list[Query]:
    """Notes of each instrument, in two clips."""
    return [
        Query(notes(10 * number + take, SHAPES[name], seconds), RATE, name)
        for number, name in enumerate(SHAPES)
        for take in (1, 2)
        if name in names
    ]


def fitted(**settings: Any) -> SupervisedNMF:
    model = SupervisedNMF(**{"n_components": 25, "n_iterations": 60, **settings})
    model.fit(clips())
    return model


def test_labelled_dictionaries_give_their_own_sources_in_order() -> None:
    references = torch.stack([notes(101, SHAPES["bright"]), notes(102, SHAPES["dull"]).roll(900)])
    mixture = Mixture(references.sum(dim=0, keepdim=True), RATE, n_sources=2)
    for labels in (("bright", "dull"), ("dull", "bright")):
        model = fitted(n_groups=2, labels=labels)
        assert model.separate(mixture).labels == labels
        ordered = references if labels[0] == "bright" else references.flip(0)
        assert gain_db(model, ordered) > 8  # in the order given


def test_the_speakers_with_the_most_audio_are_learnt() -> None:
    training_clips = [*clips(), Query(notes(70, -1.0), RATE, "plain"), Query(notes(71, 0.5), RATE, "bright")]
    figures = SupervisedNMF(n_groups=2, n_components=3, n_iterations=3, fit_seconds=10.0).fit(training_clips)
    assert figures == {"groups": 2.0, "seconds_of_audio": 20.0}
    assert SupervisedNMF(n_groups=2, n_components=3)._choose(training_clips) == ["bright", "plain"]
    assert SupervisedNMF(n_groups=3, n_components=3)._choose(training_clips) == ["bright", "plain", "dull"]


def test_the_groups_that_are_in_a_mixture_are_chosen() -> None:
    model = fitted(n_groups=5, labels=tuple(SHAPES), block_sparsity=0.02)
    references = torch.stack([notes(103, SHAPES["dull"]), notes(104, SHAPES["odd"]).roll(900)])
    X = model._magnitudes(references.sum(dim=0))[None]
    assert model._present(X, 2).tolist() == [0, 4]
    mixture = Mixture(references.sum(dim=0, keepdim=True), RATE, n_sources=2)
    assert model.separate(mixture).labels is None  # not all five
    assert gain_db(model, references) > 6


def test_the_unknown_source_is_learnt_from_the_mixture() -> None:
    clock = torch.arange(4 * RATE) / RATE
    known = notes(105, SHAPES["dull"])
    unknown = 0.1 * (torch.sin(2 * torch.pi * 3100 * clock) + torch.sin(2 * torch.pi * 2700 * clock))
    unknown *= (clock % 0.7) < 0.4
    model = fitted(n_groups=1, labels=("dull",), unknown=True, n_unknown_components=3)
    mixture = Mixture((known + unknown)[None], RATE, n_sources=2)
    assert model.separate(mixture).labels == ("dull", "unknown")
    assert gain_db(model, torch.stack([known, unknown])) > 4
    with pytest.raises(CannotSeparate, match="one unknown source, so it separates 2 to 2 sources, not 3"):
        model.separate(replace(mixture, n_sources=3))


def test_fitting_ignores_the_level_of_a_clip() -> None:
    one, other = (SupervisedNMF(n_groups=2, n_components=4, n_iterations=20) for _ in range(2))
    one.fit(clips(("dull", "bright")))
    other.fit(
        [
            replace(clip, audio=clip.audio * 0.5**number)
            for number, clip in enumerate(clips(("dull", "bright")))
        ]
    )
    torch.testing.assert_close(one.dictionaries, other.dictionaries, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "change", "message"),
    [
        ({}, iter, "not an iterator"),
        ({"n_groups": 6}, list, "6 groups can't be learnt from 5 speakers: lower model.n_groups"),
        ({"labels": ("dull", "drums")}, list, "no clips of drums, but of 5 labels .*model.labels"),
        ({"sample_rate": 16000}, list, "at 8000 Hz, but the dictionaries are for 16000 Hz"),
        (
            {"labels": ("dull", "odd")},
            lambda all_clips: [replace(clip, audio=0 * clip.audio) for clip in all_clips],
            "all clips of 'dull' are silent",
        ),
    ],
)
def test_clips_that_cannot_be_learnt_from_are_refused(
    settings: dict[str, Any], change: Any, message: str
) -> None:
    model = SupervisedNMF(**{"n_groups": 2, "n_components": 3, "n_iterations": 2, **settings})
    with pytest.raises(SepnetError, match=message):
        model.fit(change(clips(seconds=0.5)))


def test_settings_out_of_range_are_refused() -> None:
    for wrong, message in (
        ({"n_groups": 0}, "n_groups=0: give positive"),
        ({"labels": ("a", "a")}, "2 groups can't have the labels a, a"),
        ({"labels": ("a",)}, "2 groups can't have the labels a"),
    ):
        with pytest.raises(SepnetError, match=message):
            SupervisedNMF(**{"n_groups": 2, "n_components": 3, **wrong})
    with pytest.raises(CannotSeparate, match="2 dictionaries, so it separates 1 to 2 sources, not 3"):
        SupervisedNMF(n_groups=2, n_components=3).separate(Mixture(torch.ones(1, 99), RATE, n_sources=3))


# ---------------------------------------------------------------- scripts/train.py


WORDS = (
    *(word for word in TINY if not word.startswith("model.")),
    "model=nmf_supervised",
    "model.n_groups=3",
    "model.n_components=4",
    "model.n_iterations=5",
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("nmf") / "wavs", seconds=0.5)


def test_it_is_trained_like_any_other_model(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = compose(settings(corpus, tmp_path, "data.valid.n_mixtures=3", base=WORDS))
    train(config)
    folder = only_run(tmp_path)
    names = {"config.yaml", "model.safetensors", "metrics.json", "provenance.json", "README.md"}
    assert {path.name for path in folder.iterdir()} == names
    model = sepnet.load(folder)
    assert isinstance(model, FittedSeparator)
    data = artifact.build(config.data)
    mixtures = list(data.valid())
    gains = [float(si_sdr_gain(model, mixture)) for mixture in mixtures]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["si_sdri_db"] == pytest.approx(sum(gains) / 3, abs=1e-4)
    assert metrics["n_valid"] == 3
    assert metrics["groups"] == 3
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["data_fingerprint"] == data.fingerprint
    message = capsys.readouterr().out
    assert f"SI-SDRi {metrics['si_sdri_db']:.2f} dB on 3 validation mixtures" in message
    # What it learnt is what the same model learns from the same clips.
    again = artifact.build(config.model)
    again.fit(data.clips())
    assert torch.equal(again.dictionaries, model.dictionaries)
    assert not torch.equal(again.dictionaries, artifact.build(config.model).dictionaries)
    assert newest_run(tmp_path / "runs") == folder
    separation = sepnet.separate(mixtures[0].audio, RATE, model=folder, n_sources=2)
    assert separation.sources.shape == (2, mixtures[0].audio.shape[1])


def test_the_given_number_of_validation_mixtures_is_scored(corpus: Path, tmp_path: Path) -> None:
    train(compose(settings(corpus, tmp_path, "data.valid.n_mixtures=3", "loader.n_valid=1", base=WORDS)))
    assert json.loads((only_run(tmp_path) / "metrics.json").read_text())["n_valid"] == 1


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("resume=true", "SupervisedNMF learns all at once, so there is nothing to go on with"),
        ("model.n_groups=9", "9 groups can't be learnt from 4 speakers"),
        ("model.sample_rate=16000", "data.sample_rate is 8000 Hz, but model.sample_rate 16000 Hz"),
        ("data.valid.n_sources=4", "can't|are needed|separates"),
        ("loader.n_valid=0", "loader.n_valid is 0: give a whole number from 1"),
        ("model.labels=[drums, bass, voice]", "no clips of drums, bass, voice"),
    ],
)
def test_a_refused_training_leaves_no_files(corpus: Path, tmp_path: Path, word: str, message: str) -> None:
    with pytest.raises(SepnetError, match=message):
        train(compose(settings(corpus, tmp_path, word, base=WORDS)))
    assert not list(tmp_path.glob("runs/*"))


def test_ctrl_c_prints_one_sentence(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> dict[str, float]:
        raise KeyboardInterrupt

    monkeypatch.setattr(SupervisedNMF, "fit", interrupted)
    with pytest.raises(SystemExit) as ended:
        train(compose(settings(corpus, tmp_path, base=WORDS)))
    assert ended.value.code == 130
    assert "nothing is saved" in capsys.readouterr().err
    assert not list(tmp_path.glob("runs/*"))


def test_it_has_to_be_trained_first() -> None:
    with pytest.raises(SepnetError, match=r"has to be trained .*sepnet train model=nmf_supervised"):
        sepnet.load("nmf_supervised")


def test_clips_are_labelled_by_class_or_speaker(corpus: Path, tmp_path: Path) -> None:
    data = artifact.build(compose(settings(corpus, tmp_path, base=WORDS)).data)
    found = data.clips()
    assert len(list(found)) == len(list(found)) == len(found) == 8
    assert {clip.label for clip in found} == {f"train-{number}" for number in range(4)}
    assert all(clip.sample_rate == RATE and clip.audio.shape == (RATE // 2,) for clip in found)
