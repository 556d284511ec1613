"""K-means against its definition, scikit-learn, and points whose clusters are known."""

from __future__ import annotations

import itertools

import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from sepnet.dsp.kmeans import kmeans, kmeans_plus_plus, lloyd
from sepnet.types import SepnetError


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def blobs(n_clusters: int = 5, each: int = 40, distance: float = 30.0) -> tuple[Tensor, Tensor]:
    """Points around far corners, and which corner each belongs to."""
    truth = torch.arange(n_clusters).repeat(each)
    centres = distance * torch.eye(n_clusters, 6, dtype=torch.float64)
    return centres[truth] + normal(len(truth), 6), truth


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distant_clusters_are_found(seed: int, dtype: torch.dtype) -> None:
    points, truth = blobs()
    found = kmeans(points.to(dtype) + 1000, 5, n_restarts=3, seed=seed)
    for cluster in range(5):
        assert len(found.labels[truth == cluster].unique()) == 1
    assert len(found.labels.unique()) == 5
    means = torch.stack([points[found.labels == k].mean(dim=0) + 1000 for k in range(5)])
    torch.testing.assert_close(found.centres, means.to(dtype))


def test_lloyd_is_that_of_scikit_learn() -> None:
    points, weights = normal(300, 4), torch.rand(300, dtype=torch.float64)
    start = points[:6]
    for weight in (None, weights):
        theirs = KMeans(6, init=start.numpy(), n_init=1, algorithm="lloyd", tol=0, max_iter=300)
        theirs.fit(points.numpy(), sample_weight=None if weight is None else weight.numpy())
        ours = lloyd(points, start, weights=weight, n_iterations=300)
        assert ours.labels.tolist() == theirs.labels_.tolist()
        torch.testing.assert_close(ours.centres, torch.from_numpy(theirs.cluster_centers_))
        assert ours.inertia == pytest.approx(theirs.inertia_)


def test_the_inertia_never_rises() -> None:
    for seed in range(30):
        points = normal(100, 3, seed=seed)
        centres = normal(7, 3, seed=seed + 100) * 3
        inertias = [lloyd(points, centres, n_iterations=n).inertia for n in range(12)]
        assert all(after <= before * (1 + 1e-12) for before, after in itertools.pairwise(inertias))
        assert inertias[-1] < inertias[0]


def test_it_is_as_good_as_scikit_learn() -> None:
    # Many small clusters, where a bad start costs a lot.
    points = normal(1000, 2) + 8 * normal(25, 2, seed=1).repeat(40, 1)
    theirs = KMeans(25, n_init=10, random_state=0).fit(points.numpy()).inertia_
    assert kmeans(points, 25, n_restarts=10).inertia < 1.03 * theirs


def test_a_start_is_drawn_by_the_squared_distance() -> None:
    # From the left point, the right ones lie at 1 and 3: with one draw, 9 of 10 seconds are the far one.
    points = torch.tensor([[0.0], [1.0], [3.0]])
    weights = torch.tensor([1e9, 1.0, 1.0])
    far = sum(
        float(kmeans_plus_plus(points, 2, weights, torch.Generator().manual_seed(seed))[1]) == 3.0
        for seed in range(200)
    )
    # The best of four draws: the near one is kept only if all four fall on it, once in ten thousand.
    assert far >= 199
    balanced = torch.tensor([1e9, 9.0, 1.0])
    near = sum(
        float(kmeans_plus_plus(points, 2, balanced, torch.Generator().manual_seed(seed))[1]) == 1.0
        for seed in range(200)
    )
    assert 5 <= near <= 200  # the same pull on both: either may come


def test_a_weight_is_a_number_of_points() -> None:
    points, counts = normal(40, 3), torch.arange(40) % 4
    start = points[[1, 2, 3]]
    weighted = lloyd(points, start, weights=counts.double())
    repeated = lloyd(points.repeat_interleave(counts, dim=0), start)
    torch.testing.assert_close(weighted.centres, repeated.centres)
    assert weighted.inertia == pytest.approx(repeated.inertia)
    assert weighted.labels.repeat_interleave(counts).tolist() == repeated.labels.tolist()


def test_the_seed_decides() -> None:
    points = normal(200, 5)
    first, again = kmeans(points, 8, n_restarts=1, seed=3), kmeans(points, 8, n_restarts=1, seed=3)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.centres, kmeans(points, 8, n_restarts=1, seed=4).centres)
    assert kmeans(points, 8, n_restarts=10, seed=3).inertia <= first.inertia


def test_neither_translation_nor_rotation_matters() -> None:
    points = normal(100, 4)
    turn = torch.linalg.qr(normal(4, 4, seed=9)).Q
    one, other = kmeans(points, 3), kmeans(points @ turn + 5.0, 3)
    assert torch.equal(one.labels, other.labels)
    torch.testing.assert_close(one.centres @ turn + 5.0, other.centres)


def test_an_empty_cluster_takes_the_farthest_point() -> None:
    points = torch.tensor([[0.0], [0.1], [10.0], [10.1], [50.0]])
    found = lloyd(points, torch.tensor([[0.0], [10.0], [1000.0]]))
    assert found.labels.tolist() == [0, 0, 1, 1, 2]
    assert found.centres.flatten().tolist() == pytest.approx([0.05, 10.05, 50.0])


@pytest.mark.parametrize(
    "points", [torch.zeros(5, 2), torch.tensor([[1.0], [1.0], [2.0]])], ids=["zero", "two"]
)
def test_fewer_distinct_points_than_clusters_are_allowed(points: Tensor) -> None:
    found = kmeans(points, 3)
    assert found.inertia == 0
    assert found.centres.isfinite().all()
    torch.testing.assert_close(found.centres[found.labels], points)
    assert kmeans(points, 2, weights=torch.zeros(len(points))).inertia >= 0


def test_invalid_points_are_refused() -> None:
    for count in (0, 4):
        with pytest.raises(SepnetError, match=f"3 points cannot form {count} clusters"):
            kmeans(normal(3, 2), count)
    with pytest.raises(SepnetError, match="finite"):
        kmeans(torch.full((3, 2), float("nan")), 2)
    with pytest.raises(SepnetError, match="weights not negative"):
        kmeans(normal(3, 2), 2, weights=-torch.ones(3, dtype=torch.float64))
