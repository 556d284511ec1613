"""Mel bands: powers are kept, masks come back as they were, and the triangles are torchaudio's."""

from __future__ import annotations

import pytest
import torch
from torchaudio.functional import melscale_fbanks

from sepnet.dsp.mel import mel_shares, to_linear, to_mel
from sepnet.types import SepnetError

SIZES = [(257, 16000, 64), (129, 8000, 40), (1025, 44100, 128), (257, 16000, 1)]


@pytest.mark.parametrize("size", SIZES)
def test_the_shares_of_each_bin_sum_to_one(size: tuple[int, int, int]) -> None:
    shares = mel_shares(*size)
    assert shares.shape == (size[0], size[2])
    assert shares.min() >= 0
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(size[0]))
    assert (shares > 0).sum(dim=1).max() <= 2  # neighbours alone
    assert (shares.sum(dim=0) > 0).all()


@pytest.mark.parametrize("size", SIZES[:3])
def test_between_the_centres_they_are_the_triangles_of_torchaudio(size: tuple[int, int, int]) -> None:
    n_bins, rate, n_mels = size
    triangles = melscale_fbanks(n_bins, 0.0, rate / 2, n_mels, rate)
    shared = (triangles > 0).sum(dim=1) == 2
    assert shared.sum() > n_bins / 2
    torch.testing.assert_close(mel_shares(*size)[shared], triangles[shared], atol=1e-4, rtol=0)


def test_powers_are_moved_and_masks_interpolated() -> None:
    torch.manual_seed(0)
    shares = mel_shares(257, 16000, 64)
    powers = torch.rand(2, 257, 9)
    torch.testing.assert_close(to_mel(powers, shares).sum(dim=-1), powers.sum(dim=-2))
    torch.testing.assert_close(to_linear(torch.full((9, 64), 0.3), shares), torch.full((257, 9), 0.3))
    mask = torch.rand(9, 64)
    linear = to_linear(mask, shares)
    assert linear.min() >= mask.min()
    assert linear.max() <= mask.max()
    # <mask, to_mel(powers)> = <to_linear(mask), powers>: each is the other's transpose
    torch.testing.assert_close((mask * to_mel(powers[0], shares)).sum(), (linear * powers[0]).sum())


def test_a_tone_lies_in_the_band_around_it() -> None:
    shares = mel_shares(257, 16000, 64)
    powers = torch.zeros(257, 1)
    powers[32] = 1.0  # 1 kHz, which is 1000 mel
    highest = 2595 * torch.log10(torch.tensor(1 + 8000 / 700))
    place = 1000 / highest * 65 - 1  # among the 64 centres, evenly between 0 and highest
    found = (to_mel(powers, shares) * torch.arange(64)).sum()
    assert found.item() == pytest.approx(place.item(), abs=0.05)


@pytest.mark.filterwarnings("ignore:At least one mel filterbank")
def test_too_many_bands_are_refused() -> None:
    with pytest.raises(SepnetError, match=r"of 200 mel bands contain none of the 129 bins"):
        mel_shares(129, 16000, 200)
    with pytest.raises(SepnetError, match="n_mels=0"):
        mel_shares(129, 16000, 0)
