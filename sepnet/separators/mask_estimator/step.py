"""The causal mask estimator hop by hop, as one function of tensors (``model=pit_causal``).

Frame t of the filterbank (window W, hop H) ends with the samples of hop t. With r = W / H,

    hop t and the r - 1 hops before it -> analysis -> level and features -> network -> masks
      -> synthesis, added to the overlap of earlier frames -> the hop that no later frame covers,

which is hop t - (r - 1): with the hop itself a latency of r H = W samples. Where H does not divide W, windows
are padded with zeros in front, and r is rounded up.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sepnet.dsp.consistency import make_consistent
from sepnet.dsp.features import SILENT_RMS
from sepnet.dsp.filterbank import Filterbank, LearnedFilterbank
from sepnet.networks.tcn import TCN
from sepnet.networks.tcn_step import TCNStep
from sepnet.separators.frame_stream import State, overlap_add, padded_filters, sliding_windows
from sepnet.separators.mask_estimator.masking import Masking


class MaskEstimatorStep(nn.Module):
    """Hops in, hops out, state in, state out: pure, real, of fixed sizes; fit for torch.export and ONNX.

    ``MaskEstimator.live_step`` makes one that shares the weights of the model.

    Args:
        filterbank: Analysis and synthesis.
        network: A causal network.
        masking: Features and masks of the network.
        n_sources: Number of outputs.
        sample_rate: In Hz.
        consistent: Whether the estimates are made to sum to the mixture.

    Attributes:
        hop_samples: Samples in a hop.
        lag_samples: How many samples the output lags behind the input; the first ``lag_samples`` of output
            carry no signal.
        state_names: The names of the state's tensors, in order.
    """

    analysis: Tensor
    synthesis: Tensor

    def __init__(
        self,
        *,
        filterbank: Filterbank,
        network: TCN,
        masking: Masking,
        n_sources: int,
        sample_rate: int,
        consistent: bool,
    ) -> None:
        super().__init__()
        self.network, self.masking = TCNStep(network), masking
        self.n_sources, self.sample_rate, self.consistent = n_sources, sample_rate, consistent
        self.rectified = isinstance(filterbank, LearnedFilterbank) and filterbank.rectified
        self.hop_samples = filterbank.hop_samples
        self.n_hops = -(-filterbank.window_samples // filterbank.hop_samples)  # r
        self.lag_samples = (self.n_hops - 1) * self.hop_samples
        analysis, synthesis = padded_filters(filterbank)
        self.register_buffer("analysis", analysis, persistent=False)
        self.register_buffer("synthesis", synthesis, persistent=False)
        self.state_names = (
            *("n_frames", "power", "past", "overlap", "sums"),
            *(f"history_{k}" for k in range(len(self.network.histories))),
        )

    def initial_state(self) -> tuple[Tensor, ...]:
        """Return the state before any input.

        Returns:
            n_frames (1,) and power (1,), the number of frames so far and the sum of their powers, both in
            float64; past (1, lag), the last samples of input; overlap (1, source, lag), what the frames so
            far add to samples to come; then the state of the network.
        """
        like = self.analysis
        n_frames = torch.zeros(1, dtype=torch.float64, device=like.device)
        past = like.new_zeros(1, self.lag_samples)
        overlap = like.new_zeros(1, self.n_sources, self.lag_samples)
        return n_frames, n_frames.clone(), past, overlap, *self.network.initial_state()

    def forward(
        self,
        block: Float[Tensor, "1 time"],
        n_frames: Float[Tensor, " 1"],
        power: Float[Tensor, " 1"],
        past: Float[Tensor, "1 lag"],
        overlap: Float[Tensor, "1 source lag"],
        *network: Tensor,
    ) -> tuple[Tensor, ...]:
        """Separate one hop or several.

        Returns:
            Estimates (1, source, time), ``lag_samples`` late, and the new state.
        """
        time = block.shape[1]
        signal = torch.cat([past, block], dim=1)  # (1, lag + time)
        analysis = (
            sliding_windows(signal, self.hop_samples, self.n_hops) @ self.analysis.T
        )  # (frame, channel)
        if self.rectified:
            analysis = analysis.relu()
        counts = n_frames + torch.arange(1, len(analysis) + 1, dtype=torch.float64, device=n_frames.device)
        powers = power + analysis.square().sum(dim=1).double().cumsum(dim=0)  # (frame,)
        rms = (powers / counts / (analysis.shape[1] // 2 - 1)).sqrt().to(analysis)
        level = torch.where(rms > SILENT_RMS, rms, torch.ones_like(rms))
        features = self.masking.features_of((analysis / level[:, None]).T[None])[0].T  # (frame, n_in)
        output, *network_state = self.network(features, counts, *network)
        logits = output.T.unflatten(0, (self.n_sources, -1))[None]  # (1, source, mask, frame)
        masked = self.masking.apply(logits, analysis.T[None, None])[0]  # (source, channel, frame)
        pieces = masked.transpose(1, 2) @ self.synthesis  # (source, frame, window)
        summed = overlap_add(pieces, self.hop_samples, self.n_hops)[None] + F.pad(overlap, (0, time))
        sources = summed[:, :, :time]
        if self.consistent:
            sources = make_consistent(sources, signal[:, :time])
        return sources, counts[-1:], powers[-1:], signal[:, time:], summed[:, :, time:], *network_state


class MaskEstimatorStream:
    """The step as a FrameStream (sepnet.separators.frame_stream).

    Args:
        module: The step, in evaluation mode.
        labels: The labels of its outputs.
    """

    def __init__(self, module: MaskEstimatorStep, labels: tuple[str, ...] | None) -> None:
        self.module, self.labels = module, labels
        self.sample_rate, self.n_sources = module.sample_rate, module.n_sources
        self.hop_samples, self.lag_samples = module.hop_samples, module.lag_samples

    def initial_state(self) -> State:
        """Return the state before any input."""
        return self.module.initial_state()

    def step(self, hops: Float[Tensor, " time"], state: State) -> tuple[Tensor, State]:
        """Separate hops (time,): estimates (source, time) and the new state."""
        sources, *new = self.module(hops[None].to(self.module.analysis), *state)
        return sources[0].to(hops), tuple(new)

    def flush(self, state: State) -> Tensor:
        """Return the remaining (source, lag_samples), which silence pushes out."""
        if not self.lag_samples:
            return torch.zeros(self.n_sources, 0)
        return self.step(torch.zeros(self.lag_samples), state)[0]
