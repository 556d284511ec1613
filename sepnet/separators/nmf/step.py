"""Online NMF frame by frame (``model=nmf_online``; the mathematics: sepnet.dsp.nmf_online)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sepnet.dsp import nmf_online
from sepnet.dsp.consistency import make_consistent
from sepnet.dsp.filterbank import STFT
from sepnet.dsp.nmf_updates import Divergence
from sepnet.separators.frame_stream import State, overlap_add, padded_filters, sliding_windows

QUIET = 1e-8  # the mean magnitude of a frame, to a power, below which it is silence


@dataclass(frozen=True)
class Dictionaries:
    """spectra: (bin, component), columns of sum 1. sources: (component,), whose each is. n_free: how many,
    the last ones, learn from the frames."""

    spectra: Tensor
    sources: Tensor
    n_free: int


class NMFStream:
    """A FrameStream (sepnet.separators.frame_stream).

    Frames are brought to mean 1, each by its own level. What a frame teaches counts by that level beside the
    mean of all so far, but no more than 1; ``forgetting`` is the factor of the past from frame to frame.

    The state: the number of frames and the sum of their levels in float64; the last samples, and what frames
    so far leave in samples to come; of the free components the dictionary W and the sums A and B.
    """

    def __init__(
        self,
        stft: STFT,
        dictionaries: Dictionaries,
        *,
        sample_rate: int,
        labels: tuple[str, ...] | None,
        divergence: Divergence,
        power: float,
        n_iterations: int,
        mask_exponent: float,
        forgetting: float,
        update_frames: int,
        prior_frames: float,
    ) -> None:
        self.sample_rate, self.labels = sample_rate, labels
        self.hop_samples = stft.hop_samples
        self.n_hops = -(-stft.window_samples // stft.hop_samples)
        self.lag_samples = (self.n_hops - 1) * self.hop_samples
        self.n_sources = int(dictionaries.sources.max()) + 1
        self._analysis, self._synthesis = padded_filters(stft)
        self._dictionaries, self._known = dictionaries, dictionaries.spectra.shape[1] - dictionaries.n_free
        self._member = F.one_hot(dictionaries.sources).float()  # (component, source)
        self._divergence, self._power, self._n_iterations = divergence, power, n_iterations
        self._mask_exponent, self._forgetting = mask_exponent, forgetting
        self._update_frames, self._prior_frames = update_frames, prior_frames

    def initial_state(self) -> State:
        """That of nothing heard; the free components count for ``prior_frames`` frames."""
        W = self._dictionaries.spectra[:, self._known :]
        n_bins, n_components = self._dictionaries.spectra.shape
        B = torch.full_like(W, self._prior_frames * n_bins / n_components)
        A = (W.square() if self._divergence == "itakura_saito" else W) * B
        count = torch.zeros(1, dtype=torch.float64)
        heard = torch.zeros(self.lag_samples)
        return count, count.clone(), heard, torch.zeros(self.n_sources, self.lag_samples), W, A, B

    @torch.no_grad()
    def step(self, hops: Float[Tensor, " time"], state: State) -> tuple[Tensor, State]:
        """Hops (time,) to estimates (source, time) and the new state."""
        count, levels, heard, left, *learnt = state
        signal = torch.cat([heard, hops])
        analysis = (
            sliding_windows(signal[None], self.hop_samples, self.n_hops) @ self._analysis.T
        )  # (frame, channel)
        real, imaginary = analysis.chunk(2, dim=1)
        magnitudes = torch.hypot(real, imaginary).pow(self._power)
        level = magnitudes.mean(dim=1, keepdim=True)
        X = magnitudes / torch.where(level > QUIET**self._power, level, 1.0)  # (frame, bin)
        if self._dictionaries.n_free:
            shares, count, levels, learnt = self._learning(X, level[:, 0], count, levels, learnt)
        else:
            shares = self._shares(X, self._dictionaries.spectra)
        masked = shares.repeat(1, 1, 2) * analysis  # (source, frame, channel)
        whole = overlap_add(masked @ self._synthesis, self.hop_samples, self.n_hops)
        whole = whole + F.pad(left, (0, len(hops)))
        time = len(hops)
        sources = make_consistent(whole[:, :time], signal[:time])
        return sources, (count, levels, signal[time:].clone(), whole[:, time:].clone(), *learnt)

    def flush(self, state: State) -> Tensor:
        """The (source, lag_samples) still owed: silence pushes them out."""
        return self.step(torch.zeros(self.lag_samples), state)[0]

    def _learning(
        self, X: Tensor, level: Tensor, count: Tensor, levels: Tensor, learnt: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Frame after frame, for each is explained by what the ones before have taught."""
        W, A, B = learnt
        shares = []
        for x, loudness in zip(X, level.double(), strict=True):
            spectra = torch.cat([self._dictionaries.spectra[:, : self._known], W], dim=1)
            h = nmf_online.activate(x[None], spectra, self._divergence, self._n_iterations)
            shares.append(self._from(h, spectra))
            count, levels = count + 1, levels + loudness
            weight = (loudness / (levels / count).clamp_min(1e-30)).clamp_max(1.0).to(x)
            a, b = nmf_online.statistics(x, spectra, h[0], self._divergence)
            A = self._forgetting * A + weight * a[:, self._known :]
            B = self._forgetting * B + weight * b[:, self._known :]
            if int(count) % self._update_frames == 0:
                W, A, B = nmf_online.renew(A, B, self._divergence)
        return torch.cat(shares, dim=1), count, levels, [W, A, B]

    def _shares(self, X: Tensor, spectra: Tensor) -> Tensor:
        H = nmf_online.activate(X, spectra, self._divergence, self._n_iterations)
        return self._from(H, spectra)

    def _from(self, H: Tensor, spectra: Tensor) -> Tensor:
        """The sources' shares of the model's power p, (source, frame, bin)."""
        models = (H * self._member.T[:, None]) @ spectra.T + nmf_online.FLOOR  # (source, frame, bin)
        parts = models.pow(self._mask_exponent)
        return parts / parts.sum(dim=0)
