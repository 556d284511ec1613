"""Temporal convolutional networks.

Y. Luo, N. Mesgarani, "Conv-TasNet: surpassing ideal time-frequency magnitude masking for speech
separation", TASLP 2019, section II-C and figure 1.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sepnet.types import SepnetError

EPS = 1e-8


class CumulativeNorm(nn.Module):
    """cLN: mean and variance of all channels in this and all earlier frames (Luo and Mesgarani, eq. 10).

    In float32 also under autocast: sums over a long clip would drown later frames in bfloat16.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_channels, 1))
        self.bias = nn.Parameter(torch.zeros(n_channels, 1))

    def forward(self, x: Float[Tensor, "batch channel frame"]) -> Float[Tensor, "batch channel frame"]:
        """The frames, each normalised by what was heard up to it."""
        with torch.autocast(x.device.type, enabled=False):
            frames = torch.arange(1, x.shape[2] + 1, device=x.device)
            mean = x.float().mean(dim=1, keepdim=True).cumsum(dim=2) / frames  # (batch, 1, frame)
            power = x.float().square().mean(dim=1, keepdim=True).cumsum(dim=2) / frames
            scale = (power - mean.square()).clamp_min(0.0).add(EPS).rsqrt()
        return (x - mean.to(x)) * scale.to(x) * self.weight.to(x) + self.bias.to(x)


class PReLU(nn.PReLU):
    """nn.PReLU, whose backward pass in bfloat16 on a CPU takes three times that of the sum here."""

    def forward(self, x: Tensor) -> Tensor:
        """max(x, 0) + slope min(x, 0)."""
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        slope = self.weight.to(x)
        return slope * x + (1 - slope) * F.relu(x)


def _norm(n_channels: int, *, causal: bool) -> nn.Module:
    """Over channels and frames: of the whole clip (gLN), or of what was heard so far (cLN)."""
    return CumulativeNorm(n_channels) if causal else nn.GroupNorm(1, n_channels, eps=EPS)


class _Conv(nn.Conv1d):
    """As many frames out as in: an output sees as many frames on either side, or earlier ones alone."""

    def __init__(
        self, n_in: int, n_out: int, kernel: int, *, dilation: int, causal: bool, groups: int = 1
    ) -> None:
        self.reach = dilation * (kernel - 1)
        super().__init__(
            n_in,
            n_out,
            kernel,
            padding=0 if causal else self.reach // 2,
            dilation=dilation,
            groups=groups,
        )
        self.causal = causal

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (self.reach, 0)) if self.causal else x)


class ConvBlock(nn.Module):
    """One residual block: expand, normalise, convolve with a dilation, normalise, contract.

    ``separable``: the convolution runs on each channel apart, as in Conv-TasNet. Otherwise expansion
    and dilated convolution are one dense convolution: more arithmetic but fewer passes over memory,
    which is what a processor with matrix instructions wants. ``n_skip``: channels of a second way out,
    past all later blocks; 0: none. ``last``: a block with that way out that has no first one.
    """

    def __init__(
        self,
        *,
        n_channels: int,
        n_hidden: int,
        kernel: int,
        dilation: int,
        separable: bool,
        causal: bool,
        n_skip: int = 0,
        last: bool = False,
    ) -> None:
        super().__init__()
        if separable:
            expand: list[nn.Module] = [
                nn.Conv1d(n_channels, n_hidden, 1),
                PReLU(),
                _norm(n_hidden, causal=causal),
                _Conv(n_hidden, n_hidden, kernel, dilation=dilation, causal=causal, groups=n_hidden),
            ]
        else:
            expand = [_Conv(n_channels, n_hidden, kernel, dilation=dilation, causal=causal)]
        self.body = nn.Sequential(*expand, PReLU(), _norm(n_hidden, causal=causal))
        self.residual = None if n_skip and last else nn.Conv1d(n_hidden, n_channels, 1)
        self.skip = nn.Conv1d(n_hidden, n_skip, 1) if n_skip else None

    def forward(
        self, x: Float[Tensor, "batch channel frame"]
    ) -> tuple[Float[Tensor, "batch channel frame"], Float[Tensor, "batch skip frame"] | None]:
        """The input plus what the block adds, and what it sends past the later ones."""
        hidden = self.body(x)
        onward = x if self.residual is None else x + self.residual(hidden)
        return onward, None if self.skip is None else self.skip(hidden)


class TCN(nn.Module):
    """Repeats of blocks whose dilation doubles from block to block.

    A block with dilation d reaches d (kernel - 1) frames further, so that an output sees

        1 + n_repeats (2^n_blocks - 1) (kernel - 1)

    frames around it, and of the whole clip the means and variances; ``causal``: all that reach, and the
    means and variances, lie in the past. Raises SepnetError for an even kernel, which has no middle.

    n_skip: of the paper's skip connections, whose sum the output is then read from. With 0 there are none:
    it is read from the last block, where the residual path carries every block, too.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        n_channels: int = 128,
        n_hidden: int = 256,
        kernel: int = 3,
        n_blocks: int = 8,
        n_repeats: int = 3,
        separable: bool = True,
        causal: bool = False,
        n_skip: int = 0,
    ) -> None:
        super().__init__()
        self.causal = causal
        if kernel % 2 == 0:
            raise SepnetError(f"kernel is {kernel}, but has to be odd: take {kernel - 1} or {kernel + 1}")
        self.bottleneck = nn.Sequential(_norm(n_in, causal=causal), nn.Conv1d(n_in, n_channels, 1))
        dilations = [2**block for block in range(n_blocks)] * n_repeats
        self.blocks = nn.ModuleList(
            [
                ConvBlock(
                    n_channels=n_channels,
                    n_hidden=n_hidden,
                    kernel=kernel,
                    dilation=dilation,
                    separable=separable,
                    causal=causal,
                    n_skip=n_skip,
                    last=number == len(dilations),
                )
                for number, dilation in enumerate(dilations, start=1)
            ]
        )
        self.out = nn.Sequential(PReLU(), nn.Conv1d(n_skip or n_channels, n_out, 1))

    def forward(self, features: Float[Tensor, "batch n_in frame"]) -> Float[Tensor, "batch n_out frame"]:
        """One output vector a frame, from the receptive field around it."""
        x = self.bottleneck(features)
        skipped: list[Tensor] = []
        for block in self.blocks:
            x, skip = block(x)
            skipped += [] if skip is None else [skip]
        output: Tensor = self.out(sum(skipped[1:], skipped[0]) if skipped else x)
        return output
