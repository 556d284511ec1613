"""What a source has sounded like so far: the mean and covariance of its cepstra, whatever its level.

The model of H. Gish, M.-H. Siu and R. Rohlicek, "Segregation of speakers for speech recognition and speaker
identification", ICASSP 1991: a Gaussian for each speaker, of frames taken as independent. They are not, which
``CORRELATED`` makes up for; and a single frame may be far from all that was heard: ``MOST`` bounds its say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.dsp.mfcc import mel_filters, mfcc

WINDOW_SECONDS = 0.032
HOP_SECONDS = 0.016
TOP_HZ = 4000.0  # above, the voices differ little, and a model of 8 kHz gives nothing
N_MELS = 32
N_COEFFICIENTS = 12
FLOOR = 1e-3  # of a band, as a share of the frame's mean
AUDIBLE = 1e-4  # of the loudest frame's power: below, a frame says nothing
DOMINANT = 0.8  # of a frame's power: so much is one source's, or the frame says nothing of it
CORRELATED = 10.0  # frames that say as much as one alone
MOST = 5.0  # nepers by which one frame may speak for a source
FEW = 50  # frames: of fewer there is no covariance to speak of
PIECE = 512  # frames that are transformed at once: few enough for a processor's cache
RIDGE = 0.01  # of the mean variance, added to each


@dataclass(frozen=True)
class Heard:
    """Frames of some estimates: cepstra (source, frame, coefficient), and where each source dominates."""

    cepstra: Float[Tensor, "source frame coefficient"]
    dominant: Float[Tensor, "source frame"]


def hear(sources: Float[Tensor, "source time"], sample_rate: int) -> Heard:
    """The cepstra of estimates; frame k begins at k hops. There are time // hop of them, or none."""
    window, hop = max(2, round(WINDOW_SECONDS * sample_rate)), max(1, round(HOP_SECONDS * sample_rate))
    n_frames = sources.shape[-1] // hop
    n_bins = min(window // 2 + 1, 1 + int(TOP_HZ * window / sample_rate))
    filters = mel_filters(n_bins, round(2 * (n_bins - 1) * sample_rate / window), N_MELS)
    padded = torch.nn.functional.pad(sources, (0, window))
    cepstra = sources.new_zeros(len(sources), n_frames, N_COEFFICIENTS)
    levels = sources.new_zeros(len(sources), n_frames)
    for start in range(0, n_frames, PIECE):
        stop = min(start + PIECE, n_frames)
        spectra = torch.stft(
            padded[:, start * hop : (stop - 1) * hop + window],
            window,
            hop,
            window=torch.hann_window(window),
            center=False,
            return_complex=True,
        )[:, :n_bins].mT
        powers = spectra.real.square() + spectra.imag.square()  # (source, frame, bin)
        levels[:, start:stop] = powers.sum(dim=-1)
        cepstra[:, start:stop] = mfcc(powers, filters, n_coefficients=N_COEFFICIENTS, floor=FLOOR)
    total = levels.sum(dim=0)
    audible = total > AUDIBLE * total.amax(dim=0, keepdim=True) if n_frames else total > 0
    return Heard(cepstra.double(), (audible & (levels > DOMINANT * total)).double())


class TimbreMemory:
    """Counts, sums and products of the cepstra of each source: of one size, however much was heard."""

    def __init__(self, n_sources: int, n_coefficients: int = N_COEFFICIENTS) -> None:
        self.count = torch.zeros(n_sources, dtype=torch.float64)
        self.sums = torch.zeros(n_sources, n_coefficients, dtype=torch.float64)
        self.products = torch.zeros(n_sources, n_coefficients, n_coefficients, dtype=torch.float64)

    def add(self, heard: Heard) -> None:
        """Frames of each source, in the memory's order."""
        weighted = heard.cepstra * heard.dominant.unsqueeze(-1)
        self.count = self.count + heard.dominant.sum(dim=-1)
        self.sums = self.sums + weighted.sum(dim=1)
        self.products = self.products + weighted.mT @ heard.cepstra

    def with_(self, heard: Heard) -> TimbreMemory:
        """Another memory, of these frames too."""
        other = TimbreMemory(len(self.count), self.sums.shape[-1])
        other.count, other.sums, other.products = self.count, self.sums, self.products
        other.add(heard)
        return other

    @property
    def knows(self) -> bool:
        """Whether of each source enough was heard to tell it by."""
        return bool((self.count >= FEW).all())

    def likeness(self, heard: Heard) -> Float[Tensor, "frame estimate source"]:
        """How each frame of each estimate speaks for each source: 0 for the likeliest, negative for others.

        Log likelihoods of Gaussians, in nepers of an independent frame; 0 for all where the estimate does
        not dominate, and where not ``knows``.
        """
        n_estimates, n_frames, n_coefficients = heard.cepstra.shape
        if not self.knows:
            return torch.zeros(n_frames, n_estimates, len(self.count), dtype=torch.float64)
        means = self.sums / self.count[:, None]
        covariances = self.products / self.count[:, None, None] - means.unsqueeze(2) * means.unsqueeze(1)
        ridge = RIDGE * covariances.diagonal(dim1=1, dim2=2).mean(dim=1)
        covariances = covariances + ridge[:, None, None] * torch.eye(n_coefficients, dtype=torch.float64)
        factors = torch.linalg.cholesky(covariances)
        away = heard.cepstra.unsqueeze(2) - means  # (estimate, frame, source, coefficient)
        whitened = torch.linalg.solve_triangular(
            factors, away.permute(2, 3, 0, 1).flatten(2), upper=False
        )  # (source, coefficient, estimate and frame)
        determinants = factors.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        likelihoods = -0.5 * whitened.square().sum(dim=1) - determinants[:, None]
        likelihoods = likelihoods.unflatten(1, (n_estimates, n_frames)).permute(2, 1, 0)
        relative: Tensor = (likelihoods - likelihoods.amax(dim=-1, keepdim=True)).clamp_min(-MOST)
        spoken: Tensor = relative * heard.dominant.mT.unsqueeze(-1) / CORRELATED
        return spoken

    def state(self) -> dict[str, Tensor]:
        """What to keep of it."""
        return {"count": self.count, "sums": self.sums, "products": self.products}

    def restore(self, state: dict[str, Tensor]) -> None:
        """What was kept of another of the same size."""
        self.count, self.sums, self.products = state["count"], state["sums"], state["products"]


def frames_in(seconds: float) -> int:
    """The number of hops in so many seconds, at least one."""
    return max(1, math.floor(seconds / HOP_SECONDS + 1e-9))
