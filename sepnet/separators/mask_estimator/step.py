"""The causal mask estimator hop by hop, as one function of tensors (``model=pit_causal``).

Frame t of the filterbank (window W, hop H) ends with the samples of hop t. With r = W / H,

    hop t and the r - 1 hops before it -> analysis -> level and features -> network -> masks
      -> synthesis, added to what earlier frames left -> the hop that no later frame covers,

which is hop t - (r - 1): with the hop itself a latency of r H = W samples. Where H does not divide W, windows
are filled up with zeros in front, and r is rounded up.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sepnet.dsp.consistency import make_consistent
from sepnet.dsp.features import SILENT_RMS
from sepnet.networks.tcn import TCN
from sepnet.networks.tcn_step import TCNStep
from sepnet.separators.frame_stream import State, overlap_add, padded_filters, sliding_windows
from sepnet.separators.mask_estimator.model import MaskEstimator
from sepnet.types import CannotSeparate


class MaskEstimatorStep(nn.Module):
    """Hops in, hops out, state in, state out: pure, real, of fixed sizes; fit for torch.export and ONNX.

    hop_samples: of a hop; sample_rate: in Hz. lag_samples: how far the output lies behind the input; what
    comes out before the first sample of the mixture (the first ``lag_samples``) stands for nothing.
    state_names: of the tensors of the state, in order. It shares the weights of the estimator.

    Raises CannotSeparate for an estimator that waits for what is still to come.
    """

    analysis: Tensor
    synthesis: Tensor

    def __init__(self, estimator: MaskEstimator) -> None:
        super().__init__()
        check(estimator)
        assert isinstance(estimator.network, TCN)
        self.estimator, self.network = estimator, TCNStep(estimator.network)
        bank = estimator.filterbank
        self.hop_samples, self.sample_rate = bank.hop_samples, estimator.sample_rate
        self.n_hops = -(-bank.window_samples // bank.hop_samples)  # r
        self.lag_samples = (self.n_hops - 1) * self.hop_samples
        self.n_sources = estimator.n_outputs
        analysis, synthesis = padded_filters(bank)
        self.register_buffer("analysis", analysis, persistent=False)
        self.register_buffer("synthesis", synthesis, persistent=False)
        self.state_names = (
            *("count", "power", "heard", "left", "sums"),
            *(f"history_{k}" for k in range(len(self.network.histories))),
        )

    def initial_state(self) -> tuple[Tensor, ...]:
        """That of nothing heard.

        count (1,), of frames, and power (1,), the sum of theirs, both in float64; heard (1, lag), the last
        samples; left (1, source, lag), what frames so far leave in samples to come; then the network's.
        """
        like = self.analysis
        count = torch.zeros(1, dtype=torch.float64, device=like.device)
        heard = like.new_zeros(1, self.lag_samples)
        left = like.new_zeros(1, self.n_sources, self.lag_samples)
        return count, count.clone(), heard, left, *self.network.initial_state()

    def forward(
        self,
        block: Float[Tensor, "1 time"],
        count: Float[Tensor, " 1"],
        power: Float[Tensor, " 1"],
        heard: Float[Tensor, "1 lag"],
        left: Float[Tensor, "1 source lag"],
        *network: Tensor,
    ) -> tuple[Tensor, ...]:
        """One hop, or several, to estimates (1, source, time), ``lag_samples`` late, and the new state."""
        time = block.shape[1]
        signal = torch.cat([heard, block], dim=1)  # (1, lag + time)
        analysis = (
            sliding_windows(signal, self.hop_samples, self.n_hops) @ self.analysis.T
        )  # (frame, channel)
        if getattr(self.estimator.filterbank, "rectified", False):
            analysis = analysis.relu()
        counts = count + torch.arange(1, len(analysis) + 1, dtype=torch.float64, device=count.device)
        powers = power + analysis.square().sum(dim=1).double().cumsum(dim=0)  # (frame,)
        rms = (powers / counts / (analysis.shape[1] // 2 - 1)).sqrt().to(analysis)
        level = torch.where(rms > SILENT_RMS, rms, torch.ones_like(rms))
        features = self.estimator.features_of((analysis / level[:, None]).T[None])[0].T  # (frame, n_in)
        output, *network_state = self.network(features, counts, *network)
        logits = output.T.unflatten(0, (self.n_sources, -1))[None]  # (1, source, mask, frame)
        masked = self.estimator.mask(logits, analysis.T[None, None])[0]  # (source, channel, frame)
        pieces = masked.transpose(1, 2) @ self.synthesis  # (source, frame, window)
        whole = overlap_add(pieces, self.hop_samples, self.n_hops)[None] + F.pad(left, (0, time))
        sources = whole[:, :, :time]
        if self.estimator.consistent:
            sources = make_consistent(sources, signal[:, :time])
        return sources, counts[-1:], powers[-1:], signal[:, time:], whole[:, :, time:], *network_state


class MaskEstimatorStream:
    """The step as a FrameStream (sepnet.separators.frame_stream)."""

    def __init__(self, estimator: MaskEstimator) -> None:
        self.module = MaskEstimatorStep(estimator).eval()
        self.sample_rate, self.n_sources = self.module.sample_rate, self.module.n_sources
        self.hop_samples, self.lag_samples = self.module.hop_samples, self.module.lag_samples
        self.labels = estimator.labels

    def initial_state(self) -> State:
        """That of nothing heard."""
        return self.module.initial_state()

    def step(self, hops: Float[Tensor, " time"], state: State) -> tuple[Tensor, State]:
        """Hops (time,) to estimates (source, time) and the new state."""
        sources, *new = self.module(hops[None].to(self.module.analysis), *state)
        return sources[0].to(hops), tuple(new)

    def flush(self, state: State) -> Tensor:
        """The (source, lag_samples) still owed: silence pushes them out, if there are any."""
        if not self.lag_samples:
            return torch.zeros(self.n_sources, 0)
        return self.step(torch.zeros(self.lag_samples), state)[0]


def check(estimator: MaskEstimator) -> None:
    """Raises CannotSeparate, with what to take instead, for what waits for the end of the recording."""
    network, source_count = estimator.network, estimator.source_count
    reasons: Sequence[tuple[bool, str]] = (
        (estimator.level != "running", "it brings the whole recording to unit level first (level=whole)"),
        (not (isinstance(network, TCN) and network.causal), "its network sees frames to come"),
        (
            source_count != "fixed",
            f"it counts the sources of the whole recording (source_count={source_count})",
        ),
        (estimator.activation == "mapping", "a mapping is no mask: of silence it may make sound"),
    )
    for applies, reason in reasons:
        if applies:
            raise CannotSeparate(f"this model can't go live, for {reason}: take pit-causal-2spk-8k")
