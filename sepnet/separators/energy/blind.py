"""Separation by energies, blind (``model=energy``).

The frames of the mixture are clustered by MFCC and energy, one cluster a source: their spectra are its
signatures. The energy of each frame is then shared out by the signatures of all other frames that it
resembles in each band, and an estimate is driven by gradient descent until it has its share
(sepnet.separators.energy.descent).

Limits: the method can't know which cluster belongs to which speaker, nor whether the clusters are two
speakers or two kinds of speech sound, whose envelopes differ more than those of speakers. A frame is the
mixture of both speakers, so no signature is clean. And an energy leaves the phase, and the waveform within
the cell, as in the mixture.

On 100 mixtures of two speakers of speech8k (dev), mean SI-SDRi with its 95 % bootstrap interval: 2.0 dB
[1.5, 2.6]; in the textbook form (model=energy_textbook: hard clusters, one energy a frame) -0.6 [-0.9, -0.3].
Real-time factor on one thread: 0.07 (textbook: 0.10).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.dsp.kmeans import kmeans
from sepnet.dsp.mfcc import mel_filters, mfcc
from sepnet.ranges import LayerSize, NonNegativeFloat, NonNegativeInt, Seed
from sepnet.separators.checks import require_n_sources
from sepnet.separators.energy.descent import EnergyDescent
from sepnet.separators.energy.fit import N_MELS
from sepnet.separators.energy.signatures import Signatures
from sepnet.separators.energy.step import EnergyStream
from sepnet.separators.frame_stream import StreamSetup
from sepnet.types import CannotSeparate, Mixture, Separation, SeparatorInfo, SepnetError

DISTANCE_FLOOR = 1e-3  # of each feature; frames that hardly differ belong to all sources alike
DEVIATION_FLOOR = 1e-2  # of a feature; those that hardly vary stay small


class Energy:
    """Shares the mixture's energies among ``n_sources`` clusters of its own frames.

    Args:
        descent: How the estimates get their energies.
        n_coefficients: MFCCs to cluster by.
        energy_weight: Weight of a frame's energy in dB beside one MFCC, both at unit variance.
        softness: How far a signature belongs to several clusters, by exp(-d^2 / (softness times the mean
            d^2)); 0: to the nearest alone.
        pooled: Whether each source has only the mean of its signatures, as in the textbook form.
        n_signatures: The largest number of signatures, evenly spaced.
        min_gap_windows: A frame explains no other that lies this many windows away, or fewer.
        seed: Seed of the clustering.

    Raises:
        SepnetError: A setting is out of range.
    """

    info = SeparatorInfo(needs=frozenset({"n_sources"}))

    def __init__(
        self,
        *,
        descent: EnergyDescent,
        n_coefficients: int = 20,
        energy_weight: NonNegativeFloat = 0.25,
        softness: float = 0.4,
        pooled: bool = False,
        n_signatures: LayerSize = 1000,
        min_gap_windows: NonNegativeInt = 6,
        seed: Seed = 0,
    ) -> None:
        if not 0 < n_coefficients < N_MELS or softness < 0 or n_signatures < 1 or min_gap_windows < 0:
            raise SepnetError(
                f"n_coefficients={n_coefficients}, softness={softness}, n_signatures={n_signatures} and "
                f"min_gap_windows={min_gap_windows}: 1 to {N_MELS - 1}, 0 or more, 1 or more, and 0 or more"
            )
        self.descent, self.seed, self.min_gap_windows = descent, seed, min_gap_windows
        self.n_coefficients, self.energy_weight, self.softness = n_coefficients, energy_weight, softness
        self.pooled, self.n_signatures = pooled, n_signatures

    def separate(self, mixture: Mixture) -> Separation:
        """Separate channel 0 into ``n_sources`` estimates in arbitrary order.

        Raises:
            CannotSeparate: Fewer frames hold sound than there are sources.
        """
        signal, n_sources = mixture.audio[0], require_n_sources(mixture)
        if n_sources == 1 or not signal.any():
            return Separation(signal.repeat(n_sources, 1) / n_sources)
        signatures = self.signatures(mixture)
        starts = signal.expand(n_sources, -1)
        return Separation(self.descent.separate(signal, signatures, mixture.sample_rate, starts))

    @torch.no_grad()
    def signatures(self, mixture: Mixture) -> Signatures:
        """Return the mixture's frames, and how far each belongs to each cluster.

        Raises:
            CannotSeparate: Fewer frames hold sound than there are sources.
        """
        n_sources = require_n_sources(mixture)
        frame = self.descent.frame_samples(mixture.sample_rate)
        amplitudes, loud = self.descent.loud_windows(mixture.audio[0], frame, self.n_signatures)
        if len(loud) < n_sources:
            raise CannotSeparate(
                f"{n_sources} sources, but only {len(loud)} frames of the mixture hold sound: "
                "give a longer mixture"
            )
        shapes = amplitudes / amplitudes.mean(dim=1, keepdim=True)
        energies = amplitudes.square().sum(dim=1)
        shares = self._shares(shapes, energies, n_sources, mixture.sample_rate)
        signatures = Signatures(shapes, shares, loud, self.min_gap_windows)
        return signatures.pooled() if self.pooled else signatures

    def stream(self, setup: StreamSetup) -> EnergyStream:
        """Prepare separation frame by frame, with the signatures of an earlier recording.

        Raises:
            CannotSeparate: There is no earlier recording, no number of sources, or a descent that waits.
        """
        if setup.enrollment is None or setup.n_sources is None:
            raise CannotSeparate(
                "the signatures are of the whole recording: give an earlier one of the same sources "
                "(enrollment=...) and n_sources, or take energy_live with an example of each source"
            )
        rate = setup.resolve_rate(None)
        signatures = self.signatures(Mixture(setup.enrollment[None], rate, setup.n_sources))
        return EnergyStream(self.descent, replace(signatures, windows=None), rate)

    def _shares(
        self, shapes: Tensor, energies: Tensor, n_sources: int, sample_rate: int
    ) -> Float[Tensor, "source signature"]:
        filters = mel_filters(shapes.shape[1], sample_rate, N_MELS).to(shapes)
        coefficients = mfcc(shapes.square(), filters, n_coefficients=self.n_coefficients)
        levels_db = 10 * energies.log10()[:, None]
        points = torch.cat(
            [_standardised(coefficients), self.energy_weight * _standardised(levels_db)], dim=1
        )
        centres = kmeans(points, n_sources, n_restarts=3, seed=self.seed).centres
        distances = (points[:, None] - centres).square().sum(dim=2)  # (signature, source)
        if self.softness == 0:
            return torch.nn.functional.one_hot(distances.argmin(dim=1), n_sources).T.float()
        scale = self.softness * distances.mean() + DISTANCE_FLOOR * points.shape[1]
        return (-distances / scale).softmax(dim=1).T.contiguous()


def _standardised(features: Float[Tensor, "point feature"]) -> Float[Tensor, "point feature"]:
    """Bring features to mean 0 and variance 1; those that hardly vary stay small."""
    centred = features - features.mean(dim=0)
    return centred / (centred.square().mean(dim=0).sqrt() + DEVIATION_FLOOR)
