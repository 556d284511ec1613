"""Non-negative matrix factorisation: its updates, and the separators that are made of it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn import decomposition
from torch import Tensor

from sepnet.dsp import nmf
from sepnet.types import SepnetError

DIVERGENCES = ("frobenius", "kullback_leibler", "itakura_saito")
NAMES = {
    "frobenius": "frobenius",
    "kullback_leibler": "kullback-leibler",
    "itakura_saito": "itakura-saito",
}


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


@pytest.mark.parametrize("sparsity", [0.0, 0.3])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_objective_never_rises(divergence: Any, sparsity: float) -> None:
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
    for _ in range(40):
        found = nmf.descend(
            X,
            found.dictionary,
            found.activations,
            divergence=divergence,
            n_iterations=1,
            tolerance=0,
            sparsity=sparsity,
        )
        assert found.objective.isfinite().all()
        assert (found.objective <= before * (1 + 1e-12) + 1e-12 * first).all()
        before = found.objective
    assert (before[:100] < 0.7 * first[:100]).all()
    assert min(found.dictionary.min(), found.activations.min()) >= 0


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_objective_never_rises_in_single_precision(divergence: Any) -> None:
    X = torch.cat([spectrogram(0, 50), uniform(50, 12, 17, seed=2)]).float()
    found = nmf.factorise(X, n_components=5, divergence=divergence, n_iterations=1, tolerance=0)
    for _ in range(60):
        before = found.objective
        found = nmf.descend(
            X, found.dictionary, found.activations, divergence=divergence, n_iterations=1, tolerance=0
        )
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
    found = nmf.descend(X, *start, divergence=divergence, n_iterations=60, tolerance=0)
    W, H, _ = sklearn(X[0], start[0][0], start[1][0], divergence)
    torch.testing.assert_close(found.dictionary[0], W, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.activations[0], H, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("divergence", ["frobenius", "kullback_leibler"])
def test_it_equals_scikit_learn_where_there_are_zeros(divergence: Any) -> None:
    X = uniform(1, 30, 40)
    X[X < 0.3] = 0
    X[0, 4] = X[0, :, 7] = 0
    start = nmf.random_start(X, 6, torch.Generator().manual_seed(0))
    found = nmf.descend(X, *start, divergence=divergence, n_iterations=60, tolerance=0)
    W, H, _ = sklearn(X[0], start[0][0], start[1][0], divergence)
    torch.testing.assert_close(found.model[0], W @ H, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.dictionary[0], W, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_it_stops_where_scikit_learn_stops(divergence: Any) -> None:
    X = torch.cat([uniform(1, 30, 40, lowest=0.01), uniform(1, 30, 3, lowest=0.01) @ uniform(1, 3, 40)])
    start = nmf.random_start(X, 6, torch.Generator().manual_seed(0))
    found = nmf.descend(X, *start, divergence=divergence, n_iterations=400, tolerance=1e-3)
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
    found = nmf.descend(
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
    plain = nmf.descend(X, dictionary, start, divergence=divergence, n_iterations=60, tolerance=0, n_fixed=6)
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
    one = nmf.descend(X, W, H, **settings)
    other = nmf.descend(X, 100 * W, H / 100, **settings)
    torch.testing.assert_close(other.model, one.model)
    torch.testing.assert_close(other.objective, one.objective)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_items_do_not_see_each_other(divergence: Any) -> None:
    X = torch.cat([uniform(4, 20, 25), 1e4 * spectrogram(4, 3, 20, 25)])
    start = nmf.random_start(X, 3, torch.Generator().manual_seed(0))
    settings: Any = {"divergence": divergence, "n_iterations": 100, "tolerance": 1e-3}
    together = nmf.descend(X, *start, **settings)
    for item in range(7):
        alone = nmf.descend(X[item : item + 1], *(each[item : item + 1] for each in start), **settings)
        torch.testing.assert_close(together.model[item], alone.model[0])
        assert together.n_iterations[item] == alone.n_iterations[0]


def test_items_beyond_the_cache_are_worked_on_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    X = uniform(9, 20, 25)
    whole = nmf.factorise(X, n_components=3, n_iterations=20)
    monkeypatch.setattr(nmf, "CACHED_BYTES", 1)
    assert len(nmf._parts(X)) > 1
    torch.testing.assert_close(nmf.factorise(X, n_components=3, n_iterations=20).model, whole.model)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_model_follows_the_level(divergence: Any) -> None:
    X = uniform(1, 20, 25, lowest=0.01).float()
    one = nmf.factorise(X, n_components=3, divergence=divergence, sparsity=0.1)
    for gain in (1e-6, 1e6):
        other = nmf.factorise(gain * X, n_components=3, divergence=divergence, sparsity=0.1)
        torch.testing.assert_close(other.model, gain * one.model, rtol=1e-3, atol=1e-3 * gain)
        expected = one.objective * gain ** nmf.DEGREE[divergence]
        torch.testing.assert_close(other.objective, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("start", ["random", "nndsvd"])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_what_is_of_low_rank_is_found_again(divergence: Any, start: Any) -> None:
    # Each component alone in some bin and in some frame: then the factors are unique but for order and level.
    W = torch.cat([torch.eye(3, dtype=torch.float64), uniform(9, 3)])[None]
    H = torch.cat([torch.eye(3, dtype=torch.float64), uniform(3, 20, seed=1)], dim=1)[None]
    X = W @ H + 1e-9
    found = nmf.factorise(
        X, n_components=3, divergence=divergence, start=start, n_restarts=5, n_iterations=3000, tolerance=0
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
    found = nmf.descend(X, *nmf.nndsvd(X, 5), divergence="frobenius", n_iterations=1, tolerance=0)
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
    found = nmf.descend(
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


def test_a_component_of_zeros_stays_harmless() -> None:
    X = uniform(1, 20, 30).float()
    W, H = nmf.random_start(X, 4, torch.Generator().manual_seed(0))
    W[0, 5], W[0, :, 1], H[0, 2] = 0, 0, 0
    for divergence in DIVERGENCES:
        found = nmf.descend(X, W, H, divergence=divergence, n_iterations=30)
        assert found.model.isfinite().all()
        assert not found.model[0, 5].any()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"n_components": 0}, "n_components=0"),
        ({"n_restarts": 0}, "n_restarts=0"),
        ({"start": "nndsvd", "n_components": 9}, "9 of 8 and 10 can't be"),
        ({"sparsity": -0.1}, "sparsity=-0.1"),
        ({"X": -uniform(1, 8, 10)}, "X is between -0.99"),
        ({"X": torch.full((1, 8, 10), float("nan"))}, "X is between nan and nan"),
        ({"X": torch.zeros(1, 8, 0)}, "nothing to factorise"),
    ],
)
def test_what_can_t_be_factorised_is_refused(change: dict[str, Any], told: str) -> None:
    settings: Any = {"X": uniform(1, 8, 10), "n_components": 2, "n_iterations": 1, **change}
    with pytest.raises(SepnetError, match=told):
        nmf.factorise(settings.pop("X"), **{"divergence": "frobenius", **settings})
