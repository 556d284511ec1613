"""Temporal convolutional networks.

Y. Luo, N. Mesgarani, "Conv-TasNet: surpassing ideal time-frequency magnitude masking for speech
separation", TASLP 2019, section II-C and figure 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sepnet.ranges import Depth, LayerSize, NonNegativeInt
from sepnet.types import SepnetError

EPS = 1e-8


class CumulativeNorm(nn.Module):
    """cLN: normalises by the mean and variance of this and all earlier frames (Luo and Mesgarani, eq. 10).

    It computes in float32 also under autocast: in bfloat16 the sums over a long clip swamp later frames.

    Args:
        n_channels: Channels, over all of which the mean and the variance are taken.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_channels, 1))
        self.bias = nn.Parameter(torch.zeros(n_channels, 1))

    def forward(self, x: Float[Tensor, "batch channel frame"]) -> Float[Tensor, "batch channel frame"]:
        """Normalise each frame by the statistics up to it."""
        with torch.autocast(x.device.type, enabled=False):
            frames = torch.arange(1, x.shape[2] + 1, device=x.device)
            mean = x.float().mean(dim=1, keepdim=True).cumsum(dim=2) / frames  # (batch, 1, frame)
            power = x.float().square().mean(dim=1, keepdim=True).cumsum(dim=2) / frames
            scale = (power - mean.square()).clamp_min(0.0).add(EPS).rsqrt()
        return (x - mean.to(x)) * scale.to(x) * self.weight.to(x) + self.bias.to(x)


class PReLU(nn.PReLU):
    """nn.PReLU with a faster backward pass: in bfloat16 on a CPU PyTorch's own takes three times as long."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute max(x, 0) + slope min(x, 0)."""
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        slope = self.weight.to(x)
        return slope * x + (1 - slope) * F.relu(x)


def _norm(n_channels: int, *, causal: bool) -> nn.Module:
    """Make a norm over channels and frames of the whole clip (gLN), or of the past (cLN)."""
    return CumulativeNorm(n_channels) if causal else nn.GroupNorm(1, n_channels, eps=EPS)


class _Conv(nn.Conv1d):
    """A convolution that keeps the number of frames, centred or causal."""

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

    Args:
        n_channels: Channels in and out.
        n_hidden: Channels of the convolution.
        kernel: Taps of the convolution.
        dilation: Frames between two taps.
        separable: Whether the convolution is depthwise, as in Conv-TasNet. Otherwise expansion and dilated
            convolution are one dense convolution: more arithmetic but fewer passes over memory, which suits
            processors with matrix instructions.
        causal: Whether outputs depend on no future frames.
        n_skip: Channels of a skip connection to the output of the network; 0: none.
        last: Whether this is the last block, which with a skip connection has no residual one.
    """

    def __init__(
        self,
        *,
        n_channels: LayerSize,
        n_hidden: LayerSize,
        kernel: LayerSize,
        dilation: int,
        separable: bool,
        causal: bool,
        n_skip: NonNegativeInt = 0,
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

    @property
    def exits(self) -> list[nn.Conv1d]:
        """The convolutions by which the block acts on what follows; where they are zero, it does not."""
        return [conv for conv in (self.residual, self.skip) if conv is not None]

    def forward(
        self, x: Float[Tensor, "batch channel frame"]
    ) -> tuple[Float[Tensor, "batch channel frame"], Float[Tensor, "batch skip frame"] | None]:
        """Return the input plus the residual, and the skip connection if there is one."""
        hidden = self.body(x)
        output = x if self.residual is None else x + self.residual(hidden)
        return output, None if self.skip is None else self.skip(hidden)


class TCN(nn.Module):
    """Repeats of blocks whose dilation doubles from block to block.

    A block with dilation d reaches d (kernel - 1) frames further, so that an output depends on

        1 + n_repeats (2^n_blocks - 1) (kernel - 1)

    frames around it, and on the means and variances of the whole clip.

    Args:
        n_in: Features of a frame.
        n_out: Outputs for a frame.
        n_channels: Channels of the residual path.
        n_hidden: Channels of the dilated convolutions.
        kernel: Taps of the dilated convolutions, an odd number.
        n_blocks: Blocks in a repeat.
        n_repeats: Number of repeats.
        separable: See ``ConvBlock``.
        causal: Whether all frames that an output depends on, also for means and variances, are in the past.
        n_skip: Channels of the paper's skip connections, whose sum the output is then computed from. With 0
            there are none: the output is computed from the last block, to which the residual path also
            carries every block.

    Raises:
        SepnetError: The kernel is even, so that it has no middle.
    """

    def __init__(
        self,
        n_in: LayerSize,
        n_out: LayerSize,
        *,
        n_channels: LayerSize = 192,
        n_hidden: LayerSize = 192,
        kernel: LayerSize = 3,
        n_blocks: Depth = 7,
        n_repeats: Depth = 2,
        separable: bool = False,
        causal: bool = False,
        n_skip: NonNegativeInt = 0,
    ) -> None:
        super().__init__()
        self.causal, self.n_blocks, self.n_repeats = causal, n_blocks, n_repeats
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

    def place(self, name: str, *, n_blocks: int) -> str | None:
        """Translate the name of a tensor of another TCN: a block keeps its repeat, and its place in it.

        Args:
            name: In a TCN with another number of repeats, or of blocks in each.
            n_blocks: The blocks in each of its repeats.

        Returns:
            The name in this network; None: this one has no such block.
        """
        block = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
        if block is None:
            return name
        repeat, number = divmod(int(block[1]), n_blocks)
        if repeat >= self.n_repeats or number >= self.n_blocks:
            return None
        return f"blocks.{repeat * self.n_blocks + number}.{block[2]}"

    def retimed(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate the weights of a centred TCN for a causal one, or the reverse, where this is the other.

        Taps keep their distance from the present. Those that this network does not have are left out, and
        those that the other did not have are zero. Norms keep their scales and offsets.

        Args:
            weights: Those of a TCN whose ``causal`` is not that of this one, by their names in it. Others are
                returned as they are.

        Returns:
            The weights by their names in this network.
        """
        modules, own = dict(self.named_modules()), self.state_dict()
        translated = dict(weights)
        for name, tensor in weights.items():
            module, mine = modules.get(name.rpartition(".")[0]), own.get(name)
            if mine is None or tensor.numel() != mine.numel():
                continue
            if isinstance(module, _Conv) and tensor.shape == mine.shape and tensor.ndim == 3:
                n_past = tensor.shape[-1] // 2
                taps = torch.zeros_like(tensor)
                if self.causal:
                    taps[..., n_past:] = tensor[..., : n_past + 1]
                else:
                    taps[..., : n_past + 1] = tensor[..., n_past:]
                translated[name] = taps
            elif isinstance(module, CumulativeNorm | nn.GroupNorm):
                translated[name] = tensor.reshape(mine.shape)
        return translated

    def forward(self, features: Float[Tensor, "batch n_in frame"]) -> Float[Tensor, "batch n_out frame"]:
        """Compute the outputs of each frame from the receptive field around it."""
        x = self.bottleneck(features)
        skips: list[Tensor] = []
        for block in self.blocks:
            x, skip = block(x)
            skips += [] if skip is None else [skip]
        output: Tensor = self.out(sum(skips[1:], skips[0]) if skips else x)
        return output
