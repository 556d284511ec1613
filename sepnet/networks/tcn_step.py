"""A causal TCN a few frames at a time, with its past in tensors of fixed size.

It computes the same as sepnet.networks.tcn.TCN over the whole clip:

    dilated convolutions   keep their last d (kernel - 1) input frames;
    cumulative norms       keep the sums over all frames of the mean and of the mean square of the channels.

The sums are float64: in float32, after an hour, a frame would be added with five digits less. Frames are rows
here, and convolutions are matrix products: for a single frame that takes a tenth of the time.
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
    """Frames in, frames out, state in, state out: it has no memory of its own.

    The state is (sums, history of each dilated convolution, in order); see ``initial_state``.

    Args:
        network: A causal network, whose weights are shared.

    Raises:
        SepnetError: The network is not causal.
    """

    def __init__(self, network: TCN) -> None:
        super().__init__()
        if not network.causal:
            raise SepnetError(
                "a network that uses future frames can't run frame by frame: set network.causal=true"
            )
        self.network = network
        modules = list(network.modules())
        self.n_norms = sum(isinstance(module, CumulativeNorm) for module in modules)
        convolutions = [module for module in modules if isinstance(module, nn.Conv1d)]
        shapes = [(conv.dilation[0] * (conv.kernel_size[0] - 1), conv.in_channels) for conv in convolutions]
        self.histories = [(n_frames, n_channels) for n_frames, n_channels in shapes if n_frames > 0]

    def initial_state(self) -> tuple[Tensor, ...]:
        """Return the state before any input: sums (norm, 2), float64, and histories (frame, channel)."""
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
        """Compute the outputs (frame, n_out), and after them the new state.

        Args:
            features: The next frames.
            counts: The number of each frame since the beginning, from 1.
            sums: The state of the norms.
            histories: The states of the dilated convolutions.
        """
        run = _Run(counts, sums, histories)
        x = run.through(self.network.bottleneck, features)
        skips: list[Tensor] = []
        for block in self.network.blocks:
            assert isinstance(block, ConvBlock)
            hidden = run.through(block.body, x)
            skips += [] if block.skip is None else [run.through([block.skip], hidden)]
            x = x if block.residual is None else x + run.through([block.residual], hidden)
        summed = sum(skips[1:], skips[0]) if skips else x
        output = run.through(self.network.out, summed)
        return output, torch.stack(run.new_sums), *run.new_histories


class _Run:
    """One pass, which reads the old state and collects the new one."""

    def __init__(self, counts: Tensor, sums: Tensor, histories: tuple[Tensor, ...]) -> None:
        self.counts, self.sums, self.histories = counts[:, None], sums, histories
        self.new_sums: list[Tensor] = []
        self.new_histories: list[Tensor] = []

    def through(self, layers: Iterable[nn.Module], x: Tensor) -> Tensor:
        """Apply layers to (frame, channel), one after another."""
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
        frames = torch.cat([self.histories[len(self.new_histories)], x])
        self.new_histories.append(frames[n_frames:])
        taps = torch.stack(
            [frames[k * dilation : k * dilation + n_frames] for k in range(kernel)], dim=2
        )  # (frame, channel, tap)
        if layer.groups == 1:
            return F.linear(taps.flatten(1), layer.weight.flatten(1), layer.bias)
        depthwise = (taps * layer.weight[:, 0]).sum(dim=2)
        return depthwise if layer.bias is None else depthwise + layer.bias
