"""The energy descent frame by frame, as samples come in; the output is that of the whole at once."""

from __future__ import annotations

import torch
from torch import Tensor

from sepnet.separators.energy_descent import EnergyDescent, Signatures
from sepnet.types import SepnetError


class Stream:
    """Frames in, frames out, ``descent.latency_seconds`` after the first sample of each.

    signatures: known beforehand, of queries or of an earlier recording: they can't be had from what has
    not yet been heard. The latency is the frame, the windows over it, and the look-ahead of the loudness:
    with frames of 10 ms, 6 to a window and 4 to look ahead, 10 + 50 + 40 = 100 ms. The estimate starts from
    the mixture. Raises SepnetError for settings that re-match segments, which needs the whole segment.
    """

    def __init__(self, descent: EnergyDescent, signatures: Signatures, sample_rate: int) -> None:
        if descent.rematch:
            raise SepnetError("re-matching waits for whole segments: set rematch to false to go by frames")
        self.descent, self.signatures, self.sample_rate = descent, signatures, sample_rate
        self.frame_samples = descent.frame_samples(sample_rate)
        self._n_pushed = self._n_given = 0
        self._frames: dict[int, Tensor] = {}  # those still needed, by number
        self._energies: dict[int, Tensor] = {}  # (source, 1, bin) of the windows still needed

    @torch.no_grad()
    def push(self, frame: Tensor) -> Tensor | None:
        """A frame (sample,) of the mixture; returns one of the estimates (source, sample), or None yet.

        Raises SepnetError for another length.
        """
        if frame.shape != (self.frame_samples,):
            raise SepnetError(
                f"a frame has {self.frame_samples} samples, but this is {tuple(frame.shape)}: "
                "fill the last one up with zeros"
            )
        self._hear(frame)
        wait = self.descent.window_frames - 1 + self.descent.look_ahead_frames
        return self._give(self._n_pushed - 1) if self._n_given < self._n_pushed - wait else None

    @torch.no_grad()
    def finish(self) -> Tensor:
        """The frames still owed, (source, samples), after the last one."""
        last = self._n_pushed
        for _ in range(self.descent.window_frames - 1):
            self._hear(torch.zeros(self.frame_samples, device=self.signatures.shapes.device))
        owed = [self._give(self._n_pushed - 1) for _ in range(last - self._n_given)]
        nothing = self.signatures.shares.new_zeros(len(self.signatures.shares), 0)
        return torch.cat([nothing, *owed], dim=1)

    def _hear(self, frame: Tensor) -> None:
        number = self._n_pushed
        self._frames[number] = frame
        self._n_pushed += 1
        signal = self._between(number - self.descent.window_frames + 1, number + 1)[0]
        amplitudes = self.descent.spectra(signal, self.frame_samples).abs()  # (1, bin)
        numbers = torch.tensor([number], device=frame.device)
        self._energies[number] = self.descent.explain(amplitudes, self.signatures, numbers)

    def _give(self, last_window: int) -> Tensor:
        number, descent = self._n_given, self.descent
        ahead, around = descent.window_frames - 1, descent.look_ahead_frames
        low, high = max(0, number - around), min(last_window, number + ahead + around)
        energies = torch.cat([self._energies[window] for window in range(low, high + 1)], dim=1)
        shares = descent.targets(energies)[:, number - low : number - low + ahead + 1]
        n_sources = len(self.signatures.shares)
        estimate = descent.estimate(
            self._between,
            lambda first, end: self._between(first, end).expand(n_sources, -1),
            shares,
            self.signatures,
            number,
            self.sample_rate,
        )
        self._n_given += 1
        self._frames.pop(number - ahead, None)
        self._energies.pop(number - around, None)
        return estimate

    def _between(self, first: int, end: int) -> Tensor:
        silence = torch.zeros(self.frame_samples, device=self.signatures.shapes.device)
        return torch.cat([self._frames.get(number, silence) for number in range(first, end)])[None]
