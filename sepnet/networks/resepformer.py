"""RE-SepFormer: transformers within chunks that do not overlap, which a memory of their means connects.

C. Subakan, M. Ravanelli, S. Cornell, F. Lepoutre, F. Grondin, "Resource-efficient separation transformer",
ICASSP 2024, section 2; as in speechbrain, whose weights it takes. It departs from speechbrain's code in
batches alone: there the memory runs on from one mixture to the next, so that a mixture comes out differently
with others beside it; here each mixture has a memory of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sepnet.networks.sepformer import Steps, Transformer
from sepnet.ranges import Depth, Dropout, LayerSize
from sepnet.types import SepnetError

EPS = torch.finfo(torch.float32).eps


class ReSepFormer(nn.Module):
    """Masks by transformers within chunks of frames, and by others across the means of the chunks.

    Args:
        n_in: Features of a frame: an even number, and a multiple of the heads.
        n_out: Outputs for a frame.
        n_hidden: Units of the feed-forward layers.
        n_heads: Attention heads.
        n_layers: Layers of each transformer.
        chunk_frames: Frames of a chunk.
        n_blocks: How many times it runs within the chunks; across them it runs between two such runs.
        dropout: Share of the units that are left out in training.
        positions: Whether positions within chunks, and those of chunks, are encoded by sinusoids.
        skip_within: Whether the transformers within chunks have residual connections around them.
        skip_memory: Whether those across chunks have.

    Raises:
        SepnetError: The features are odd, or no multiple of the heads.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        n_hidden: LayerSize = 1024,
        n_heads: LayerSize = 8,
        n_layers: Depth = 8,
        chunk_frames: LayerSize = 150,
        n_blocks: Depth = 2,
        dropout: Dropout = 0.0,
        positions: bool = True,
        skip_within: bool = True,
        skip_memory: bool = True,
    ) -> None:
        super().__init__()
        if n_in % n_heads or n_in % 2:
            raise SepnetError(
                f"{n_in} features and n_heads={n_heads}: features have to be even and a multiple of the heads"
            )
        self.chunk_frames = chunk_frames

        def blocks(n: int, skip: bool) -> nn.ModuleList:
            def transformer() -> Transformer:
                return Transformer(n_in, n_hidden, n_heads, n_layers, dropout=dropout, positions=positions)

            return nn.ModuleList([NormedTransformer(n_in, transformer, skip=skip) for _ in range(n)])

        self.within = blocks(n_blocks, skip_within)
        self.memories = blocks(n_blocks - 1, skip_memory)
        self.out = nn.Sequential(nn.PReLU(), nn.Conv1d(n_in, n_out, 1))

    def forward(self, features: Float[Tensor, "batch n_in frame"]) -> Float[Tensor, "batch n_out frame"]:
        """Compute the outputs of each frame from the whole clip."""
        n_frames = features.shape[-1]
        padded = F.pad(features, (0, self.chunk_frames - n_frames % self.chunk_frames))
        n_batch, n_channels = features.shape[:2]
        x = padded.mT.reshape(
            n_batch, -1, self.chunk_frames, n_channels
        )  # (batch, chunk, frame of it, channel)
        n_chunks = x.shape[1]
        for number, within in enumerate(self.within):
            x = within(x.flatten(0, 1)).reshape(n_batch, n_chunks, self.chunk_frames, n_channels)
            if number < len(self.memories):
                memory = self.memories[number](x.mean(dim=2))  # (batch, chunk, channel)
                x = x + memory.unsqueeze(2)
        masks: Tensor = self.out(x.flatten(1, 2).mT.narrow(2, 0, n_frames))
        return masks


class NormedTransformer(nn.Module):
    """A transformer with a norm over the steps and channels of a row after it.

    Args:
        n_channels: Channels.
        transformer: Makes the transformer.
        skip: Whether it has a residual connection around it.
    """

    def __init__(self, n_channels: int, transformer: Callable[[], Transformer], *, skip: bool) -> None:
        super().__init__()
        self.transformer, self.norm = transformer(), nn.GroupNorm(1, n_channels, eps=EPS)
        self.skip = skip

    def forward(self, x: Steps) -> Steps:
        """Transform each step by all steps of its row."""
        new: Tensor = self.norm(self.transformer(x).mT).mT
        return x + new if self.skip else new
