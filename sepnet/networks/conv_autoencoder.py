"""The convolutional autoencoder of Chandna et al.

P. Chandna, M. Miron, J. Janer, E. Gomez, "Monoaural audio source separation using deep convolutional neural
networks", LVA/ICA 2017, section 3 and figure 1:

    frames of spectrum -> vertical convolution -> horizontal convolution -> bottleneck -> for each source
    fully connected -> horizontal transposed convolution -> vertical transposed convolution

The vertical convolution spans all bins, as in the paper, so its kernel is a single frame long; the horizontal
one runs along time. As in the paper the two convolutions are linear and the fully connected layers are
followed by a ReLU; the last ReLU belongs to the mask (``activation: ratio`` of MaskEstimator).

The blocks of the paper have a fixed length. Here a clip of any length is covered by blocks that overlap by
half, and their outputs are cross-faded under the windows sin^2 and cos^2, which sum to one.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sepnet.ranges import Dropout, LayerSize
from sepnet.types import SepnetError


class ConvAutoencoder(nn.Module):
    """An encoder that all sources share, and a decoder for each source.

    Args:
        n_in: Number of bins.
        n_out: Number of bins times number of sources.
        block_frames: Frames of a block, an even number.
        n_vertical: Filters of the vertical convolution.
        n_horizontal: Filters of the horizontal convolution.
        kernel_frames: Frames that the horizontal convolution spans.
        n_bottleneck: Units of the bottleneck.
        dropout: Share of the bottleneck's units that training leaves out.

    Raises:
        SepnetError: A block is odd or shorter than the kernel, or n_out is no multiple of n_in.
    """

    def __init__(
        self,
        n_in: LayerSize,
        n_out: LayerSize,
        *,
        block_frames: int = 30,
        n_vertical: LayerSize = 50,
        n_horizontal: LayerSize = 30,
        kernel_frames: LayerSize = 15,
        n_bottleneck: LayerSize = 128,
        dropout: Dropout = 0.0,
    ) -> None:
        super().__init__()
        if block_frames % 2 or block_frames < kernel_frames or n_out % n_in:
            raise SepnetError(
                f"block_frames={block_frames} has to be even and at least kernel_frames={kernel_frames}, and "
                f"n_out={n_out} a multiple of n_in={n_in}"
            )
        self.block_frames, self.n_bins = block_frames, n_in
        n_valid = block_frames - kernel_frames + 1  # frames after the horizontal convolution
        self.encoder = nn.Sequential(
            nn.Conv1d(n_in, n_vertical, 1),
            nn.Conv1d(n_vertical, n_horizontal, kernel_frames),
            nn.Flatten(),
            nn.Linear(n_horizontal * n_valid, n_bottleneck),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.decoders = nn.ModuleList(
            nn.Sequential(
                nn.Linear(n_bottleneck, n_horizontal * n_valid),
                nn.ReLU(),
                nn.Unflatten(1, (n_horizontal, n_valid)),
                nn.ConvTranspose1d(n_horizontal, n_vertical, kernel_frames),
                nn.Conv1d(n_vertical, n_in, 1),  # as a transposed one, whose kernel is one frame
            )
            for _ in range(n_out // n_in)
        )

    def forward(self, features: Float[Tensor, "batch n_in frame"]) -> Float[Tensor, "batch n_out frame"]:
        """Compute for each source and bin a value whose positive part is its share of the mixture."""
        batch, _, frames = features.shape
        hop = self.block_frames // 2
        n_blocks = (frames + hop - 1) // hop + 1  # positive: exported, it rounds down too
        padded = F.pad(features, (hop, n_blocks * hop - frames))  # each frame lies in two blocks
        blocks = padded.unfold(2, self.block_frames, hop).transpose(
            1, 2
        )  # (batch, block, bin, frame of block)
        code = self.encoder(blocks.flatten(0, 1))
        decoded = torch.cat([decode(code) for decode in self.decoders], dim=1)  # (batch x block, out, frame)
        frame = torch.arange(self.block_frames, device=features.device)
        fade = torch.sin(torch.pi * (frame + 0.5) / self.block_frames).square()
        faded = (decoded.float() * fade).view(batch, n_blocks, -1, self.block_frames)
        # The second half of each block overlaps the first half of the next one.
        summed = faded[:, :-1, :, hop:] + faded[:, 1:, :, :hop]  # (batch, block - 1, out, hop)
        return summed.transpose(1, 2).flatten(2)[..., :frames]
