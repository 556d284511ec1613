"""The convolutional autoencoder of Chandna et al.

P. Chandna, M. Miron, J. Janer, E. Gomez, "Monoaural audio source separation using deep convolutional neural
networks", LVA/ICA 2017, section 3 and figure 1:

    frames of spectrum -> vertical convolution -> horizontal convolution -> bottleneck -> for each source
    fully connected -> horizontal transposed convolution -> vertical transposed convolution

The vertical convolution spans all bins, as the paper's does, so it is one of a single frame in time; the
horizontal one runs along time. As in the paper the two convolutions are linear and the fully connected layers
are followed by a ReLU; the last ReLU is left to the mask (``activation: ratio`` of MaskEstimator).

The paper's blocks have a fixed length. Here a clip of any length is covered by blocks that overlap by half,
and their outputs are faded into one another under the windows sin^2 and cos^2, which sum to one.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sepnet.types import SepnetError


class ConvAutoencoder(nn.Module):
    """An encoder that all sources share, and a decoder for each.

    n_in: bins. n_out: bins times sources. n_frames: of a block, even. n_vertical, n_horizontal: filters of
    the two convolutions. reach: frames that the horizontal one spans. n_bottleneck: units. dropout: the
    share of the bottleneck's units left out in training. Raises SepnetError for blocks that are odd or
    shorter than the reach, and for n_out that is no multiple of n_in.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        n_frames: int = 30,
        n_vertical: int = 50,
        n_horizontal: int = 30,
        reach: int = 15,
        n_bottleneck: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if n_frames % 2 or n_frames < reach or n_out % n_in:
            raise SepnetError(
                f"n_frames={n_frames} has to be even and at least reach={reach}, and n_out={n_out} a "
                f"multiple of n_in={n_in}"
            )
        self.n_frames, self.n_bins = n_frames, n_in
        left = n_frames - reach + 1  # frames after the horizontal convolution
        self.encoder = nn.Sequential(
            nn.Conv1d(n_in, n_vertical, 1),
            nn.Conv1d(n_vertical, n_horizontal, reach),
            nn.Flatten(),
            nn.Linear(n_horizontal * left, n_bottleneck),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.decoders = nn.ModuleList(
            nn.Sequential(
                nn.Linear(n_bottleneck, n_horizontal * left),
                nn.ReLU(),
                nn.Unflatten(1, (n_horizontal, left)),
                nn.ConvTranspose1d(n_horizontal, n_vertical, reach),
                nn.Conv1d(n_vertical, n_in, 1),  # transposed: of one frame it is the same
            )
            for _ in range(n_out // n_in)
        )

    def forward(self, features: Float[Tensor, "batch n_in frame"]) -> Float[Tensor, "batch n_out frame"]:
        """For each source and bin a value whose positive part is its share of the mixture."""
        batch, _, frames = features.shape
        hop = self.n_frames // 2
        n_blocks = (frames + hop - 1) // hop + 1  # positive: exported, it rounds down too
        padded = F.pad(features, (hop, n_blocks * hop - frames))  # each frame lies in two blocks
        blocks = padded.unfold(2, self.n_frames, hop).transpose(1, 2)  # (batch, block, bin, frame of block)
        code = self.encoder(blocks.flatten(0, 1))
        decoded = torch.cat([decode(code) for decode in self.decoders], dim=1)  # (batch x block, out, frame)
        clock = torch.arange(self.n_frames, device=features.device)
        fade = torch.sin(torch.pi * (clock + 0.5) / self.n_frames).square()
        faded = (decoded.float() * fade).view(batch, n_blocks, -1, self.n_frames)
        # The second half of each block lies upon the first half of the next one.
        joined = faded[:, :-1, :, hop:] + faded[:, 1:, :, :hop]  # (batch, block - 1, out, hop)
        return joined.transpose(1, 2).flatten(2)[..., :frames]
