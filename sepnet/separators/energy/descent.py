"""Target energies from signatures, and a descent of the estimates on them; both energy methods use this.

The mixture y is cut into frames of 10 ms, and each is analysed through a window of some frames, Y(t, b). A
signature d_k(b) is the amplitude spectrum of one frame, of mean 1, and belongs by w_sk to source s.

1. Targets (targets.py). The activation of each signature in each frame, h_k(t) >= 0, is found by Adam on
   log h so that R = sum_k h_k d_k fits V = |Y| / mean_b |Y|. A descent on (V - R)^2 would follow the loudest
   bands alone; relative to its level each band has (V - R)^2 / V, the expansion of the Kullback-Leibler
   divergence V log(V / R) - V + R about V = R, which is minimised. With A_s = sum_k w_sk h_k d_k,

       E_s(t, b) = |Y|^2 m_s,    m_s = A_s^(2 q) l_s / sum_r A_r^(2 q) l_r,                            (1)

   so the targets sum to the mixture's energy. q < 1 (``trust``) draws uncertain shares together, and l_s
   brings each source's share of a frame's energy to its mean over the frames within ``look_ahead_frames``.

2. Descent (fit.py). The estimate starts from a given signal, and Adam takes at most ``steps`` steps for
   each frame on sum (E - E^)^2 over its cells (sepnet.dsp.energy, with the gradient in closed form), plus

       a_1 (1 - corr(MFCC of x^, of the signature)) + a_2 sum x^^2 + a_3 sum (x^[n+1] - x^[n])^2
       + a_4 (centroid of x^ - of the signature)^2.                                                    (2)

   Cells: ``frames``, the 10 ms of samples, as in the textbook form, or ``bands``, the bins of a window. An
   energy leaves the phase free, so a band keeps that of the start and moves by its gain alone: x^ = g |Y|,
   and dL/dg is the closed form along that direction. Everything is relative to the mixture's energy in the
   cell, so a level changes nothing.

3. Afterwards, each optional: spectral subtraction (from the mixture's energy, those of the other estimates);
   energy normalisation (the estimates' energies sum to the mixture's); re-matching (each 100 ms go to the
   sources in the order in which their MFCCs fit best). Finally the part of the mixture that the estimates
   lack is shared among them.

Everything but the signatures depends on a few frames around each, so it is computed in blocks of bounded
memory, or frame by frame (sepnet.separators.energy.step), with the same output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from sepnet.dsp.consistency import make_consistent
from sepnet.dsp.energy import split_frames
from sepnet.dsp.mfcc import mel_filters
from sepnet.ranges import NonNegativeFloat, NonNegativeInt, PositiveFloat
from sepnet.separators.energy.fit import N_MELS, SEGMENT_FRAMES, FitSettings, FrameFit
from sepnet.separators.energy.signatures import TINY, Signatures
from sepnet.separators.energy.targets import explain, own_energies, target_shares
from sepnet.types import SepnetError

Cells = Literal["frames", "bands"]
CHUNK_FRAMES = 200 * SEGMENT_FRAMES  # 20 s at a time
MIN_LOUD_ENERGY = 1e-4  # of the loudest window's; windows below it give no signature
FrameReader = Callable[[int, int], Tensor]
"""(first, end) in frames -> (source, sample): a signal between two frames, zero beyond its ends."""


class EnergyDescent:
    """The descent of estimates on target energies; see the module.

    Args:
        cells: Whose energies are fitted: ``bands`` or ``frames``.
        frame_seconds: Length of a frame.
        window_frames: Frames in the window of a spectrum.
        look_ahead_frames: Frames over which loudness is smoothed, ahead and behind.
        trust: q in (1).
        steps: Steps of Adam.
        learning_rate: Step size of Adam, which falls to zero.
        mfcc_weight: a_1 in (2). All four weights cost an automatic gradient where one is not zero.
        l2_weight: a_2.
        smoothness_weight: a_3.
        centroid_weight: a_4.
        subtract: Whether spectral subtraction follows.
        normalise: Whether energy normalisation follows.
        rematch: Whether re-matching follows.

    Raises:
        SepnetError: A setting is out of range.
    """

    def __init__(
        self,
        *,
        cells: Cells = "bands",
        frame_seconds: float = 0.01,
        window_frames: int = 6,
        look_ahead_frames: NonNegativeInt = 4,
        trust: float = 0.75,
        steps: int = 50,
        learning_rate: PositiveFloat = 0.1,
        mfcc_weight: NonNegativeFloat = 0.0,
        l2_weight: NonNegativeFloat = 0.0,
        smoothness_weight: NonNegativeFloat = 0.0,
        centroid_weight: NonNegativeFloat = 0.0,
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
        self.look_ahead_frames, self.trust, self.steps, self.rematch = (
            look_ahead_frames,
            trust,
            steps,
            rematch,
        )
        self.fit_settings = FitSettings(
            steps=steps,
            learning_rate=learning_rate,
            mfcc_weight=mfcc_weight,
            l2_weight=l2_weight,
            smoothness_weight=smoothness_weight,
            centroid_weight=centroid_weight,
            subtract=subtract,
            normalise=normalise,
        )

    @property
    def latency_seconds(self) -> float:
        """How long after its first sample a frame is separated, live: its window and the look-ahead."""
        return self.frame_seconds * (self.window_frames + self.look_ahead_frames)

    def frame_samples(self, sample_rate: int) -> int:
        """Return the number of samples in a frame."""
        return max(2, round(self.frame_seconds * sample_rate))

    def spectra(self, signal: Float[Tensor, "*source sample"], frame_samples: int) -> Tensor:
        """Return the complex spectra (*source, window, bin) of the windows within whole frames."""
        length = self.window_frames * frame_samples
        window = torch.hann_window(length, device=signal.device).sqrt()
        windows: Tensor = signal.unfold(-1, length, frame_samples)
        if not windows.numel():  # MKL refuses to transform no windows
            return torch.complex(windows, windows).new_zeros(*windows.shape[:-1], length // 2 + 1)
        spectra: Tensor = torch.fft.rfft(windows * window)
        return spectra

    def loud_windows(
        self, signal: Float[Tensor, " time"], frame_samples: int, max_windows: int
    ) -> tuple[Float[Tensor, "window bin"], Int[Tensor, " window"]]:
        """Find the windows of a signal that hold sound.

        Args:
            signal: The signal; its level does not matter.
            frame_samples: Samples in a frame.
            max_windows: Of more windows, evenly spaced ones are returned.

        Returns:
            Their amplitude spectra at a level of their own, and their numbers: window t ends with frame t.
        """
        beyond, length = (self.window_frames - 1) * frame_samples, self.window_frames * frame_samples
        signal = signal / signal.abs().max().clamp_min(TINY)
        padded = F.pad(signal, (beyond, beyond + -len(signal) % frame_samples))
        windows = padded.unfold(0, length, frame_samples)  # (window, sample), a view
        blocks = (self.spectra(block, frame_samples)[:, 0] for block in torch.split(windows, CHUNK_FRAMES))
        energies = torch.cat([block.abs().square().sum(dim=1) for block in blocks])
        loud = (energies > MIN_LOUD_ENERGY * energies.max()).nonzero().flatten()
        n_kept = min(max_windows, len(loud))
        kept = torch.linspace(0, len(loud) - 1, n_kept, device=signal.device).round().long()
        return self.spectra(windows[loud[kept]], frame_samples)[:, 0].abs(), loud[kept]

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
        """Separate a whole recording.

        Args:
            signal: The mixture.
            signatures: The sources' signatures.
            sample_rate: In Hz.
            starts: The signals from which the descent starts.
            aligned: Whether the starts are estimates already, whose own energies are the targets.
        """
        peak = signal.abs().max().clamp_min(TINY)  # so that a level does not even change the rounding
        signal, starts = signal / peak, starts / peak
        frame, n_sources = self.frame_samples(sample_rate), len(signatures.shares)
        n_frames = -(-len(signal) // frame)
        read_mixture, read_starts = _reader(signal[None], frame), _reader(starts, frame)
        around, ahead = self.look_ahead_frames, self.window_frames - 1
        parts = []
        for first in range(0, n_frames, CHUNK_FRAMES):
            end = min(first + CHUNK_FRAMES, n_frames)
            low, high = max(0, first - around), min(n_frames + ahead, end + ahead + around)
            if aligned:
                amplitudes = self.spectra(read_starts(low - ahead, high), frame).abs()
                energies = own_energies(amplitudes, trust=self.trust)
            else:
                amplitudes = self.spectra(read_mixture(low - ahead, high), frame).abs()[0]
                energies = self.explain(amplitudes, signatures, torch.arange(low, high, device=signal.device))
            shares = self.target_shares(energies)[:, first - low :][:, : end - first + ahead]
            parts.append(self.estimate(read_mixture, read_starts, shares, signatures, first, sample_rate))
        estimates = torch.cat(parts, dim=-1)[:, : len(signal)]
        return peak * (estimates if n_sources > 1 else signal[None])

    def explain(
        self,
        amplitudes: Float[Tensor, "window bin"],
        signatures: Signatures,
        windows: Int[Tensor, " window"],
    ) -> Float[Tensor, "source window bin"]:
        """Return A_s^(2 q) of each source; see ``sepnet.separators.energy.targets.explain``."""
        return explain(amplitudes, signatures, windows, trust=self.trust, steps=self.steps)

    def target_shares(
        self, energies: Float[Tensor, "source window bin"]
    ) -> Float[Tensor, "source window bin"]:
        """Return the shares m_s of (1)."""
        return target_shares(energies, look_ahead_frames=self.look_ahead_frames)

    def estimate(
        self,
        read_mixture: FrameReader,
        read_starts: FrameReader,
        shares: Float[Tensor, "source window bin"],
        signatures: Signatures,
        first: int,
        sample_rate: int,
    ) -> Float[Tensor, "source sample"]:
        """Estimate the frames from ``first`` on, all those whose windows lie in ``shares``."""
        frame, ahead = self.frame_samples(sample_rate), self.window_frames - 1
        end = first + shares.shape[1] - ahead
        fit = FrameFit(
            self.fit_settings, signatures, mel_filters(shares.shape[2], sample_rate, N_MELS).to(shares)
        )
        inside = read_mixture(first, end)[0]
        spectra = self.spectra(read_mixture(first - ahead, end + ahead)[0], frame)
        if self.cells == "bands":
            starts = self.spectra(read_starts(first - ahead, end + ahead), frame)
            estimates = self._overlap_add(fit.bands(spectra, starts, shares), frame)
        else:
            powers = spectra.abs().square()
            source_energy = (shares * powers).sum(dim=-1).unfold(-1, self.window_frames, 1).sum(dim=-1)
            total = powers.sum(dim=-1).unfold(-1, self.window_frames, 1).sum(dim=-1)
            target = torch.where(total > 0, source_energy / total.clamp_min(TINY**2), 1 / len(shares))
            frames = fit.frames(
                split_frames(inside, frame), split_frames(read_starts(first, end), frame), target
            )
            estimates = frames.flatten(1)
        estimates = fit.rematch(estimates, frame) if self.rematch else estimates
        return make_consistent(estimates, inside)

    def _overlap_add(self, spectra: Tensor, frame: int) -> Tensor:
        """(source, window, bin) to the samples of those frames that all windows cover."""
        length, ahead = self.window_frames * frame, self.window_frames - 1
        window = torch.hann_window(length, device=spectra.device).sqrt() * 2 / self.window_frames
        samples = torch.fft.irfft(spectra, n=length) * window
        pieces = samples.reshape(*samples.shape[:-1], -1, frame)  # (source, window, frame, sample)
        n_frames = spectra.shape[1] - ahead
        # Frame t is the last of window t, the one before of window t + 1, and so on.
        frames = torch.stack([pieces[:, k : k + n_frames, ahead - k] for k in range(ahead + 1)])
        return frames.sum(dim=0).flatten(1)


def _reader(signal: Float[Tensor, "source time"], frame_samples: int) -> FrameReader:
    """Make a function that reads a signal between two frames, with zeros beyond its ends."""

    def read(first: int, end: int) -> Tensor:
        low, high = first * frame_samples, end * frame_samples
        inside = signal[:, max(0, low) : max(0, high)]
        before = max(0, min(high, 0) - low)
        return F.pad(inside, (before, high - low - before - inside.shape[-1]))

    return read
