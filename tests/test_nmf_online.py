"""The laws of online NMF: activations, the bound that the dictionary descends, and what it learns."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.decomposition import non_negative_factorization
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from sepnet.dsp.nmf_online import FLOOR, activate, frame_statistics, update_dictionary
from sepnet.dsp.nmf_updates import Divergence

DIVERGENCES: tuple[Divergence, ...] = ("kullback_leibler", "itakura_saito")
every_divergence = pytest.mark.parametrize("divergence", DIVERGENCES)
N_BINS, N_COMPONENTS = 24, 4


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.05 + torch.rand(*shape, generator=generator, dtype=torch.float64).square()


def dictionary(seed: int = 0) -> Tensor:
    W = random(N_BINS, N_COMPONENTS, seed=seed)
    return W / W.sum(dim=0)


def frames(n_frames: int, seed: int = 1) -> Tensor:
    """(frame, bin), of mean 1, in which some components sound."""
    X = random(n_frames, N_COMPONENTS, seed=seed).square() @ dictionary(seed=9).T
    X = X * (0.8 + 0.4 * random(n_frames, N_BINS, seed=seed + 1))
    return X / X.mean(dim=1, keepdim=True)


def distance(X: Tensor, V: Tensor, divergence: Divergence) -> float:
    """The divergence with the floor in both, from its definition."""
    X, V = X + FLOOR, V + FLOOR
    if divergence == "kullback_leibler":
        return float((X * (X / V).log() - X + V).sum())
    return float((X / V - (X / V).log() - 1).sum())


def bound(A: Tensor, B: Tensor, W: Tensor, divergence: Divergence) -> float:
    """Equation (1), as the docstring of the module has it."""
    return float((B * W - A * W.log()).sum() if divergence == "kullback_leibler" else (A / W + B * W).sum())


@every_divergence
def test_activations_are_the_minimum_that_another_method_finds(divergence: Divergence) -> None:
    W, X = dictionary(), frames(3)
    found = activate(X, W, divergence, 3000)
    for x, h in zip(X, found, strict=True):

        def objective(logs: np.ndarray, x: Tensor = x) -> float:
            return distance(x, W @ torch.from_numpy(np.exp(logs)), divergence)

        start = np.log(np.full(N_COMPONENTS, float(x.sum()) / N_COMPONENTS))
        least = minimize(objective, start, method="L-BFGS-B", options={"maxiter": 2000}).fun
        assert distance(x, W @ h, divergence) == pytest.approx(least, rel=1e-4)


@every_divergence
def test_iterations_are_those_of_scikit_learn(divergence: Divergence) -> None:
    W, X = dictionary(), frames(5)
    names = {"kullback_leibler": "kullback-leibler", "itakura_saito": "itakura-saito"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs, *_ = non_negative_factorization(
            X.numpy(),
            W=activate(X, W, divergence, 0).numpy().copy(),
            H=W.T.numpy().copy(),
            n_components=N_COMPONENTS,
            init="custom",
            update_H=False,
            solver="mu",
            beta_loss=names[divergence],
            tol=0.0,
            max_iter=30,
        )
    np.testing.assert_allclose(activate(X, W, divergence, 30), theirs, rtol=1e-3)


@every_divergence
def test_each_iteration_lowers_the_divergence(divergence: Divergence) -> None:
    W, X = dictionary(), frames(5)
    distances = [
        [distance(x, W @ h, divergence) for x, h in zip(X, activate(X, W, divergence, n), strict=True)]
        for n in range(12)
    ]
    assert (np.diff(distances, axis=0) < 0).all()


@every_divergence
def test_frames_are_independent(divergence: Divergence) -> None:
    W, X = dictionary(), frames(6)
    alone = torch.cat([activate(x[None], W, divergence, 10) for x in X])
    torch.testing.assert_close(activate(X, W, divergence, 10), alone, rtol=1e-12, atol=1e-14)


@every_divergence
def test_the_sums_of_the_frames_are_a_tight_bound(divergence: Divergence) -> None:
    """For any other dictionary the distances rise by no more than (1) does."""
    W, X = dictionary(), frames(8)
    H = activate(X, W, divergence, 10)
    added = [frame_statistics(x, W, h, divergence) for x, h in zip(X, H, strict=True)]
    A, B = (sum(terms) for terms in zip(*added, strict=True))

    def total(other: Tensor) -> float:
        return sum(distance(x, other @ h, divergence) for x, h in zip(X, H, strict=True))

    for seed in range(20):
        other = W * (0.3 + 2 * random(N_BINS, N_COMPONENTS, seed=100 + seed))
        rise = bound(A, B, other, divergence) - bound(A, B, W, divergence)
        assert total(other) - total(W) <= rise + 1e-9
    near = W * (1 + 1e-5 * random(N_BINS, N_COMPONENTS, seed=7))
    rise = bound(A, B, near, divergence) - bound(A, B, W, divergence)
    assert total(near) - total(W) == pytest.approx(rise, rel=1e-3)


@every_divergence
def test_the_dictionary_is_the_minimum_of_the_bound(divergence: Divergence) -> None:
    A, B = random(N_BINS, N_COMPONENTS, seed=3), random(N_BINS, N_COMPONENTS, seed=4)
    W, in_its_unit, weights = update_dictionary(A, B, divergence)
    torch.testing.assert_close(W.sum(dim=0), torch.ones(N_COMPONENTS, dtype=torch.float64))
    least = bound(in_its_unit, weights, W, divergence)
    for seed in range(20):
        other = W * (0.9 + 0.2 * random(N_BINS, N_COMPONENTS, seed=seed))
        assert bound(in_its_unit, weights, other, divergence) > least
    again, *_ = update_dictionary(in_its_unit, weights, divergence)
    torch.testing.assert_close(again, W)


@every_divergence
def test_the_dictionary_learns_the_spectra_of_the_frames(divergence: Divergence) -> None:
    """Each frame once, as it comes in: later ones are described far better than the first."""
    n_frames, kept = 1500, 0.99
    X = random(n_frames, N_COMPONENTS, seed=2).pow(4) @ dictionary(seed=9).T
    X = X / X.mean(dim=1, keepdim=True)
    W = dictionary(seed=5)
    B = torch.full_like(W, 5.0 * N_BINS / N_COMPONENTS)
    A = (W.square() if divergence == "itakura_saito" else W) * B
    distances = []
    for x in X:
        (h,) = activate(x[None], W, divergence, 20)
        distances.append(distance(x, W @ h, divergence))
        a, b = frame_statistics(x, W, h, divergence)
        W, A, B = update_dictionary(kept * A + a, kept * B + b, divergence)
    assert np.mean(distances[-100:]) < 0.2 * np.mean(distances[:20])
