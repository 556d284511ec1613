"""A temporal convolutional network that is conditioned on an example of the target sound, block by block.

E. Perez, F. Strub, H. de Vries, V. Dumoulin, A. Courville, "FiLM: visual reasoning with a general
conditioning layer", AAAI 2018: each channel is scaled and shifted by functions of the condition,

    h <- (1 + gamma(e)) h + beta(e),                                                            (1)

with e the embedding of the example. The blocks are those of sepnet.networks.tcn, dense.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sepnet.networks.tcn import PReLU
from sepnet.ranges import Depth, Dropout, LayerSize


class ExampleEncoder(nn.Module):
    """Embeds an example of any length in (-1, 1) by the mean and the maximum of its features over time.

    Each frame is normalised on its own, and the padding of a batch is held at zero: an example has the same
    embedding in any batch.

    Args:
        n_in: Features of a frame.
        n_out: Dimensions of the embedding.
        n_channels: Channels of the convolutions.
        dropout: Share of the pooled features that training leaves out.
    """

    def __init__(self, n_in: int, n_out: int, *, n_channels: int = 128, dropout: float = 0.1) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv1d(n_channels if index else n_in, n_channels, 3, padding=dilation, dilation=dilation)
            for index, dilation in enumerate((1, 2, 4))
        )
        self.activations = nn.ModuleList(PReLU() for _ in self.convs)
        self.norms = nn.ModuleList(nn.LayerNorm(n_channels) for _ in self.convs)
        self.out = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * n_channels, n_out), nn.Tanh())

    def forward(
        self, features: Float[Tensor, "batch n_in frame"], valid: Bool[Tensor, "batch frame"]
    ) -> Float[Tensor, "batch n_out"]:
        """Embed examples, of which the ``valid`` frames are not padding."""
        mask = valid.unsqueeze(1)
        x = features * mask
        for conv, activation, norm in zip(self.convs, self.activations, self.norms, strict=True):
            x = norm(activation(conv(x)).transpose(1, 2)).transpose(1, 2) * mask  # (batch, channel, frame)
        mean = x.sum(dim=-1) / mask.sum(dim=-1).clamp_min(1)
        highest = x.masked_fill(~mask, -torch.inf).amax(dim=-1)
        embedding: Tensor = self.out(torch.cat([mean, highest], dim=1))
        return embedding


class ConditionedBlock(nn.Module):
    """A residual block: a dilated convolution, a norm, the modulation (1) by the embedding, a contraction.

    Args:
        n_channels: Channels in and out.
        n_embedding: Dimensions of the embedding.
        kernel: Taps of the convolution.
        dilation: Frames between two taps.
        dropout: Share of the channels that training leaves out.
    """

    def __init__(
        self, n_channels: int, n_embedding: int, *, kernel: int, dilation: int, dropout: float
    ) -> None:
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        self.conv = nn.Conv1d(n_channels, n_channels, kernel, padding=padding, dilation=dilation)
        self.body = nn.Sequential(PReLU(), nn.GroupNorm(1, n_channels))
        self.film = nn.Linear(n_embedding, 2 * n_channels)
        self.contract = nn.Sequential(nn.Dropout1d(dropout), nn.Conv1d(n_channels, n_channels, 1))

    def forward(
        self, x: Float[Tensor, "batch channel frame"], embedding: Float[Tensor, "batch embedding"]
    ) -> Float[Tensor, "batch channel frame"]:
        """Add the output of the block to its input."""
        gamma, beta = self.film(embedding).unsqueeze(-1).chunk(2, dim=1)  # (batch, channel, 1) each
        residual: Tensor = self.contract(self.body(self.conv(x)) * (1 + gamma) + beta)
        return x + residual


class ConditionedTCN(nn.Module):
    """Maps the features of a mixture and the embedding of an example to the outputs of each frame.

    It repeats blocks whose dilation doubles. An output depends on 1 + n_repeats (2^n_blocks - 1) (kernel - 1)
    frames around it, and on the means and variances of the whole clip.

    Args:
        n_in: Features of a frame.
        n_out: Outputs for a frame.
        n_embedding: Dimensions of the embedding.
        n_channels: Channels of the blocks.
        kernel: Taps of the dilated convolutions.
        n_blocks: Blocks in a repeat.
        n_repeats: Number of repeats.
        dropout: Share of the channels that training leaves out.
    """

    def __init__(
        self,
        n_in: LayerSize,
        n_out: LayerSize,
        *,
        n_embedding: LayerSize,
        n_channels: LayerSize = 128,
        kernel: LayerSize = 3,
        n_blocks: Depth = 6,
        n_repeats: Depth = 2,
        dropout: Dropout = 0.1,
    ) -> None:
        super().__init__()
        self.bottleneck = nn.Sequential(nn.GroupNorm(1, n_in), nn.Conv1d(n_in, n_channels, 1))
        self.blocks = nn.ModuleList(
            ConditionedBlock(n_channels, n_embedding, kernel=kernel, dilation=2**block, dropout=dropout)
            for _ in range(n_repeats)
            for block in range(n_blocks)
        )
        self.out = nn.Sequential(PReLU(), nn.Conv1d(n_channels, n_out, 1))

    def forward(
        self, features: Float[Tensor, "batch n_in frame"], embedding: Float[Tensor, "batch n_embedding"]
    ) -> Float[Tensor, "batch n_out frame"]:
        """Compute the outputs of each frame."""
        x = self.bottleneck(features)
        for block in self.blocks:
            x = block(x, embedding)
        output: Tensor = self.out(x)
        return output
