"""What both energy methods share: signatures in, target energies, and a descent of the estimate on them.

The mixture y is cut into frames of 10 ms, and each is seen through a window of some frames, Y(t, b). A
signature d_k(b) is the amplitude spectrum of one frame, of mean 1, and belongs by w_sk to source s.

1. Targets. What each frame holds of each signature, h_k(t) >= 0, is found by Adam on log h so that
   R = sum_k h_k d_k fits V = |Y| / mean_b |Y|. A descent on (V - R)^2 listens to the loudest bands alone;
   relative to its level each band has (V - R)^2 / V, the expansion of the Kullback-Leibler divergence
   V log(V / R) - V + R about V = R, which is minimised. With A_s = sum_k w_sk h_k d_k,

       E_s(t, b) = |Y|^2 m_s,    m_s = A_s^(2 q) l_s / sum_r A_r^(2 q) l_r,                            (1)

   so the targets sum to the mixture's energy. q < 1 (``trust``) draws uncertain shares together, and l_s
   brings each source's share of a frame's energy to its mean over the frames within ``look_ahead``.

2. Descent. The estimate starts from a signal that is given, and Adam takes at most ``steps`` steps for
   each frame on sum (E - E^)^2 over its cells (sepnet.dsp.energy, with the gradient in closed form), plus

       a_1 (1 - corr(MFCC of x^, of the signature)) + a_2 sum x^^2 + a_3 sum (x^[n+1] - x^[n])^2
       + a_4 (centroid of x^ - of the signature)^2.                                                    (2)

   Cells: ``frames``, the 10 ms of samples, as in the textbook form, or ``bands``, the bins of a window. An
   energy leaves the phase free, so a band keeps that of the start and moves by its gain alone: x^ = g |Y|,
   and dL/dg is the closed form along that direction. All is relative to the mixture's energy in the cell,
   so a level changes nothing.

3. Afterwards, each optional: spectral subtraction (of the mixture's energy, those of the other estimates);
   energy normalisation (the estimates' energies sum to the mixture's); re-matching (each 100 ms go to the
   sources in the order in which their MFCCs fit best). At last what the estimates lack of the mixture is
   shared among them.

All but the signatures looks at few frames around each, so the whole is done in blocks of bounded memory,
or frame by frame (sepnet.separators.energy.step), with the same output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from sepnet.dsp.adam import adam
from sepnet.dsp.consistency import make_consistent
from sepnet.dsp.energy import centroid, energy, energy_gradient, energy_loss, split
from sepnet.dsp.mfcc import correlation, mel_filters, mfcc
from sepnet.metrics import best_permutation
from sepnet.types import SepnetError

Cells = Literal["frames", "bands"]
N_MELS = 26
SEGMENT_FRAMES = 10  # 100 ms: how often MFCCs are checked
CHUNK_FRAMES = 200 * SEGMENT_FRAMES  # 20 s at a time
TINY = 1e-20  # an amplitude, to divide by
QUIET = 1e-4  # a window's energy, as a share of the loudest one's, under which it is no signature
SPECTRAL_FLOOR = 1e-3  # what subtraction leaves of a band at least, as a share of its energy
SETTLED = 1e-8  # L of each cell, relative to the energy squared: the frame has arrived
FLOOR = 1e-6  # added to amplitudes of mean 1
SIGNALS = Callable[[int, int], Tensor]
"""(first, end) in frames -> (source, sample): a signal between two frames, zero beyond its ends."""


@dataclass(frozen=True)
class Signatures:
    """What is known of the sources.

    shapes: (signature, bin), amplitudes of mean 1. shares: (source, signature), how much of each belongs
    to each source; the columns sum to 1. windows: (signature,), the window of the mixture that each was
    taken from, or None; it may not explain itself, nor any that is ``apart`` windows away or less.
    """

    shapes: Tensor
    shares: Tensor
    windows: Tensor | None = None
    apart: int = 3

    @property
    def powers(self) -> Float[Tensor, "source bin"]:
        """The mean power spectrum of each source."""
        return self.shares @ self.shapes.square() / self.shares.sum(dim=1, keepdim=True).clamp_min(TINY)

    def pooled(self) -> Signatures:
        """One signature a source: the mean, as in the textbook form."""
        shapes = self.powers.sqrt()
        return replace(self, shapes=_relative(shapes), shares=torch.eye(len(shapes)).to(shapes), windows=None)


class EnergyDescent:
    """The descent; see above.

    cells: whose energies are fitted. frame_seconds: 10 ms. window_frames: that a spectrum sees.
    look_ahead_frames: over which, and as many behind, loudness is smoothed. trust: q in (1).
    steps, rate: of Adam, the rate falling to zero. mfcc, l2, shape, centroid: the weights in (2), which
    cost an automatic gradient where they are not zero. subtract, normalise, rematch: what follows.
    Raises SepnetError for settings out of range.
    """

    def __init__(
        self,
        *,
        cells: Cells = "bands",
        frame_seconds: float = 0.01,
        window_frames: int = 6,
        look_ahead_frames: int = 3,
        trust: float = 0.75,
        steps: int = 50,
        rate: float = 0.1,
        mfcc: float = 0.0,
        l2: float = 0.0,
        shape: float = 0.0,
        centroid: float = 0.0,
        subtract: bool = False,
        normalise: bool = True,
        rematch: bool = False,
    ) -> None:
        if cells not in get_args(Cells):
            raise SepnetError(f"cells are {cells!r}, but have to be one of {', '.join(get_args(Cells))}")
        if frame_seconds <= 0 or window_frames < 2 or look_ahead_frames < 0 or steps < 0 or trust <= 0:
            raise SepnetError(
                f"frame_seconds={frame_seconds}, window_frames={window_frames}, steps={steps}, "
                f"trust={trust}, look_ahead_frames={look_ahead_frames}: lengths and trust have to be "
                "positive, the window 2 frames or more, and steps and look-ahead not negative"
            )
        self.cells, self.frame_seconds, self.window_frames = cells, frame_seconds, window_frames
        self.look_ahead_frames, self.trust, self.steps, self.rate = look_ahead_frames, trust, steps, rate
        self.mfcc, self.l2, self.shape, self.centroid = mfcc, l2, shape, centroid
        self.subtract, self.normalise, self.rematch = subtract, normalise, rematch

    @property
    def latency_seconds(self) -> float:
        """How long after its first sample a frame is known, live: itself and the look-ahead."""
        return self.frame_seconds * (self.window_frames + self.look_ahead_frames)

    def frame_samples(self, sample_rate: int) -> int:
        """Samples in a frame."""
        return max(2, round(self.frame_seconds * sample_rate))

    def spectra(self, signal: Float[Tensor, "*source sample"], frame: int) -> Tensor:
        """(source, window, bin) of a signal of whole frames: the windows that lie in it."""
        length = self.window_frames * frame
        window = torch.hann_window(length, device=signal.device).sqrt()
        windows: Tensor = signal.unfold(-1, length, frame)
        spectra: Tensor = torch.fft.rfft(windows * window)
        return spectra

    def loud_windows(
        self, signal: Float[Tensor, " time"], frame: int, most: int
    ) -> tuple[Float[Tensor, "window bin"], Int[Tensor, " window"]]:
        """Amplitude spectra of the windows that hold sound, and their numbers: window t ends with frame t.

        Of more than ``most`` windows, evenly spaced ones. At a level of their own.
        """
        beyond, length = (self.window_frames - 1) * frame, self.window_frames * frame
        signal = signal / signal.abs().max().clamp_min(TINY)
        padded = F.pad(signal, (beyond, beyond + -len(signal) % frame))
        windows = padded.unfold(0, length, frame)  # (window, sample), a view
        blocks = (self.spectra(block, frame)[:, 0] for block in torch.split(windows, CHUNK_FRAMES))
        energies = torch.cat([block.abs().square().sum(dim=1) for block in blocks])
        loud = (energies > QUIET * energies.max()).nonzero().flatten()
        kept = torch.linspace(0, len(loud) - 1, min(most, len(loud)), device=signal.device).round().long()
        return self.spectra(windows[loud[kept]], frame)[:, 0].abs(), loud[kept]

    @torch.no_grad()
    def separate(
        self,
        signal: Float[Tensor, " time"],
        signatures: Signatures,
        sample_rate: int,
        starts: Float[Tensor, "source time"],
        *,
        aligned: bool = False,
    ) -> Float[Tensor, "source time"]:
        """The estimates. aligned: the starts are estimates already, and their own energies the targets."""
        peak = signal.abs().max().clamp_min(TINY)  # so that a level does not even change the rounding
        signal, starts = signal / peak, starts / peak
        frame, n_sources = self.frame_samples(sample_rate), len(signatures.shares)
        n_frames = -(-len(signal) // frame)
        mixture, given = _between(signal[None], frame), _between(starts, frame)
        around, ahead = self.look_ahead_frames, self.window_frames - 1
        parts = []
        for first in range(0, n_frames, CHUNK_FRAMES):
            end = min(first + CHUNK_FRAMES, n_frames)
            low, high = max(0, first - around), min(n_frames + ahead, end + ahead + around)
            source = given if aligned else mixture
            spectra = self.spectra(source(low - ahead, high), frame).abs()  # (source, window, bin)
            numbers = torch.arange(low, high, device=signal.device)
            energies = self.explain(spectra if aligned else spectra[0], signatures, numbers)
            shares = self.targets(energies)[:, first - low :][:, : end - first + ahead]
            parts.append(self.estimate(mixture, given, shares, signatures, first, sample_rate))
        estimates = torch.cat(parts, dim=-1)[:, : len(signal)]
        return peak * (estimates if n_sources > 1 else signal[None])

    def explain(self, amplitudes: Tensor, signatures: Signatures, numbers: Tensor) -> Tensor:
        """A_s^(2 q), (source, window, bin), of amplitudes (window, bin) of the windows ``numbers``.

        Amplitudes (source, window, bin) are those of the sources already.
        """
        if amplitudes.ndim == 3:
            return (amplitudes / amplitudes.sum(dim=0).mean(dim=-1, keepdim=True).clamp_min(TINY)).pow(
                2 * self.trust
            )
        shapes = signatures.shapes
        observed = _relative(amplitudes) + FLOOR
        free = torch.ones(len(amplitudes), len(shapes), device=amplitudes.device)
        if signatures.windows is not None:
            free = (numbers[:, None] - signatures.windows).abs().gt(signatures.apart).to(free)
            free = torch.where(free.any(dim=1, keepdim=True), free, 1.0)

        def gradient(logarithms: Tensor) -> Tensor:
            held = free * logarithms.exp()  # (window, signature)
            return held * ((1 - observed / (held @ shapes + FLOOR)) @ shapes.T / shapes.shape[1])

        start = torch.full_like(free, 1 / len(shapes)).log()
        held = free * adam(start, gradient, steps=self.steps, rate=0.3).exp()
        parts = torch.stack([(held * share) @ shapes for share in signatures.shares])
        return (parts + FLOOR).pow(2 * self.trust)

    def targets(self, energies: Float[Tensor, "source window bin"]) -> Float[Tensor, "source window bin"]:
        """The shares m_s of (1), with the loudness smoothed over the windows that are there."""
        loudness = energies.sum(dim=-1)  # (source, window)
        loudness = loudness / loudness.sum(dim=0).clamp_min(TINY)
        around = self.look_ahead_frames
        smooth = F.avg_pool1d(loudness[:, None], 2 * around + 1, 1, around, count_include_pad=False)[:, 0]
        weighted = energies * (smooth / loudness.clamp_min(FLOOR)).unsqueeze(-1)
        total = weighted.sum(dim=0)
        return torch.where(total > 0, weighted / total.clamp_min(TINY), 1 / len(energies))

    def estimate(
        self,
        mixture: SIGNALS,
        starts: SIGNALS,
        shares: Float[Tensor, "source window bin"],
        signatures: Signatures,
        first: int,
        sample_rate: int,
    ) -> Float[Tensor, "source sample"]:
        """The frames from ``first`` on, as many as have all windows over them in ``shares``."""
        frame, ahead = self.frame_samples(sample_rate), self.window_frames - 1
        end = first + shares.shape[1] - ahead
        filters = mel_filters(shares.shape[2], sample_rate, N_MELS).to(shares)
        fit = _Fit(self, signatures, filters)
        inside = mixture(first, end)[0]
        if self.cells == "bands":
            spectra = self.spectra(mixture(first - ahead, end + ahead)[0], frame)
            given = self.spectra(starts(first - ahead, end + ahead), frame)
            estimates = self._overlap(fit.bands(spectra, given, shares), frame)
        else:
            powers = self.spectra(mixture(first - ahead, end + ahead)[0], frame).abs().square()
            loud = (shares * powers).sum(dim=-1).unfold(-1, self.window_frames, 1).sum(dim=-1)
            whole = powers.sum(dim=-1).unfold(-1, self.window_frames, 1).sum(dim=-1)
            target = torch.where(whole > 0, loud / whole.clamp_min(TINY**2), 1 / len(shares))
            estimates = fit.frames(split(inside, frame), split(starts(first, end), frame), target).flatten(1)
        estimates = fit.rematched(estimates, frame) if self.rematch else estimates
        return make_consistent(estimates, inside)

    def _overlap(self, spectra: Tensor, frame: int) -> Tensor:
        """(source, window, bin) to the samples of those frames that all windows cover."""
        length, ahead = self.window_frames * frame, self.window_frames - 1
        window = torch.hann_window(length, device=spectra.device).sqrt() * 2 / self.window_frames
        samples = torch.fft.irfft(spectra, n=length) * window
        pieces = samples.reshape(*samples.shape[:-1], -1, frame)  # (source, window, frame, sample)
        n_frames = spectra.shape[1] - ahead
        # Frame t is the last of window t, the one before of window t + 1, and so on.
        frames = torch.stack([pieces[:, k : k + n_frames, ahead - k] for k in range(ahead + 1)])
        return frames.sum(dim=0).flatten(1)


class _Fit:
    """The descent of some frames, at the level of the mixture in each cell."""

    def __init__(self, settings: EnergyDescent, signatures: Signatures, filters: Tensor) -> None:
        self.settings, self.filters = settings, filters
        self.mfcc = mfcc(signatures.powers, filters)[:, None]  # (source, 1, coefficient)
        self.centroid = centroid(signatures.powers)[:, None]

    def bands(self, mixture: Tensor, starts: Tensor, shares: Tensor) -> Tensor:
        """Complex (window, bin), (source, window, bin), and shares: to spectra (source, window, bin)."""
        level = mixture.abs()
        powers = _relative(level).square()
        # Cells in which the mixture is nothing beside the start can't be fitted from it: at most 4 times.
        gains = (starts.abs() / level.clamp_min(TINY)).clamp_max(4.0)
        gains = self.descend(gains, shares, lambda x: x.square() * powers, one_cell=False)
        if self.settings.subtract:
            gains = (1 - gains.square().sum(dim=0) + gains.square()).clamp_min(SPECTRAL_FLOOR).sqrt()
        if self.settings.normalise:
            gains = gains / gains.square().sum(dim=0).clamp_min(TINY).sqrt()
        return torch.polar(gains * level, starts.angle())

    def frames(self, mixture: Tensor, starts: Tensor, shares: Tensor) -> Tensor:
        """(frame, sample), (source, frame, sample) and shares (source, frame), to (source, frame, sample)."""
        level = energy(mixture).sqrt().unsqueeze(-1)  # (frame, 1)
        n_fft = 2 * (self.filters.shape[0] - 1)
        unit, samples = mixture / level.clamp_min(TINY), mixture.shape[-1]
        x = starts / level.clamp_min(TINY) * (level > 0)
        x = self.descend(x, shares.unsqueeze(-1), lambda x: _powers(x, n_fft), one_cell=True)
        if self.settings.subtract:
            powers, spectrum = _powers(x, n_fft), torch.fft.rfft(unit, n=n_fft)
            whole = spectrum.abs().square()
            left = torch.maximum(whole - powers.sum(dim=0) + powers, SPECTRAL_FLOOR * whole).sqrt()
            x = torch.fft.irfft(torch.polar(left, spectrum.angle().expand_as(left)), n=n_fft)[..., :samples]
        if self.settings.normalise:
            x = x / energy(x).sum(dim=0).clamp_min(TINY).sqrt().unsqueeze(-1)
        return x * level

    def descend(
        self, start: Tensor, target: Tensor, powers: Callable[[Tensor], Tensor], *, one_cell: bool
    ) -> Tensor:
        """Adam on L and (2) of each frame; one_cell: a frame is one cell, else each value."""
        axis = -2 if one_cell else -1  # (source, frame, cell, number)

        def gradient(x: Tensor) -> Tensor:
            slope = energy_gradient(x.unsqueeze(axis), target).reshape(x.shape)
            return slope + self._slope_of_terms(x, powers)

        def settled(x: Tensor) -> Tensor:
            return energy_loss(x.unsqueeze(axis), target).amax(dim=-1) < SETTLED

        rate, steps = self.settings.rate, self.settings.steps
        return adam(start, gradient, steps=steps, rate=rate, settled=None if self._has_terms() else settled)

    def terms(self, x: Tensor, powers: Callable[[Tensor], Tensor]) -> Tensor:
        """What (2) adds to the loss of each frame, (source, frame)."""
        weights, spectrum = self.settings, powers(x)
        return (
            weights.mfcc * (1 - correlation(mfcc(spectrum, self.filters), self.mfcc))
            + weights.l2 * x.square().sum(dim=-1)
            + weights.shape * x.diff(dim=-1).square().sum(dim=-1)
            + weights.centroid * (centroid(spectrum) - self.centroid).square()
        )

    def _has_terms(self) -> bool:
        return any((self.settings.mfcc, self.settings.l2, self.settings.shape, self.settings.centroid))

    def _slope_of_terms(self, x: Tensor, powers: Callable[[Tensor], Tensor]) -> Tensor | float:
        if not self._has_terms():
            return 0.0
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.terms(point, powers).sum(), point)
        return torch.nan_to_num(slope)

    def rematched(self, estimates: Tensor, frame: int) -> Tensor:
        """(source, sample), with each 100 ms in the order that fits the sources' MFCCs best."""
        n_samples = estimates.shape[-1]
        segments = split(estimates, SEGMENT_FRAMES * frame)  # (source, segment, sample)
        n_fft = 2 * (self.filters.shape[0] - 1)
        powers = _powers(split(segments, frame), n_fft).mean(dim=-2)  # (source, segment, bin)
        fits = correlation(
            mfcc(powers, self.filters)[:, None], self.mfcc[None]
        )  # (estimate, source, segment)
        order = best_permutation(fits.permute(2, 0, 1))  # (segment, source)
        places = order.T.unsqueeze(-1).expand_as(segments)
        return segments.gather(0, places).flatten(1)[:, :n_samples]


def _relative(amplitudes: Tensor) -> Tensor:
    """(..., bin) of mean 1; silence stays 0."""
    return amplitudes / amplitudes.mean(dim=-1, keepdim=True).clamp_min(TINY)


def _powers(frames: Tensor, n_fft: int) -> Tensor:
    spectrum: Tensor = torch.fft.rfft(frames, n=n_fft)
    return spectrum.abs().square()


def _between(signal: Tensor, frame: int) -> SIGNALS:
    """Reads (source, time) between two frames, with zeros beyond its ends."""

    def read(first: int, end: int) -> Tensor:
        low, high = first * frame, end * frame
        inside = signal[:, max(0, low) : max(0, high)]
        before = max(0, min(high, 0) - low)
        return F.pad(inside, (before, high - low - before - inside.shape[-1]))

    return read
