"""The mask network: it learns to follow an example, whatever its level and padding."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from sepnet.metrics import si_sdr
from sepnet.networks.conditioned import ConditionedTCN
from sepnet.query.mel_masking import MelMasking
from sepnet.query.query_audio import loudest_part
from sepnet.query.query_mask import QueryMask
from sepnet.types import Batch, CannotSeparate, Mixture, Query, SepnetError

RATE, SECONDS = 8000, 0.5


def network(**settings: object) -> QueryMask:
    torch.manual_seed(0)
    small = partial(ConditionedTCN, n_channels=24, n_blocks=3, n_repeats=1, dropout=0.0)
    masking = MelMasking(sample_rate=RATE, window_samples=256, hop_samples=128, n_mels=24)
    sizes = {"n_embedding": 8, "n_encoder": 16, "dropout": 0.0, **settings}
    return QueryMask(network=small, masking=masking, sample_rate=RATE, **sizes)  # type: ignore[arg-type]


def band(low: bool, seed: int, n: int = round(RATE * SECONDS)) -> Tensor:
    """Noise below or above 1.5 kHz."""
    spectrum = torch.fft.rfft(torch.randn(n, generator=torch.Generator().manual_seed(seed)))
    below = torch.arange(len(spectrum)) < len(spectrum) * 1500 / (RATE / 2)
    return 0.1 * torch.fft.irfft(spectrum * (below == low), n=n)


def batch_of(seed: int, size: int = 8) -> Batch:
    """Low and high noise mixed; the query is another piece of one of them."""
    lows = [(seed + item) % 2 == 0 for item in range(size)]
    targets = torch.stack([band(low, 1000 * seed + item) for item, low in enumerate(lows)])
    others = torch.stack([band(not low, 1000 * seed + 100 + item) for item, low in enumerate(lows)])
    queries = torch.stack([band(low, 1000 * seed + 200 + item, 2000) for item, low in enumerate(lows)])
    return Batch(
        mixture=(targets + others).unsqueeze(1),
        sources=torch.stack([targets, others], dim=1),
        ids=("",) * size,
        sample_rate=RATE,
        queries=queries,
        query_samples=(2000,) * size,
        labels=tuple("low" if low else "high" for low in lows),
    )


def test_it_learns_to_separate_the_sound_of_the_example() -> None:
    net = network(labels=["low", "high"])
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for step in range(60):
        optimizer.zero_grad()
        net.loss(batch_of(step))["loss"].backward()
        optimizer.step()
    low, high = band(True, 7), band(False, 8)
    mixture = (low + high)[None]
    for target, other, query in ((low, high, band(True, 9)), (high, low, band(False, 10))):
        separation = net.eval().separate(Mixture(mixture, RATE, queries=(Query(query, RATE, "it"),)))
        assert separation.labels == ("it", "residual")
        assert si_sdr(separation.sources[0], target) > 8.0  # 0 dB in the mixture
        assert si_sdr(separation.sources[1], other) > 8.0


def test_padding_of_examples_has_no_influence() -> None:
    net = network().eval()
    short, long = band(True, 1, 1500), band(False, 2, 2600)
    filled = torch.zeros(2, 2600)
    filled[0, :1500], filled[1] = short, long
    together = net.embed(filled, [1500, 2600])
    alone = torch.cat([net.embed(short[None], [1500]), net.embed(long[None], [2600])])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_the_mask_is_independent_of_levels_and_within_bounds() -> None:
    net = network().eval()
    signal, query = band(True, 3) + band(False, 4), band(True, 5)
    mask = net.mask(signal, query)
    assert mask.shape == (net.masking.stft.n_frames(len(signal)), 24)
    assert mask.min() > 0
    assert mask.max() < 1
    torch.testing.assert_close(net.mask(100 * signal, 0.01 * query), mask, atol=1e-4, rtol=0)


def test_target_and_residual_are_the_mixture() -> None:
    signal = band(True, 3) + band(False, 4)
    mixture = Mixture(signal[None], RATE, queries=(Query(band(True, 5), RATE),))
    separation = network().eval().separate(mixture)
    torch.testing.assert_close(separation.sources.sum(dim=0), signal, atol=1e-7, rtol=0)
    two = Mixture(signal[None], RATE, queries=(Query(band(True, 5), RATE, "a"), Query(band(False, 6), RATE)))
    assert network().eval().separate(two).labels == ("a", "query 2")


def test_an_absent_target_has_a_finite_loss_and_gradient() -> None:
    net, batch = network(), batch_of(0, size=2)
    silent = torch.cat([torch.zeros_like(batch.sources[:, :1]), batch.sources[:, 1:]], dim=1)
    absent = Batch(
        silent.sum(dim=1, keepdim=True), silent, batch.ids, RATE, batch.queries, (2000, 2000), None
    )
    losses = net.loss(absent)
    losses["loss"].backward()
    assert losses["loss"].isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
    assert losses["si_sdri"] == 0


def test_training_without_queries_is_refused() -> None:
    batch = batch_of(0, size=2)
    with pytest.raises(SepnetError, match="query_seconds"):
        network().loss(Batch(batch.mixture, batch.sources, batch.ids, RATE))


@pytest.mark.parametrize(
    ("query", "told"),
    [
        (Query(torch.zeros(4000), RATE), "query 1 is silent"),
        (Query(torch.ones(700), RATE), "query 1 lasts 0.09 s"),
        (Query(torch.ones(31 * RATE), RATE), "query 1 lasts 31.00 s"),
        (Query(torch.ones(32000), 16000), "at 16000 Hz, but the mixture at 8000 Hz"),
    ],
)
def test_unusable_queries_are_refused(query: Query, told: str) -> None:
    with pytest.raises(CannotSeparate, match=told):
        network().eval().separate(Mixture(band(True, 1)[None], RATE, queries=(query,)))


def test_of_a_long_query_the_loudest_part_is_used() -> None:
    audio = torch.zeros(5 * RATE)
    audio[3 * RATE : 4 * RATE] = 1.0
    part = loudest_part(audio, 1.0, RATE)
    assert torch.equal(part, torch.ones(RATE))
    assert loudest_part(part, 1.0, RATE) is part
