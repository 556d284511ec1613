"""The energy descent frame by frame (``model=energy_live``): hops of one frame, the output that of the whole.

A frame waits for the windows over it and for the look-ahead of the loudness: with the frame itself

    latency = (window_frames + look_ahead_frames) frame_seconds.

Signatures are those of examples, or of an earlier recording: a stream can't learn them from its future.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sepnet.separators.energy.descent import EnergyDescent
from sepnet.separators.energy.signatures import Signatures
from sepnet.separators.frame_stream import State
from sepnet.types import CannotSeparate


class EnergyStream:
    """A FrameStream (sepnet.separators.frame_stream) under given signatures; it starts from the mixture.

    The state: the number of frames so far; their last samples, on which future outputs depend; and what
    ``EnergyDescent.explain`` found in their last windows, (source, window, bin).

    Args:
        descent: The descent.
        signatures: The sources' signatures.
        sample_rate: In Hz.
        labels: The labels of the sources.

    Raises:
        CannotSeparate: The descent re-matches segments, which needs whole segments.
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
        self._lag_frames = self._ahead + self._around
        self.lag_samples = self._lag_frames * self.hop_samples

    def initial_state(self) -> State:
        """Return the state before any input."""
        past = torch.zeros((self._lag_frames + self._ahead) * self.hop_samples)
        n_windows, n_bins = self._ahead + 2 * self._around, self.signatures.shapes.shape[1]
        return torch.zeros(1, dtype=torch.int64), past, torch.zeros(self.n_sources, n_windows, n_bins)

    @torch.no_grad()
    def step(self, hops: Float[Tensor, " time"], state: State) -> tuple[Tensor, State]:
        """Separate frames (time,): estimates (source, time) and the new state."""
        n_frames, past, old_energies = state
        signal, energies = self._analyse(hops, state)
        first, n_new = int(n_frames) - self._lag_frames, len(hops) // self.hop_samples
        estimates = self._estimate(signal, energies, first, first + n_new, int(n_frames) + n_new)
        kept = energies[:, energies.shape[1] - old_energies.shape[1] :].clone()
        return estimates, (n_frames + n_new, signal[len(signal) - len(past) :].clone(), kept)

    @torch.no_grad()
    def flush(self, state: State) -> Tensor:
        """Return the remaining (source, lag_samples): silence follows, but no window lies in it alone."""
        signal, energies = self._analyse(torch.zeros(self._ahead * self.hop_samples), state)
        n_frames = int(state[0])
        return self._estimate(signal, energies, n_frames - self._lag_frames, n_frames, n_frames + self._ahead)

    def _analyse(self, hops: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """Append hops to the kept samples, and the energies of their windows to the kept energies."""
        n_frames, past, energies = state
        signal = torch.cat([past, hops])
        frames = signal[len(past) - self._ahead * self.hop_samples :]
        amplitudes = self.descent.spectra(frames, self.hop_samples).abs()  # (window, bin)
        windows = int(n_frames) + torch.arange(len(amplitudes))
        new = self.descent.explain(amplitudes, self.signatures, windows)
        return signal, torch.cat([energies, new], dim=1)

    def _estimate(self, signal: Tensor, energies: Tensor, first: int, end: int, n_windows: int) -> Tensor:
        """Estimate the frames from ``first`` up to ``end``, zeros for those before the recording.

        ``energies`` are the last of ``n_windows`` windows so far, and ``signal`` ends with the last of them.
        """
        frame, begin = self.hop_samples, max(0, first)
        if end <= begin:
            return torch.zeros(self.n_sources, (end - first) * frame)
        low, high = max(0, begin - self._around), min(n_windows, end + self._ahead + self._around)
        oldest_window = n_windows - energies.shape[1]
        available = energies[:, low - oldest_window : high - oldest_window]
        shares = self.descent.target_shares(available)[:, begin - low : end + self._ahead - low]
        oldest_frame = n_windows - len(signal) // frame

        def read(first: int, end: int) -> Tensor:
            return signal[None, (first - oldest_frame) * frame : (end - oldest_frame) * frame]

        estimates = self.descent.estimate(
            read,
            lambda first, end: read(first, end).expand(self.n_sources, -1),
            shares,
            self.signatures,
            begin,
            self.sample_rate,
        )
        return F.pad(estimates, ((begin - first) * frame, 0))
