"""Temporal convolutional networks.

Y. Luo, N. Mesgarani, "Conv-TasNet: surpassing ideal time-frequency magnitude masking for speech
separation", TASLP 2019, section II-C and figure 1.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from sepnet.types import SepnetError


class ConvBlock(nn.Module):
    """One residual block: expand, normalise, convolve with a dilation, normalise, contract.

    ``separable``: the convolution runs on each channel apart, as in Conv-TasNet. Otherwise expansion
    and dilated convolution are one dense convolution: more arithmetic but fewer passes over memory,
    which is what a processor with matrix instructions wants.
    """

    def __init__(
        self, *, n_channels: int, n_hidden: int, kernel: int, dilation: int, separable: bool
    ) -> None:
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        if separable:
            expand: list[nn.Module] = [
                nn.Conv1d(n_channels, n_hidden, 1),
                nn.PReLU(),
                nn.GroupNorm(1, n_hidden, eps=1e-8),
                nn.Conv1d(n_hidden, n_hidden, kernel, padding=padding, dilation=dilation, groups=n_hidden),
            ]
        else:
            expand = [nn.Conv1d(n_channels, n_hidden, kernel, padding=padding, dilation=dilation)]
        self.body = nn.Sequential(*expand, nn.PReLU(), nn.GroupNorm(1, n_hidden, eps=1e-8))
        self.residual = nn.Conv1d(n_hidden, n_channels, 1)

    def forward(self, x: Float[Tensor, "batch channel frame"]) -> Float[Tensor, "batch channel frame"]:
        """The input plus what the block adds."""
        added: Tensor = self.residual(self.body(x))
        return x + added


class TCN(nn.Module):
    """Repeats of blocks whose dilation doubles from block to block.

    A block with dilation d reaches d (kernel - 1) frames further, so that an output sees

        1 + n_repeats (2^n_blocks - 1) (kernel - 1)

    frames around it, and of the whole clip the means and variances. Raises SepnetError for an even
    kernel, which has no middle.

    Departs from the paper in having no skip connections beside the residual ones: the output is read
    from the last block, and the residual path already carries every block there.
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
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise SepnetError(f"kernel is {kernel}, but has to be odd: take {kernel - 1} or {kernel + 1}")
        self.bottleneck = nn.Sequential(nn.GroupNorm(1, n_in, eps=1e-8), nn.Conv1d(n_in, n_channels, 1))
        self.blocks = nn.Sequential(
            *(
                ConvBlock(
                    n_channels=n_channels,
                    n_hidden=n_hidden,
                    kernel=kernel,
                    dilation=2**block,
                    separable=separable,
                )
                for _ in range(n_repeats)
                for block in range(n_blocks)
            )
        )
        self.out = nn.Sequential(nn.PReLU(), nn.Conv1d(n_channels, n_out, 1))

    def forward(self, features: Float[Tensor, "batch n_in frame"]) -> Float[Tensor, "batch n_out frame"]:
        """One output vector a frame, from the receptive field around it."""
        output: Tensor = self.out(self.blocks(self.bottleneck(features)))
        return output
