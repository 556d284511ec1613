"""SuDoRM-RF: blocks that look at the frames at several resolutions, by convolutions of one channel each.

E. Tzinis, Z. Wang, P. Smaragdis, "Sudo rm -rf: efficient networks for universal audio source separation",
MLSP 2020, section 2; as in asteroid, whose weights it takes. Its improved form is that of E. Tzinis, Z. Wang,
X. Jiang, P. Smaragdis, "Compute and memory efficient universal sound source separation", JSPS 2022.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sepnet.networks.dual_path import n_sources_of
from sepnet.ranges import Depth, LayerSize
from sepnet.types import SepnetError

EPS = 1e-8
KERNEL = 5  # of the convolutions that halve the resolution
MAX_SCALES = 16


class SuDoRMRF(nn.Module):
    """Masks by blocks that halve the resolution of the frames several times, and add the results up again.

    Args:
        n_in: Features of a frame, and channels within a block.
        n_out: Outputs for a frame, n_in for each source.
        n_channels: Channels between the blocks.
        n_blocks: How many blocks.
        n_scales: Resolutions of a block, each half of the one before.
        improved: Whether a block adds to its input without another norm and activation, and the masks of all
            sources come from one layer. Otherwise they come from a convolution along the features.

    Raises:
        SepnetError: The outputs are no masks of the features, there are too many resolutions, or the features
            of the form that is not improved are odd.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        n_channels: LayerSize = 128,
        n_blocks: Depth = 16,
        n_scales: Depth = 4,
        improved: bool = True,
    ) -> None:
        super().__init__()
        n_sources = n_sources_of(n_in, n_out)
        if n_scales > MAX_SCALES:
            raise SepnetError(f"n_scales is {n_scales}, but at most {MAX_SCALES}: each halves the resolution")
        self.bottleneck = nn.Sequential(_norm(n_in), nn.Conv1d(n_in, n_channels, 1))
        self.blocks = nn.Sequential(
            *(Block(n_channels, n_in, n_scales, improved=improved) for _ in range(n_blocks))
        )
        self.out: nn.Module
        if improved:
            self.out = nn.Sequential(nn.PReLU(), nn.Conv1d(n_channels, n_out, 1))
        else:
            self.out = MasksAlongFeatures(n_channels, n_in, n_sources)

    def forward(self, features: Float[Tensor, "batch n_in frame"]) -> Float[Tensor, "batch n_out frame"]:
        """Compute the outputs of each frame from the whole clip."""
        masks: Tensor = self.out(self.blocks(self.bottleneck(features)))
        return masks


class Block(nn.Module):
    """Expand, convolve at each resolution, add up from the coarsest to the finest, contract.

    Args:
        n_channels: Channels in and out.
        n_hidden: Channels of the convolutions.
        n_scales: Resolutions.
        improved: See ``SuDoRMRF``.
    """

    def __init__(self, n_channels: int, n_hidden: int, n_scales: int, *, improved: bool) -> None:
        super().__init__()
        self.expand = nn.Sequential(
            nn.Conv1d(n_channels, n_hidden, 1), _norm(n_hidden), nn.PReLU(1 if improved else n_hidden)
        )

        def convolution(stride: int) -> nn.Module:
            conv = nn.Conv1d(n_hidden, n_hidden, KERNEL, stride=stride, padding=KERNEL // 2, groups=n_hidden)
            return nn.Sequential(conv, _norm(n_hidden))

        self.scales = nn.ModuleList([convolution(1 if scale == 0 else 2) for scale in range(n_scales)])
        self.merge = nn.Sequential(_norm(n_hidden), nn.PReLU(n_hidden))
        self.contract = nn.Conv1d(n_hidden, n_channels, 1)
        self.contract_norm = None if improved else _norm(n_channels)
        self.after = None if improved else nn.Sequential(_norm(n_channels), nn.PReLU(n_channels))

    def forward(self, x: Float[Tensor, "batch channel frame"]) -> Float[Tensor, "batch channel frame"]:
        """Add what the resolutions give to the input."""
        hidden = self.expand(x)
        levels = []  # the finest first
        for convolve in self.scales:
            hidden = convolve(hidden)
            levels.append(hidden)
        merged = levels.pop()
        while levels:
            finer = levels.pop()
            # Where the finer level has an odd number of frames, the last of the coarser one is cut in half.
            merged = finer + F.interpolate(merged, scale_factor=2.0).narrow(2, 0, finer.shape[2])
        output: Tensor = self.contract(self.merge(merged))
        if self.contract_norm is not None:
            output = self.contract_norm(output)
        output = output + x
        return output if self.after is None else self.after(output)


class MasksAlongFeatures(nn.Module):
    """The masks of the first form: for each source a convolution along the features, one longer than they.

    Args:
        n_channels: Channels in.
        n_features: Features of a mask; even, so that the convolution has as many outputs.
        n_sources: Number of masks.

    Raises:
        SepnetError: The features are odd.
    """

    def __init__(self, n_channels: int, n_features: int, n_sources: int) -> None:
        super().__init__()
        if n_features % 2:
            raise SepnetError(f"{n_features} features have to be even for improved=false")
        self.expand = nn.Conv1d(n_channels, n_features, 1) if n_channels != n_features else None
        self.masks = nn.Conv2d(1, n_sources, (n_features + 1, 1), padding=(n_features // 2, 0))

    def forward(self, x: Float[Tensor, "batch channel frame"]) -> Float[Tensor, "batch n_out frame"]:
        """Make the masks, those of the first source first."""
        expanded = x if self.expand is None else self.expand(x)
        masks: Tensor = self.masks(expanded.unsqueeze(1))  # (batch, source, feature, frame)
        return masks.flatten(1, 2)


def _norm(n_channels: int) -> nn.Module:
    """A norm over channels and frames of the whole clip."""
    return nn.GroupNorm(1, n_channels, eps=EPS)
