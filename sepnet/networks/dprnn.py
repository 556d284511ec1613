"""The dual-path recurrent network: short recurrences within chunks, then across them.

Y. Luo, Z. Chen, T. Yoshioka, "Dual-path RNN: efficient long sequence modeling for time-domain single-channel
speech separation", ICASSP 2020, section 2.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sepnet.types import SepnetError

Chunks = Float[Tensor, "batch channel place chunk"]


class Path(nn.Module):
    """A bidirectional LSTM along one axis, a linear layer, a norm over all, and the input added."""

    def __init__(self, n_channels: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_channels, hidden, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(2 * hidden, n_channels)
        self.norm = nn.GroupNorm(1, n_channels, eps=1e-8)

    def forward(
        self, x: Float[Tensor, "batch channel step other"]
    ) -> Float[Tensor, "batch channel step other"]:
        """Recurs along ``step``, for each of ``other`` apart."""
        batch, channels, steps, others = x.shape
        rows = x.permute(0, 3, 2, 1).reshape(batch * others, steps, channels)
        states, _ = self.lstm(rows)
        new = self.linear(states).reshape(batch, others, steps, channels).permute(0, 3, 2, 1)
        added: Tensor = self.norm(new)
        return x + added


class DPRNN(nn.Module):
    """Chunks of ``chunk`` frames that overlap by half, ``n_blocks`` times along and across them, and back.

    An LSTM then sees sequences of about the square root of the clip's frames. A chunk of sqrt(2 frames) makes
    both alike. Raises SepnetError for an odd chunk, whose half is no number of frames.

    Departs from the paper in reading all sources' masks from one layer after the overlap-add.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        n_channels: int = 64,
        hidden: int = 128,
        chunk: int = 100,
        n_blocks: int = 6,
    ) -> None:
        super().__init__()
        if chunk < 2 or chunk % 2:
            raise SepnetError(f"chunk is {chunk}, but has to be even: take {chunk + 1}")
        self.chunk = chunk
        self.bottleneck = nn.Sequential(nn.GroupNorm(1, n_in, eps=1e-8), nn.Conv1d(n_in, n_channels, 1))
        self.within = nn.ModuleList([Path(n_channels, hidden) for _ in range(n_blocks)])
        self.across = nn.ModuleList([Path(n_channels, hidden) for _ in range(n_blocks)])
        self.out = nn.Sequential(nn.PReLU(), nn.Conv1d(n_channels, n_out, 1))

    def forward(self, features: Float[Tensor, "batch n_in frame"]) -> Float[Tensor, "batch n_out frame"]:
        """One output vector a frame, from the whole clip."""
        x = split(self.bottleneck(features), self.chunk)
        for within, across in zip(self.within, self.across, strict=True):
            x = within(x)
            x = across(x.transpose(2, 3)).transpose(2, 3)
        output: Tensor = self.out(join(x, features.shape[-1]))
        return output


def split(x: Float[Tensor, "batch channel frame"], chunk: int) -> Chunks:
    """Chunks that overlap by half, with as much silence at both ends that each frame lies in two."""
    half = chunk // 2
    beyond = (x.shape[-1] + half - 1) // half * half - x.shape[-1]  # of nothing negative: it is exported, too
    padded = F.pad(x, (half, half + beyond))
    return padded.unfold(2, chunk, half).transpose(2, 3)  # (batch, channel, place, chunk)


def join(chunks: Chunks, n_frames: int) -> Float[Tensor, "batch channel frame"]:
    """The mean of the two chunks over each frame: the inverse of ``split``."""
    first, second = torch.chunk(chunks.transpose(2, 3), 2, dim=3)  # (batch, channel, chunk, half) each
    mean = (second[:, :, :-1] + first[:, :, 1:]) / 2
    return mean.flatten(2).narrow(2, 0, n_frames)  # not a slice, of whose size an export is not sure
