"""SepFormer: transformers within chunks, then across them.

C. Subakan, M. Ravanelli, S. Cornell, M. Bronzi, J. Zhong, "Attention is all you need in speech separation",
ICASSP 2021, section 2 and figure 2; as in speechbrain, whose weights it takes.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sepnet.networks.dual_path import GatedOutput, along_steps, check_chunks, cut_chunks, n_sources_of
from sepnet.ranges import Depth, Dropout, LayerSize
from sepnet.types import SepnetError

GLOBAL_EPS = 1e-8
LAYER_EPS = 1e-6
WAVELENGTH_BASE = 10_000.0  # of the positional encoding: the longest wavelength is 2 pi times it
Steps = Float[Tensor, "batch step channel"]


class SepFormer(nn.Module):
    """Masks by transformers that run within chunks of frames and across the chunks alternately.

    Args:
        n_in: Features of a frame.
        n_out: Outputs for a frame, n_in for each source.
        n_channels: Channels of the transformers; even.
        n_hidden: Units of the feed-forward layers.
        n_heads: Attention heads.
        n_layers: Layers of each transformer, within and across.
        chunk_frames: Frames of a chunk; even.
        n_blocks: How many times it runs within and across the chunks.
        dropout: Share of the units that are left out in training.
        positions: Whether positions within chunks, and those of chunks, are encoded by sinusoids.
        skip_within: Whether the transformer within chunks has a residual connection around it.

    Raises:
        SepnetError: Sizes don't fit together.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        n_channels: LayerSize = 256,
        n_hidden: LayerSize = 1024,
        n_heads: LayerSize = 8,
        n_layers: Depth = 8,
        chunk_frames: LayerSize = 250,
        n_blocks: Depth = 2,
        dropout: Dropout = 0.0,
        positions: bool = True,
        skip_within: bool = True,
    ) -> None:
        super().__init__()
        check_chunks(chunk_frames)
        if n_channels % n_heads or n_channels % 2:
            raise SepnetError(
                f"n_channels={n_channels} and n_heads={n_heads}: channels have to be even and a multiple of "
                "the heads"
            )
        self.chunk_frames, self.skip_within = chunk_frames, skip_within
        self.bottleneck = nn.Sequential(
            nn.GroupNorm(1, n_in, eps=GLOBAL_EPS), nn.Conv1d(n_in, n_channels, 1, bias=False)
        )

        def transformers() -> nn.ModuleList:
            return nn.ModuleList(
                [
                    Transformer(n_channels, n_hidden, n_heads, n_layers, dropout=dropout, positions=positions)
                    for _ in range(n_blocks)
                ]
            )

        def norms() -> nn.ModuleList:
            return nn.ModuleList([nn.GroupNorm(1, n_channels, eps=GLOBAL_EPS) for _ in range(n_blocks)])

        self.within, self.within_norms = transformers(), norms()
        self.across, self.across_norms = transformers(), norms()
        self.out = GatedOutput(
            n_channels=n_channels, n_gated=n_channels, n_features=n_in, n_sources=n_sources_of(n_in, n_out)
        )

    def forward(self, features: Float[Tensor, "batch n_in frame"]) -> Float[Tensor, "batch n_out frame"]:
        """Compute the outputs of each frame from the whole clip."""
        n_frames, half = features.shape[-1], self.chunk_frames // 2
        # Both lanes of chunks, of which one begins half a chunk later, are filled up to a whole chunk.
        gap = self.chunk_frames - (half + n_frames) % self.chunk_frames
        x = cut_chunks(
            self.bottleneck(features),
            chunk_frames=self.chunk_frames,
            hop_frames=half,
            before=half,
            after=half + gap,
        )
        for within, within_norm, across, across_norm in zip(
            self.within, self.within_norms, self.across, self.across_norms, strict=True
        ):
            new = within_norm(along_steps(within, x))
            x = x + new if self.skip_within else new
            x = x + across_norm(along_steps(across, x.transpose(2, 3)).transpose(2, 3))
        masks: Tensor = self.out(x, hop_frames=half, before=half, n_frames=n_frames)
        return masks


class Transformer(nn.Module):
    """A stack of layers of self-attention, over positions that are encoded first.

    Args:
        n_channels: Channels.
        n_hidden: Units of the feed-forward layers.
        n_heads: Attention heads.
        n_layers: How many layers.
        dropout: Share of the units that are left out in training.
        positions: Whether sinusoids of the position are added to the input.
    """

    def __init__(
        self, n_channels: int, n_hidden: int, n_heads: int, n_layers: int, *, dropout: float, positions: bool
    ) -> None:
        super().__init__()
        self.positions = positions
        self.layers = nn.ModuleList(
            [TransformerLayer(n_channels, n_hidden, n_heads, dropout=dropout) for _ in range(n_layers)]
        )
        self.norm = nn.LayerNorm(n_channels, eps=LAYER_EPS)

    def forward(self, x: Steps) -> Steps:
        """Transform each step by all steps."""
        if self.positions:
            x = x + encode_positions(x.shape[1], x.shape[2]).to(x)
        for layer in self.layers:
            x = layer(x)
        normed: Tensor = self.norm(x)
        return normed


class TransformerLayer(nn.Module):
    """Self-attention and a feed-forward layer, each normalised before and with a residual connection.

    Args:
        n_channels: Channels.
        n_hidden: Units of the feed-forward layer.
        n_heads: Attention heads.
        dropout: Share of the units that are left out in training.
    """

    def __init__(self, n_channels: int, n_hidden: int, n_heads: int, *, dropout: float) -> None:
        super().__init__()
        self.n_heads, self.dropout = n_heads, dropout
        self.attention_norm = nn.LayerNorm(n_channels, eps=LAYER_EPS)
        self.projections = nn.Linear(n_channels, 3 * n_channels)  # queries, keys, values
        self.attention_out = nn.Linear(n_channels, n_channels)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(n_channels, eps=LAYER_EPS),
            nn.Linear(n_channels, n_hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(n_hidden, n_channels),
            nn.Dropout(dropout),
        )

    def forward(self, x: Steps) -> Steps:
        """Transform each step by all steps."""
        dropout = self.dropout if self.training else 0.0
        # (batch, step, 3 channels) -> 3 times (batch, head, step, channel of head)
        projected = self.projections(self.attention_norm(x)).unflatten(-1, (3, self.n_heads, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4).unbind()
        attended = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        x = x + F.dropout(self.attention_out(attended.transpose(1, 2).flatten(2)), dropout)
        new: Tensor = self.feed_forward(x)
        return x + new


def encode_positions(n_steps: int, n_channels: int) -> Float[Tensor, "step channel"]:
    """Sine and cosine of the position at wavelengths from 2 pi to 10,000 times that, alternately.

    A. Vaswani et al., "Attention is all you need", NeurIPS 2017, section 3.5.

    Args:
        n_steps: Positions, from 0.
        n_channels: An even number.

    Returns:
        The encoding of each position.
    """
    frequencies = torch.exp(torch.arange(0, n_channels, 2) * (-math.log(WAVELENGTH_BASE) / n_channels))
    angles = torch.arange(n_steps).unsqueeze(1) * frequencies  # (step, channel / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
