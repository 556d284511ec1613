"""The floor, and the oracles: the ceiling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sepnet.data.fixed_set import FixedSet
from sepnet.data.manifest import Manifest, Utterance
from sepnet.data.mixture_list import read_list
from sepnet.dsp.filterbank import STFT
from sepnet.dsp.masks import ideal_binary_mask, ideal_ratio_mask, wiener_mask
from sepnet.metrics import best_permutation, improvement, pairwise, si_sdr
from sepnet.separators.identity import Identity
from sepnet.separators.oracle.masks import OracleMask
from sepnet.types import CannotSeparate, Mixture, Separator
from tests.separator_cases import RATE, noise, with_all_hints

SHARED = Path(__file__).parents[2] / "shared"


def test_identity_is_the_floor() -> None:
    mixture = replace(with_all_hints(0.1 * noise(1, 4000)), n_sources=3)
    sources = Identity().separate(mixture).sources
    assert torch.equal(sources, mixture.audio.expand(3, -1))
    with pytest.raises(CannotSeparate, match="n_sources"):
        Identity().separate(Mixture(mixture.audio, RATE))


def sparse_sources(n_sources: int = 2, time: int = 16000, density: float = 0.08) -> Tensor:
    """Signals that are there in few bins of time and frequency, as speech is."""
    stft = STFT(window_samples=256, hop_samples=64, window="hann")
    shape = (n_sources, stft.n_bins, stft.n_frames(time))
    coarse = torch.rand(
        n_sources, -(-shape[1] // 8), -(-shape[2] // 8), generator=torch.Generator().manual_seed(3)
    )
    active = (
        (coarse < density).repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)[:, : shape[1], : shape[2]]
    )
    return 0.1 * stft.invert(torch.complex(noise(*shape), noise(*shape, seed=1)) * active, time)


def gain_db(separator: Separator, references: Tensor) -> float:
    """The SI-SDR improvement, the order given."""
    mixture = Mixture(
        references.sum(dim=0, keepdim=True), RATE, n_sources=len(references), references=references
    )
    sources = separator.separate(mixture.only(separator.info.needs)).sources
    return float(improvement(si_sdr, sources, references, mixture.audio).mean())


def test_oracles_are_the_ceiling_and_order_by_sparseness() -> None:
    references = sparse_sources()
    gains = {
        mask: gain_db(OracleMask(mask=mask), references)
        for mask in (ideal_binary_mask, ideal_ratio_mask, wiener_mask)
    }
    floor = gain_db(Identity(), references)
    assert floor == pytest.approx(0.0, abs=1e-4)
    assert min(gains.values()) > floor + 8
    assert gains[ideal_binary_mask] > gains[ideal_ratio_mask] + 0.5
    assert gains[wiener_mask] > gains[ideal_ratio_mask] + 0.5


def test_oracles_separate_sources_without_overlap() -> None:
    references = torch.zeros(2, 8000)
    references[0, :3000], references[1, 4000:] = 0.1 * noise(3000), 0.1 * noise(4000, seed=1)
    for mask in (ideal_binary_mask, ideal_ratio_mask, wiener_mask):
        assert gain_db(OracleMask(mask=mask), references) > 60


def test_oracles_keep_the_order_of_the_references() -> None:
    references = sparse_sources(3)
    mixture = Mixture(references.sum(dim=0, keepdim=True), RATE, references=references)
    oracle = OracleMask(mask=ideal_ratio_mask)
    separation = oracle.separate(mixture)
    assert separation.labels == ("source 1", "source 2", "source 3")
    turned = oracle.separate(replace(mixture, references=references[[2, 0, 1]])).sources
    torch.testing.assert_close(turned, separation.sources[[2, 0, 1]])
    scores = pairwise(si_sdr, separation.sources[None], references[None])
    assert best_permutation(scores).tolist() == [[0, 1, 2]]


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the published lists and their speech are not at {SHARED}")
@pytest.mark.parametrize(("mask", "published_db"), [(ideal_ratio_mask, 12.60), (ideal_binary_mask, 13.34)])
def test_oracles_score_as_published_on_libri2mix(
    mask: Callable[[Tensor], Tensor], published_db: float
) -> None:
    # Cosentino et al. 2020, table 5, over 3,000 mixtures; these are the first 40 of 246 of them.
    root = SHARED / "audio" / "speech8k"
    files = tuple(
        Utterance(path.relative_to(root).as_posix(), path.parent.name, "test", "", 1.0, RATE, "")
        for path in sorted((root / "test").glob("*/*.flac"))
    )
    mixtures = read_list(root / "libri2mix_test-clean_subset.csv")[:40]
    gains = [
        gain_db(OracleMask(mask=mask), mixture.references)
        for mixture in FixedSet(mixtures=mixtures, manifest=Manifest(root, files), sample_rate=RATE)
    ]
    assert sum(gains) / len(gains) == pytest.approx(published_db, abs=0.6)
