"""A temporal convolutional network that an example of the wanted sound conditions, block by block.

E. Perez, F. Strub, H. de Vries, V. Dumoulin, A. Courville, "FiLM: visual reasoning with a general
conditioning layer", AAAI 2018: each channel is scaled and shifted by what the condition says,

    h <- (1 + gamma(e)) h + beta(e),                                                            (1)

with e the embedding of the example. The blocks are those of sepnet.networks.tcn, dense.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sepnet.networks.tcn import PReLU


class ExampleEncoder(nn.Module):
    """An embedding in (-1, 1) of an example of any length: mean and maximum of its features over time.

    Frames are normalised each for itself, and those that fill up a batch are held at zero: an example has the
    same embedding in any batch.
    """

    def __init__(self, n_in: int, n_out: int, *, n_channels: int = 128, dropout: float = 0.1) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv1d(n_channels if place else n_in, n_channels, 3, padding=dilation, dilation=dilation)
            for place, dilation in enumerate((1, 2, 4))
        )
        self.activations = nn.ModuleList(PReLU() for _ in self.convs)
        self.norms = nn.ModuleList(nn.LayerNorm(n_channels) for _ in self.convs)
        self.out = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * n_channels, n_out), nn.Tanh())

    def forward(
        self, features: Float[Tensor, "batch n_in frame"], there: Bool[Tensor, "batch frame"]
    ) -> Float[Tensor, "batch n_out"]:
        """``there``: the frames that belong to the example."""
        mask = there.unsqueeze(1)
        x = features * mask
        for conv, activation, norm in zip(self.convs, self.activations, self.norms, strict=True):
            x = norm(activation(conv(x)).transpose(1, 2)).transpose(1, 2) * mask  # (batch, channel, frame)
        mean = x.sum(dim=-1) / mask.sum(dim=-1).clamp_min(1)
        highest = x.masked_fill(~mask, -torch.inf).amax(dim=-1)
        embedding: Tensor = self.out(torch.cat([mean, highest], dim=1))
        return embedding


class ConditionedBlock(nn.Module):
    """A residual block: a dilated convolution, normalised, modulated by the embedding (1), contracted."""

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
        """As many frames as there were."""
        gamma, beta = self.film(embedding).unsqueeze(-1).chunk(2, dim=1)  # (batch, channel, 1) each
        residual: Tensor = self.contract(self.body(self.conv(x)) * (1 + gamma) + beta)
        return x + residual


class ConditionedTCN(nn.Module):
    """Features of a mixture and an embedding of what is wanted to an output for each frame.

    Repeats of blocks whose dilation doubles; an output sees 1 + n_repeats (2^n_blocks - 1) (kernel - 1)
    frames around it, and of the whole clip the means and variances. dropout: of channels.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        n_embedding: int,
        n_channels: int = 128,
        kernel: int = 3,
        n_blocks: int = 6,
        n_repeats: int = 2,
        dropout: float = 0.1,
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
        """One output vector a frame."""
        x = self.bottleneck(features)
        for block in self.blocks:
            x = block(x, embedding)
        output: Tensor = self.out(x)
        return output
