"""The descent of some frames on their target energies: steps 2 and 3 of sepnet.separators.energy.descent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from sepnet.dsp.adam import adam
from sepnet.dsp.energy import energy_gradient, energy_loss, frame_energy, spectral_centroid, split_frames
from sepnet.dsp.mfcc import mfcc, pearson_correlation
from sepnet.metrics import best_permutation
from sepnet.ranges import NonNegativeFloat, PositiveFloat
from sepnet.separators.energy.signatures import TINY, Signatures, unit_mean

N_MELS = 26
SEGMENT_FRAMES = 10  # 100 ms, which re-matching assigns at once
MAX_START_GAIN = 4.0  # of a start over the mixture: where the mixture is almost nothing, it can't be fitted
SPECTRAL_FLOOR = 1e-3  # the least share of a band's energy that subtraction leaves
SETTLED_LOSS = 1e-8  # a frame has arrived where L of each cell, relative to the squared energy, is below this

PowerSpectrum = Callable[[Tensor], Tensor]
"""(source, frame, number) -> (source, frame, bin): the powers of a frame from its numbers."""


@dataclass(frozen=True)
class FitSettings:
    """The descent and what follows it; see ``EnergyDescent``."""

    steps: int
    learning_rate: PositiveFloat
    mfcc_weight: NonNegativeFloat
    l2_weight: NonNegativeFloat
    smoothness_weight: NonNegativeFloat
    centroid_weight: NonNegativeFloat
    subtract: bool
    normalise: bool

    @property
    def has_penalties(self) -> bool:
        """Whether any term of (2) counts."""
        return any((self.mfcc_weight, self.l2_weight, self.smoothness_weight, self.centroid_weight))


class FrameFit:
    """Fits estimates to target energies, at the level of the mixture in each cell.

    Args:
        settings: How.
        signatures: Give the MFCCs and the centroid of each source.
        filters: The mel filters (bin, mel).
    """

    def __init__(self, settings: FitSettings, signatures: Signatures, filters: Tensor) -> None:
        self.settings, self.filters = settings, filters
        self.mfcc = mfcc(signatures.powers, filters)[:, None]  # (source, 1, coefficient)
        self.centroid = spectral_centroid(signatures.powers)[:, None]

    def bands(
        self,
        mixture: Complex[Tensor, "window bin"],
        starts: Complex[Tensor, "source window bin"],
        shares: Float[Tensor, "source window bin"],
    ) -> Complex[Tensor, "source window bin"]:
        """Fit the energy of each bin by its gain, and return the spectra of the estimates."""
        level = mixture.abs()
        powers = unit_mean(level).square()
        gains = (starts.abs() / level.clamp_min(TINY)).clamp_max(MAX_START_GAIN)
        gains = self.descend(gains, shares, lambda x: x.square() * powers, one_cell=False)
        if self.settings.subtract:
            gains = (1 - gains.square().sum(dim=0) + gains.square()).clamp_min(SPECTRAL_FLOOR).sqrt()
        if self.settings.normalise:
            gains = gains / gains.square().sum(dim=0).clamp_min(TINY).sqrt()
        return torch.polar(gains * level, starts.angle())

    def frames(
        self,
        mixture: Float[Tensor, "frame sample"],
        starts: Float[Tensor, "source frame sample"],
        shares: Float[Tensor, "source frame"],
    ) -> Float[Tensor, "source frame sample"]:
        """Fit the energy of each frame by its samples, and return those of the estimates."""
        level = frame_energy(mixture).sqrt().unsqueeze(-1)  # (frame, 1)
        n_fft = 2 * (self.filters.shape[0] - 1)
        unit, n_samples = mixture / level.clamp_min(TINY), mixture.shape[-1]
        x = starts / level.clamp_min(TINY) * (level > 0)
        x = self.descend(x, shares.unsqueeze(-1), lambda x: _powers(x, n_fft), one_cell=True)
        if self.settings.subtract:
            powers, spectrum = _powers(x, n_fft), torch.fft.rfft(unit, n=n_fft)
            total = spectrum.abs().square()
            remaining = torch.maximum(total - powers.sum(dim=0) + powers, SPECTRAL_FLOOR * total).sqrt()
            polar = torch.polar(remaining, spectrum.angle().expand_as(remaining))
            x = torch.fft.irfft(polar, n=n_fft)[..., :n_samples]
        if self.settings.normalise:
            x = x / frame_energy(x).sum(dim=0).clamp_min(TINY).sqrt().unsqueeze(-1)
        return x * level

    def descend(self, start: Tensor, target: Tensor, powers: PowerSpectrum, *, one_cell: bool) -> Tensor:
        """Run Adam on L and (2) of each frame.

        Args:
            start: The numbers to move, (source, frame, number).
            target: The energies of the cells, (source, frame, cell).
            powers: Gives the power spectra of the numbers.
            one_cell: Whether a frame is one cell; else each number is one.
        """
        axis = -2 if one_cell else -1  # (source, frame, cell, number)

        def gradient(x: Tensor) -> Tensor:
            slope = energy_gradient(x.unsqueeze(axis), target).reshape(x.shape)
            return slope + self._slope_of_penalties(x, powers)

        def has_converged(x: Tensor) -> Tensor:
            return energy_loss(x.unsqueeze(axis), target).amax(dim=-1) < SETTLED_LOSS

        return adam(
            start,
            gradient,
            steps=self.settings.steps,
            lr=self.settings.learning_rate,
            has_converged=None if self.settings.has_penalties else has_converged,
        )

    def penalties(self, x: Tensor, powers: PowerSpectrum) -> Float[Tensor, "source frame"]:
        """Return what (2) adds to the loss of each frame."""
        settings, spectrum = self.settings, powers(x)
        return (
            settings.mfcc_weight * (1 - pearson_correlation(mfcc(spectrum, self.filters), self.mfcc))
            + settings.l2_weight * x.square().sum(dim=-1)
            + settings.smoothness_weight * x.diff(dim=-1).square().sum(dim=-1)
            + settings.centroid_weight * (spectral_centroid(spectrum) - self.centroid).square()
        )

    def rematch(
        self, estimates: Float[Tensor, "source sample"], frame_samples: int
    ) -> Float[Tensor, "source sample"]:
        """Assign each 100 ms of the estimates to the sources in the order that fits their MFCCs best."""
        n_samples = estimates.shape[-1]
        segments = split_frames(estimates, SEGMENT_FRAMES * frame_samples)  # (source, segment, sample)
        n_fft = 2 * (self.filters.shape[0] - 1)
        powers = _powers(split_frames(segments, frame_samples), n_fft).mean(dim=-2)  # (source, segment, bin)
        # (estimate, source, segment)
        fits = pearson_correlation(mfcc(powers, self.filters)[:, None], self.mfcc[None])
        order = best_permutation(fits.permute(2, 0, 1))  # (segment, source)
        indices = order.T.unsqueeze(-1).expand_as(segments)
        return segments.gather(0, indices).flatten(1)[:, :n_samples]

    def _slope_of_penalties(self, x: Tensor, powers: PowerSpectrum) -> Tensor | float:
        if not self.settings.has_penalties:
            return 0.0
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.penalties(point, powers).sum(), point)
        return torch.nan_to_num(slope)


def _powers(frames: Tensor, n_fft: int) -> Tensor:
    spectrum: Tensor = torch.fft.rfft(frames, n=n_fft)
    return spectrum.abs().square()
