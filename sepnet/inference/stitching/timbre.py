"""What each source sounds like: the mean and covariance of its cepstra, independent of level.

A Gaussian for each speaker, as in H. Gish, M.-H. Siu and R. Rohlicek, "Segregation of speakers for speech
recognition and speaker identification", ICASSP 1991. The model takes frames as independent, which they are
not: ``CORRELATED_FRAMES`` corrects for that. ``MAX_FRAME_NEPERS`` bounds the influence of an outlier.
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
MAX_HZ = 4000.0  # voices differ little above it, and a model at 8 kHz returns nothing there
N_MELS = 32
N_COEFFICIENTS = 12
BAND_FLOOR = 1e-3  # of a band's power, relative to the frame's mean
MIN_FRAME_POWER = 1e-4  # relative to the loudest frame; quieter frames are ignored
MIN_DOMINANCE = 0.8  # share of a frame's power that a source has to have for the frame to count
CORRELATED_FRAMES = 10.0  # frames that carry as much information as one independent frame
MAX_FRAME_NEPERS = 5.0  # by which one frame may favour a source over another
MIN_FRAMES = 50  # for an estimate of a covariance
BLOCK_FRAMES = 512  # transformed at once: few enough for a processor's cache
RIDGE = 0.01  # added to each variance, relative to their mean
MIN_VARIANCE = 1e-6  # added as well, for a sound that never changes; those of voices are around 1


@dataclass(frozen=True)
class FrameCepstra:
    """The frames of some estimates.

    Attributes:
        cepstra: Mel-frequency cepstral coefficients.
        dominant: 1 where a source dominates a frame, else 0.
    """

    cepstra: Float[Tensor, "source frame coefficient"]
    dominant: Float[Tensor, "source frame"]


def frame_cepstra(sources: Float[Tensor, "source time"], sample_rate: int) -> FrameCepstra:
    """Compute the cepstra of estimates.

    Args:
        sources: The estimates.
        sample_rate: In Hz.

    Returns:
        time // hop frames; frame k begins at k hops.
    """
    window, hop = max(2, round(WINDOW_SECONDS * sample_rate)), max(1, round(HOP_SECONDS * sample_rate))
    n_frames = sources.shape[-1] // hop
    n_bins = min(window // 2 + 1, 1 + int(MAX_HZ * window / sample_rate))
    filters = mel_filters(n_bins, round(2 * (n_bins - 1) * sample_rate / window), N_MELS)
    # Cepstra do not depend on the level: a power of two, which rounds nothing, keeps powers below infinity.
    exponent = torch.frexp(sources.abs().amax()).exponent.clamp_min(0) if n_frames else torch.tensor(0)
    padded = torch.nn.functional.pad(torch.ldexp(sources, -exponent), (0, window))
    cepstra = sources.new_zeros(len(sources), n_frames, N_COEFFICIENTS)
    levels = sources.new_zeros(len(sources), n_frames)
    for start in range(0, n_frames, BLOCK_FRAMES):
        stop = min(start + BLOCK_FRAMES, n_frames)
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
        cepstra[:, start:stop] = mfcc(powers, filters, n_coefficients=N_COEFFICIENTS, floor=BAND_FLOOR)
    total = levels.sum(dim=0)
    audible = total > MIN_FRAME_POWER * total.amax(dim=0, keepdim=True) if n_frames else total > 0
    return FrameCepstra(cepstra.double(), (audible & (levels > MIN_DOMINANCE * total)).double())


class TimbreMemory:
    """Statistics of the cepstra of each source, in memory that does not grow.

    Args:
        n_sources: How many sources.
        n_coefficients: Of the cepstra.
    """

    def __init__(self, n_sources: int, n_coefficients: int = N_COEFFICIENTS) -> None:
        self.n_frames = torch.zeros(n_sources, dtype=torch.float64)
        self.sums = torch.zeros(n_sources, n_coefficients, dtype=torch.float64)
        self.products = torch.zeros(n_sources, n_coefficients, n_coefficients, dtype=torch.float64)

    def add(self, frames: FrameCepstra) -> None:
        """Add frames of each source, in the memory's order."""
        weighted = frames.cepstra * frames.dominant.unsqueeze(-1)
        self.n_frames = self.n_frames + frames.dominant.sum(dim=-1)
        self.sums = self.sums + weighted.sum(dim=1)
        self.products = self.products + weighted.mT @ frames.cepstra

    def extended(self, frames: FrameCepstra) -> TimbreMemory:
        """A copy that also has these frames."""
        other = TimbreMemory(len(self.n_frames), self.sums.shape[-1])
        other.n_frames, other.sums, other.products = self.n_frames, self.sums, self.products
        other.add(frames)
        return other

    @property
    def is_reliable(self) -> bool:
        """Whether every source has enough frames to be recognised by."""
        return bool((self.n_frames >= MIN_FRAMES).all())

    def log_likelihoods(self, frames: FrameCepstra) -> Float[Tensor, "frame estimate source"]:
        """Compute how well each frame of each estimate fits each source.

        Args:
            frames: Of the estimates.

        Returns:
            Log likelihoods of the Gaussians relative to the likeliest source, in nepers of an independent
            frame: 0 for the likeliest, negative for others. All are 0 where the estimate does not dominate,
            and everywhere unless the memory ``is_reliable``.
        """
        n_estimates, n_frames, n_coefficients = frames.cepstra.shape
        if not self.is_reliable:
            return torch.zeros(n_frames, n_estimates, len(self.n_frames), dtype=torch.float64)
        means = self.sums / self.n_frames[:, None]
        covariances = self.products / self.n_frames[:, None, None] - means.unsqueeze(2) * means.unsqueeze(1)
        ridge = RIDGE * covariances.diagonal(dim1=1, dim2=2).mean(dim=1) + MIN_VARIANCE
        covariances = covariances + ridge[:, None, None] * torch.eye(n_coefficients, dtype=torch.float64)
        factors = torch.linalg.cholesky(covariances)
        deviations = frames.cepstra.unsqueeze(2) - means  # (estimate, frame, source, coefficient)
        whitened = torch.linalg.solve_triangular(
            factors, deviations.permute(2, 3, 0, 1).flatten(2), upper=False
        )  # (source, coefficient, estimate and frame)
        determinants = factors.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        likelihoods = -0.5 * whitened.square().sum(dim=1) - determinants[:, None]
        likelihoods = likelihoods.unflatten(1, (n_estimates, n_frames)).permute(2, 1, 0)
        relative: Tensor = (likelihoods - likelihoods.amax(dim=-1, keepdim=True)).clamp_min(-MAX_FRAME_NEPERS)
        weighted: Tensor = relative * frames.dominant.mT.unsqueeze(-1) / CORRELATED_FRAMES
        return weighted

    def state(self) -> dict[str, Tensor]:
        """Its statistics, for ``restore``."""
        return {"n_frames": self.n_frames, "sums": self.sums, "products": self.products}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over the statistics of another memory of the same size."""
        self.n_frames, self.sums, self.products = state["n_frames"], state["sums"], state["products"]


def frames_in(seconds: float) -> int:
    """The number of hops in ``seconds``, at least one."""
    return max(1, math.floor(seconds / HOP_SECONDS + 1e-9))
