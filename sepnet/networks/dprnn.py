"""The dual-path recurrent network: short recurrences within chunks, then across them.

Y. Luo, Z. Chen, T. Yoshioka, "Dual-path RNN: efficient long sequence modeling for time-domain single-channel
speech separation", ICASSP 2020, section 2.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sepnet.networks.dual_path import (
    Chunks,
    GatedOutput,
    Planes,
    along_steps,
    alternate,
    check_chunks,
    cut_chunks,
    n_sources_of,
)
from sepnet.ranges import Depth, LayerSize


class Path(nn.Module):
    """A bidirectional LSTM along one axis, a linear layer, a global norm, and a residual connection.

    Args:
        n_channels: Channels in and out.
        n_hidden: Units of the LSTM in each direction.
    """

    def __init__(self, n_channels: int, n_hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_channels, n_hidden, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(2 * n_hidden, n_channels)
        self.norm = nn.GroupNorm(1, n_channels, eps=1e-8)

    def forward(self, x: Planes) -> Planes:
        """Run along ``step``, for each index of ``other`` on its own."""
        residual: Tensor = self.norm(along_steps(lambda rows: self.linear(self.lstm(rows)[0]), x))
        return x + residual


class _Paths(nn.Module):
    """What both networks have before their outputs: a bottleneck, and the LSTMs within and across chunks."""

    def __init__(
        self, n_in: int, *, n_channels: int, n_hidden: int, chunk_frames: int, n_blocks: int
    ) -> None:
        super().__init__()
        check_chunks(chunk_frames)
        self.chunk_frames = chunk_frames
        self.bottleneck = nn.Sequential(nn.GroupNorm(1, n_in, eps=1e-8), nn.Conv1d(n_in, n_channels, 1))
        self.within = nn.ModuleList([Path(n_channels, n_hidden) for _ in range(n_blocks)])
        self.across = nn.ModuleList([Path(n_channels, n_hidden) for _ in range(n_blocks)])


class DPRNN(_Paths):
    """Cuts a clip into chunks that overlap by half, and runs along and across them alternately.

    The LSTMs then run over about the square root of the clip's frames. Chunks of sqrt(2 frames) make both
    sequences equally long. Departs from the paper in computing the masks of all sources by one layer after
    the overlap-add.

    Args:
        n_in: Features of a frame.
        n_out: Outputs for a frame.
        n_channels: Channels of the blocks.
        n_hidden: Units of an LSTM in each direction.
        chunk_frames: Frames of a chunk, an even number.
        n_blocks: How many times it runs along and across the chunks.

    Raises:
        SepnetError: Chunks are odd, so that they can't overlap by half.
    """

    def __init__(
        self,
        n_in: LayerSize,
        n_out: LayerSize,
        *,
        n_channels: LayerSize = 64,
        n_hidden: LayerSize = 128,
        chunk_frames: int = 100,
        n_blocks: Depth = 6,
    ) -> None:
        super().__init__(
            n_in, n_channels=n_channels, n_hidden=n_hidden, chunk_frames=chunk_frames, n_blocks=n_blocks
        )
        self.out = nn.Sequential(nn.PReLU(), nn.Conv1d(n_channels, n_out, 1))

    def forward(self, features: Float[Tensor, "batch n_in frame"]) -> Float[Tensor, "batch n_out frame"]:
        """Compute the outputs of each frame from the whole clip."""
        x = alternate(split(self.bottleneck(features), self.chunk_frames), self.within, self.across)
        output: Tensor = self.out(join(x, features.shape[-1]))
        return output


class GatedDPRNN(_Paths):
    """The network of the paper, with its gated output, as in asteroid, whose weights it takes.

    It differs from ``DPRNN`` in making the sources before the overlap-add, and in what lies around the clip:
    a whole chunk of zeros before it, and one after it.

    Args:
        n_in: Features of a frame.
        n_out: Outputs for a frame, n_in for each source.
        n_channels: Channels of the blocks.
        n_hidden: Units of an LSTM in each direction.
        chunk_frames: Frames of a chunk, an even number.
        n_blocks: How many times it runs along and across the chunks.

    Raises:
        SepnetError: Chunks are odd, or the outputs are no masks of the features.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        n_channels: LayerSize = 128,
        n_hidden: LayerSize = 128,
        chunk_frames: int = 100,
        n_blocks: Depth = 6,
    ) -> None:
        super().__init__(
            n_in, n_channels=n_channels, n_hidden=n_hidden, chunk_frames=chunk_frames, n_blocks=n_blocks
        )
        self.out = GatedOutput(
            n_channels=n_channels, n_gated=n_channels, n_features=n_in, n_sources=n_sources_of(n_in, n_out)
        )

    def forward(self, features: Float[Tensor, "batch n_in frame"]) -> Float[Tensor, "batch n_out frame"]:
        """Compute the outputs of each frame from the whole clip."""
        chunk, half = self.chunk_frames, self.chunk_frames // 2
        x = cut_chunks(
            self.bottleneck(features), chunk_frames=chunk, hop_frames=half, before=chunk, after=chunk
        )
        x = alternate(x, self.within, self.across)
        masks: Tensor = self.out(x, hop_frames=half, before=chunk, n_frames=features.shape[-1])
        return masks


def split(x: Float[Tensor, "batch channel frame"], chunk_frames: int) -> Chunks:
    """Cut into chunks that overlap by half, padded with zeros so that each frame lies in two."""
    half = chunk_frames // 2
    beyond = (x.shape[-1] + half - 1) // half * half - x.shape[-1]  # no negative operand: exports need it
    padded = F.pad(x, (half, half + beyond))
    return padded.unfold(2, chunk_frames, half).transpose(2, 3)  # (batch, channel, frame of chunk, chunk)


def join(chunks: Chunks, n_frames: int) -> Float[Tensor, "batch channel frame"]:
    """Average the two chunks over each frame: the inverse of ``split``."""
    first, second = torch.chunk(chunks.transpose(2, 3), 2, dim=3)  # (batch, channel, chunk, half) each
    mean = (second[:, :, :-1] + first[:, :, 1:]) / 2
    return mean.flatten(2).narrow(2, 0, n_frames)  # not a slice: exports can't infer its size
