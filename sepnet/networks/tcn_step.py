"""A causal TCN some frames at a time, with what it has heard in tensors of fixed size.

It computes what sepnet.networks.tcn.TCN does over the whole clip:

    dilated convolutions   keep the last d (kernel - 1) frames that came in;
    cumulative norms       keep the sums over all frames of the mean and of the mean square of the channels.

The sums are float64: in float32 those of an hour would add each frame with five digits less. Frames are rows
here, and convolutions are products of matrices: for one frame that takes a tenth of the time.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sepnet.networks.tcn import EPS, TCN, ConvBlock, CumulativeNorm
from sepnet.types import SepnetError


class TCNStep(nn.Module):
    """Frames in, frames out, state in, state out: no memory of its own. It shares the network's weights.

    The state is (sums, history of each dilated convolution, in order): ``initial_state``. Raises
    SepnetError for a network that is not causal.
    """

    def __init__(self, network: TCN) -> None:
        super().__init__()
        if not network.causal:
            raise SepnetError("a network that sees frames to come can't go by frames: set network.causal")
        self.network = network
        modules = list(network.modules())
        self.n_norms = sum(isinstance(module, CumulativeNorm) for module in modules)
        convolutions = [module for module in modules if isinstance(module, nn.Conv1d)]
        reaches = [(each.in_channels, each.dilation[0] * (each.kernel_size[0] - 1)) for each in convolutions]
        self.histories = [(reach, channels) for channels, reach in reaches if reach > 0]

    def initial_state(self) -> tuple[Tensor, ...]:
        """That of nothing heard: sums (norm, 2) in float64, and the histories (frame, channel)."""
        like = next(self.parameters())
        sums = torch.zeros(self.n_norms, 2, dtype=torch.float64, device=like.device)
        return sums, *(like.new_zeros(shape) for shape in self.histories)

    def forward(
        self,
        features: Float[Tensor, "frame n_in"],
        counts: Float[Tensor, " frame"],
        sums: Float[Tensor, "norm 2"],
        *histories: Tensor,
    ) -> tuple[Tensor, ...]:
        """The outputs (frame, n_out), then the new state. counts: the number of each frame, from 1."""
        run = _Run(counts, sums, histories)
        x = run.through(self.network.bottleneck, features)
        skipped: list[Tensor] = []
        for block in self.network.blocks:
            assert isinstance(block, ConvBlock)
            hidden = run.through(block.body, x)
            skipped += [] if block.skip is None else [run.through([block.skip], hidden)]
            x = x if block.residual is None else x + run.through([block.residual], hidden)
        summed = sum(skipped[1:], skipped[0]) if skipped else x
        output = run.through(self.network.out, summed)
        return output, torch.stack(run.new_sums), *run.new_histories


class _Run:
    """One pass, in the course of which the old state is used up and the new one comes together."""

    def __init__(self, counts: Tensor, sums: Tensor, histories: tuple[Tensor, ...]) -> None:
        self.counts, self.sums, self.histories = counts[:, None], sums, histories
        self.new_sums: list[Tensor] = []
        self.new_histories: list[Tensor] = []

    def through(self, layers: Iterable[nn.Module], x: Tensor) -> Tensor:
        """(frame, channel) through the layers, one after the other."""
        for layer in layers:
            if isinstance(layer, CumulativeNorm):
                x = self._normalised(layer, x)
            elif isinstance(layer, nn.Conv1d):
                x = self._convolved(layer, x)
            else:
                assert isinstance(layer, nn.PReLU)
                x = F.prelu(x, layer.weight)
        return x

    def _normalised(self, norm: CumulativeNorm, x: Tensor) -> Tensor:
        means = torch.stack([x.mean(dim=1), x.square().mean(dim=1)], dim=1)  # (frame, 2)
        sums = self.sums[len(self.new_sums)] + means.double().cumsum(dim=0)
        self.new_sums.append(sums[-1])
        mean, power = torch.split(sums / self.counts, 1, dim=1)  # (frame, 1) each
        scale = (power - mean.square()).clamp_min(0.0).add(EPS).rsqrt()
        return torch.addcmul(norm.bias[:, 0], (x - mean.to(x)) * scale.to(x), norm.weight[:, 0])

    def _convolved(self, layer: nn.Conv1d, x: Tensor) -> Tensor:
        (kernel,), (dilation,), n_frames = layer.kernel_size, layer.dilation, x.shape[0]
        if kernel == 1:
            return F.linear(x, layer.weight[:, :, 0], layer.bias)
        heard = torch.cat([self.histories[len(self.new_histories)], x])
        self.new_histories.append(heard[n_frames:])
        taps = torch.stack(
            [heard[k * dilation : k * dilation + n_frames] for k in range(kernel)], dim=2
        )  # (frame, channel, tap)
        if layer.groups == 1:
            return F.linear(taps.flatten(1), layer.weight.flatten(1), layer.bias)
        each = (taps * layer.weight[:, 0]).sum(dim=2)  # a channel apart from the others
        return each if layer.bias is None else each + layer.bias
