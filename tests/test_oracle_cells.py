"""Coarse ideal masks: shares of energy in cells by loops, ceilings in their order, and the perfect gate."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from sepnet.dsp.cells import cell_mask, mel_bands, mel_blocks
from sepnet.dsp.masks import wiener_mask
from sepnet.metrics import si_sdr
from sepnet.separators.oracle.cells import OracleCells, OracleGate
from sepnet.separators.oracle.masks import OracleMask
from sepnet.types import Mixture, Separator, SepnetError

RATE = 16000
BINS = 257


def spectrograms(n_sources: int = 3, n_frames: int = 23) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    real, imaginary = torch.randn(2, n_sources, BINS, n_frames, generator=generator)
    return torch.complex(real, imaginary) * torch.tensor([1.0, 2.0, 0.5])[:n_sources, None, None]


def test_a_cell_holds_the_share_of_its_energy_as_a_loop_finds_it() -> None:
    sources, weights, n_frames = spectrograms(), mel_blocks(BINS, RATE), 5
    found = cell_mask(sources, weights, n_frames)
    energy = sources.abs().square()
    for band in range(weights.shape[1]):
        bins = weights[:, band] > 0
        for begin in range(0, 23, n_frames):
            cell = energy[:, bins, begin : begin + n_frames].sum(dim=(1, 2))
            expected = (cell / cell.sum())[:, None, None].expand_as(found[:, bins, begin : begin + n_frames])
            torch.testing.assert_close(found[:, bins, begin : begin + n_frames], expected)


@pytest.mark.parametrize("bands", [mel_bands, mel_blocks])
@pytest.mark.parametrize("n_bins", [17, 129, 257])
def test_masks_are_shares_in_each_bin(bands: partial[Tensor], n_bins: int) -> None:
    weights = bands(n_bins, RATE)
    assert (weights.sum(dim=1) > 0).all()
    assert (weights >= 0).all()
    masks = cell_mask(spectrograms()[:, :n_bins], weights, 4)
    torch.testing.assert_close(masks.sum(dim=0), torch.ones_like(masks[0]))
    assert masks.min() >= 0
    silence = cell_mask(torch.zeros(2, n_bins, 5, dtype=torch.complex64), weights)
    torch.testing.assert_close(silence, torch.full((2, n_bins, 5), 0.5))


def test_one_bin_and_frame_a_cell_is_the_ideal_mask() -> None:
    sources = spectrograms()
    torch.testing.assert_close(cell_mask(sources, torch.eye(BINS)), wiener_mask(sources))


def test_bands_lie_on_the_mel_scale() -> None:
    blocks = mel_blocks(BINS, RATE, n_mels=128, n_mels_each=16)
    assert blocks.shape == (BINS, 8)
    assert (blocks.sum(dim=1) == 1).all()
    widths = blocks.sum(dim=0)
    assert (widths[1:] > widths[:-1]).all()  # higher bands are wider in Hz
    first_hz = 700 * (10 ** (2840.0230467083188 / 8 / 2595) - 1)  # an eighth of the mels up to 8 kHz
    assert int(widths[0]) == int(first_hz / (RATE / 2) * (BINS - 1)) + 1
    peaks = mel_bands(BINS, RATE).argmax(dim=0)[10:]  # the lowest are too narrow to hold a bin each
    assert (peaks[1:] >= peaks[:-1]).all()


def sounds(seconds: float = 2.0) -> Tensor:
    """Two sources that differ in frequency and, coarsely, in time."""
    generator = torch.Generator().manual_seed(1)
    time = torch.arange(round(seconds * RATE)) / RATE
    hiss = 0.1 * torch.randn(len(time), generator=generator)
    hum = 0.2 * torch.sin(2 * torch.pi * 300 * time) + 0.1 * torch.sin(2 * torch.pi * 3100 * time)
    return torch.stack([hiss, hum * (time % 0.5 < 0.35)])


def gained_db(separator: Separator, references: Tensor) -> float:
    mixture = Mixture(references.sum(dim=0, keepdim=True), RATE, references=references)
    target = separator.separate(mixture).sources[0]
    return float(si_sdr(target, references[0]) - si_sdr(mixture.audio[0], references[0]))


def test_finer_cells_are_a_higher_ceiling() -> None:
    oracles = [
        OracleGate(),
        OracleCells(bands=mel_blocks, cell_seconds=0.16),
        OracleCells(bands=mel_bands),
        OracleMask(mask=wiener_mask, window_samples=512, hop_samples=256),
    ]
    gate, patches, mel, linear = (gained_db(oracle, sounds()) for oracle in oracles)
    assert gate == pytest.approx(0.0, abs=0.01)  # the target is there throughout
    assert gate + 1 < patches < mel < linear


def test_a_perfect_gate_passes_the_mixture_where_the_target_is() -> None:
    references = sounds()
    references[0, :8000] = 0.0
    references[0, 16000:] = 0.0
    mixture = Mixture(references.sum(dim=0, keepdim=True), RATE, references=references)
    target, residual = OracleGate().separate(mixture).sources
    assert not target[:8000].any()
    assert not target[16000:].any()
    assert torch.equal(target[8000:16000], mixture.audio[0, 8000:16000])
    torch.testing.assert_close(target + residual, mixture.audio[0])
    assert gained_db(OracleGate(), references) > 2.0


def test_a_cell_without_length_is_refused() -> None:
    with pytest.raises(SepnetError, match=r"cell_seconds is 0\.0"):
        OracleCells(bands=mel_bands, cell_seconds=0.0)
