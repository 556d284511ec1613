"""The energy descent frame by frame (``model=energy_live``): hops of one frame, the output that of the whole.

A frame waits for the windows over it and for the look-ahead of the loudness: with the frame itself

    latency = (window_frames + look_ahead_frames) frame_seconds.

Signatures are of examples, or of an earlier recording: they can't be had from what has not yet been heard.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sepnet.separators.energy.descent import EnergyDescent, Signatures
from sepnet.separators.frame_stream import State
from sepnet.types import CannotSeparate


class EnergyStream:
    """A FrameStream (sepnet.separators.frame_stream) under given signatures; it starts from the mixture.

    The state: how many frames were heard; the samples of the last of them, that outputs still due hang on;
    and of their windows what ``EnergyDescent.explain`` made of them (source, window, bin).

    Raises CannotSeparate for settings that re-match segments, which needs the whole segment.
    """

    def __init__(
        self,
        descent: EnergyDescent,
        signatures: Signatures,
        sample_rate: int,
        labels: tuple[str, ...] | None = None,
    ) -> None:
        if descent.rematch:
            raise CannotSeparate(
                "re-matching waits for whole segments: set descent.rematch to false to go live"
            )
        self.descent, self.signatures = descent, signatures
        self.sample_rate, self.labels = sample_rate, labels
        self.n_sources = len(signatures.shares)
        self.hop_samples = descent.frame_samples(sample_rate)
        self._ahead, self._around = descent.window_frames - 1, descent.look_ahead_frames
        self._wait = self._ahead + self._around
        self.lag_samples = self._wait * self.hop_samples

    def initial_state(self) -> State:
        """That of nothing heard."""
        heard = torch.zeros((self._wait + self._ahead) * self.hop_samples)
        n_windows, n_bins = self._ahead + 2 * self._around, self.signatures.shapes.shape[1]
        return torch.zeros(1, dtype=torch.int64), heard, torch.zeros(self.n_sources, n_windows, n_bins)

    @torch.no_grad()
    def step(self, hops: Float[Tensor, " time"], state: State) -> tuple[Tensor, State]:
        """Frames (time,) to estimates (source, time) and the new state."""
        count, heard, energies = state
        signal, energies = self._hear(hops, state)
        first, n_new = int(count) - self._wait, len(hops) // self.hop_samples
        estimates = self._give(signal, energies, first, first + n_new, int(count) + n_new)
        kept = energies[:, energies.shape[1] - state[2].shape[1] :].clone()
        return estimates, (count + n_new, signal[len(signal) - len(heard) :].clone(), kept)

    @torch.no_grad()
    def flush(self, state: State) -> Tensor:
        """The (source, lag_samples) still owed: silence follows, but no window lies in silence alone."""
        signal, energies = self._hear(torch.zeros(self._ahead * self.hop_samples), state)
        last = int(state[0])
        return self._give(signal, energies, last - self._wait, last, last + self._ahead)

    def _hear(self, hops: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """What was heard and explained so far, with the hops."""
        count, heard, energies = state
        signal = torch.cat([heard, hops])
        frames = signal[len(heard) - self._ahead * self.hop_samples :]
        amplitudes = self.descent.spectra(frames, self.hop_samples).abs()  # (window, bin)
        numbers = int(count) + torch.arange(len(amplitudes))
        new = self.descent.explain(amplitudes, self.signatures, numbers)
        return signal, torch.cat([energies, new], dim=1)

    def _give(self, signal: Tensor, energies: Tensor, first: int, end: int, n_windows: int) -> Tensor:
        """The frames from ``first`` up to ``end``, zeros for those before the recording.

        Of n_windows so far, ``energies`` are the last, as ``signal`` ends with the last.
        """
        frame, begin = self.hop_samples, max(0, first)
        if end <= begin:
            return torch.zeros(self.n_sources, (end - first) * frame)
        low, high = max(0, begin - self._around), min(n_windows, end + self._ahead + self._around)
        oldest = n_windows - energies.shape[1]  # the number of the first window that is kept
        known = energies[:, low - oldest : high - oldest]
        shares = self.descent.targets(known)[:, begin - low : end + self._ahead - low]
        base = n_windows - len(signal) // frame  # the number of the first frame that is kept

        def between(first: int, end: int) -> Tensor:
            return signal[None, (first - base) * frame : (end - base) * frame]

        estimates = self.descent.estimate(
            between,
            lambda first, end: between(first, end).expand(self.n_sources, -1),
            shares,
            self.signatures,
            begin,
            self.sample_rate,
        )
        return F.pad(estimates, ((begin - first) * frame, 0))
