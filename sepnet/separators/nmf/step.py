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

SILENT_MAGNITUDE = 1e-8  # a frame whose mean magnitude is below this is silence
MIN_LEVEL = 1e-30  # the smallest mean level that is divided by


@dataclass(frozen=True)
class Dictionaries:
    """The spectra of all sources.

    Attributes:
        spectra: (bin, component), columns of sum 1.
        sources: The source of each component, (component,).
        n_free: How many components, the last ones, are learnt from the frames.
    """

    spectra: Tensor
    sources: Tensor
    n_free: int


class NMFStream:
    """Online NMF as a FrameStream (sepnet.separators.frame_stream).

    Each frame is brought to mean 1. Its weight in learning is its level over the mean level so far, at
    most 1.

    The state: the number of frames and the sum of their levels in float64; the last samples of input, and
    what the frames so far add to samples to come; of the free components the dictionary W and the sums A
    and B.

    Args:
        stft: The transform.
        dictionaries: The spectra of the sources.
        sample_rate: In Hz.
        labels: The labels of the sources.
        divergence: What the activations minimise.
        power: The magnitudes to this power are explained.
        n_iterations: Iterations for each frame.
        mask_exponent: The exponent of the models in the masks.
        forgetting: By which the past is multiplied from frame to frame.
        update_frames: The free dictionary is renewed once in so many frames.
        prior_frames: How many frames its start counts as.
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
        self._dictionaries = dictionaries
        self._n_fixed = dictionaries.spectra.shape[1] - dictionaries.n_free
        self._member = F.one_hot(dictionaries.sources).float()  # (component, source)
        self._divergence, self._power, self._n_iterations = divergence, power, n_iterations
        self._mask_exponent, self._forgetting = mask_exponent, forgetting
        self._update_frames, self._prior_frames = update_frames, prior_frames

    def initial_state(self) -> State:
        """Return the state before any input; the free components count as ``prior_frames`` frames."""
        W = self._dictionaries.spectra[:, self._n_fixed :]
        n_bins, n_components = self._dictionaries.spectra.shape
        B = torch.full_like(W, self._prior_frames * n_bins / n_components)
        A = (W.square() if self._divergence == "itakura_saito" else W) * B
        n_frames = torch.zeros(1, dtype=torch.float64)
        past = torch.zeros(self.lag_samples)
        return n_frames, n_frames.clone(), past, torch.zeros(self.n_sources, self.lag_samples), W, A, B

    @torch.no_grad()
    def step(self, hops: Float[Tensor, " time"], state: State) -> tuple[Tensor, State]:
        """Separate hops (time,): estimates (source, time) and the new state."""
        n_frames, levels, past, overlap, *learnt = state
        signal = torch.cat([past, hops])
        analysis = (
            sliding_windows(signal[None], self.hop_samples, self.n_hops) @ self._analysis.T
        )  # (frame, channel)
        real, imaginary = analysis.chunk(2, dim=1)
        magnitudes = torch.hypot(real, imaginary).pow(self._power)
        level = magnitudes.mean(dim=1, keepdim=True)
        X = magnitudes / torch.where(level > SILENT_MAGNITUDE**self._power, level, 1.0)  # (frame, bin)
        if self._dictionaries.n_free:
            shares, n_frames, levels, learnt = self._learn(X, level[:, 0], n_frames, levels, learnt)
        else:
            shares = self._shares(X, self._dictionaries.spectra)
        masked = shares.repeat(1, 1, 2) * analysis  # (source, frame, channel)
        summed = overlap_add(masked @ self._synthesis, self.hop_samples, self.n_hops)
        summed = summed + F.pad(overlap, (0, len(hops)))
        time = len(hops)
        sources = make_consistent(summed[:, :time], signal[:time])
        return sources, (n_frames, levels, signal[time:].clone(), summed[:, time:].clone(), *learnt)

    def flush(self, state: State) -> Tensor:
        """Return the remaining (source, lag_samples), which silence pushes out."""
        return self.step(torch.zeros(self.lag_samples), state)[0]

    def _learn(
        self, X: Tensor, level: Tensor, n_frames: Tensor, levels: Tensor, learnt: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Explain frame after frame, each with the dictionary that the frames before it gave."""
        W, A, B = learnt
        shares = []
        for x, loudness in zip(X, level.double(), strict=True):
            spectra = torch.cat([self._dictionaries.spectra[:, : self._n_fixed], W], dim=1)
            h = nmf_online.activate(x[None], spectra, self._divergence, self._n_iterations)
            shares.append(self._model_shares(h, spectra))
            n_frames, levels = n_frames + 1, levels + loudness
            weight = (loudness / (levels / n_frames).clamp_min(MIN_LEVEL)).clamp_max(1.0).to(x)
            a, b = nmf_online.frame_statistics(x, spectra, h[0], self._divergence)
            A = self._forgetting * A + weight * a[:, self._n_fixed :]
            B = self._forgetting * B + weight * b[:, self._n_fixed :]
            if int(n_frames) % self._update_frames == 0:
                W, A, B = nmf_online.update_dictionary(A, B, self._divergence)
        return torch.cat(shares, dim=1), n_frames, levels, [W, A, B]

    def _shares(self, X: Tensor, spectra: Tensor) -> Tensor:
        H = nmf_online.activate(X, spectra, self._divergence, self._n_iterations)
        return self._model_shares(H, spectra)

    def _model_shares(self, H: Tensor, spectra: Tensor) -> Tensor:
        """The sources' shares of the model's power p, (source, frame, bin)."""
        models = (H * self._member.T[:, None]) @ spectra.T + nmf_online.FLOOR  # (source, frame, bin)
        parts = models.pow(self._mask_exponent)
        return parts / parts.sum(dim=0)
