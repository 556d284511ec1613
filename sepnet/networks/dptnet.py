"""DPTNet: attention and recurrence within chunks, then across them.

J. Chen, Q. Mao, D. Liu, "Dual-path transformer network: direct context-aware modeling for end-to-end monaural
speech separation", Interspeech 2020, section 2; as in asteroid, whose weights it takes.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sepnet.networks.dual_path import (
    GatedOutput,
    Planes,
    Rows,
    along_steps,
    alternate,
    check_chunks,
    cut_chunks,
    n_sources_of,
)
from sepnet.ranges import Depth, LayerSize
from sepnet.types import SepnetError

EPS = 1e-8


class DPTNet(nn.Module):
    """Masks by transformers with LSTMs in them, which run within and across chunks alternately.

    Args:
        n_in: Features of a frame, a multiple of the heads.
        n_out: Outputs for a frame, n_in for each source.
        n_hidden: Units of an LSTM in each direction.
        n_heads: Attention heads.
        chunk_frames: Frames of a chunk, an even number.
        n_blocks: How many times it runs within and across the chunks.

    Raises:
        SepnetError: Sizes don't fit together.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        n_hidden: LayerSize = 256,
        n_heads: LayerSize = 4,
        chunk_frames: LayerSize = 100,
        n_blocks: Depth = 6,
    ) -> None:
        super().__init__()
        check_chunks(chunk_frames)
        if n_in % n_heads:
            raise SepnetError(f"{n_in} features have to be a multiple of n_heads={n_heads}")
        self.chunk_frames = chunk_frames
        self.norm = nn.GroupNorm(1, n_in, eps=EPS)
        self.within = nn.ModuleList([RecurrentTransformer(n_in, n_hidden, n_heads) for _ in range(n_blocks)])
        self.across = nn.ModuleList([RecurrentTransformer(n_in, n_hidden, n_heads) for _ in range(n_blocks)])
        self.out = GatedOutput(
            n_channels=n_in,
            n_gated=n_in,
            n_features=n_in,
            n_sources=n_sources_of(n_in, n_out),
            divisor=2.0,
            has_projection=False,
        )

    def forward(self, features: Float[Tensor, "batch n_in frame"]) -> Float[Tensor, "batch n_out frame"]:
        """Compute the outputs of each frame from the whole clip."""
        chunk, half = self.chunk_frames, self.chunk_frames // 2
        x = cut_chunks(self.norm(features), chunk_frames=chunk, hop_frames=half, before=chunk, after=chunk)
        x = alternate(x, self.within, self.across)
        masks: Tensor = self.out(x, hop_frames=half, before=chunk, n_frames=features.shape[-1])
        return masks


class RecurrentTransformer(nn.Module):
    """Self-attention, then an LSTM in the place of a feed-forward layer, along one axis.

    Each has a residual connection, and a norm after it over the channels and steps of a row.

    Args:
        n_channels: Channels in and out.
        n_hidden: Units of the LSTM in each direction.
        n_heads: Attention heads.
    """

    def __init__(self, n_channels: int, n_hidden: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.projections = nn.Linear(n_channels, 3 * n_channels)  # queries, keys, values
        self.attention_out = nn.Linear(n_channels, n_channels)
        self.attention_norm = nn.GroupNorm(1, n_channels, eps=EPS)
        self.lstm = nn.LSTM(n_channels, n_hidden, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(2 * n_hidden, n_channels)
        self.norm = nn.GroupNorm(1, n_channels, eps=EPS)

    def forward(self, x: Planes) -> Planes:
        """Run along ``step``, for each index of ``other`` on its own."""
        return along_steps(self._transform, x)

    def _transform(self, rows: Rows) -> Rows:
        # (row, step, 3 channels) -> 3 times (row, head, step, channel of head)
        split = self.projections(rows).unflatten(-1, (3, self.n_heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind()
        attended = F.scaled_dot_product_attention(query, key, value)
        rows = rows + self.attention_out(attended.transpose(1, 2).flatten(2))
        rows = self.attention_norm(rows.transpose(1, 2)).transpose(1, 2)
        states, _ = self.lstm(rows)
        rows = rows + self.linear(states.relu())
        normed: Tensor = self.norm(rows.transpose(1, 2)).transpose(1, 2)
        return normed
