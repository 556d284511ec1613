"""MossFormer2: gated attention within groups of frames and across all of them, and a gated memory of filters.

S. Zhao et al., "MossFormer2: combining transformer and RNN-free recurrent network for enhanced time-domain
monaural speech separation", ICASSP 2024; its attention is that of S. Zhao, B. Ma, "MossFormer: pushing the
performance limit of monaural speech separation using gated single-head transformer with convolution-augmented
joint self-attentions", ICASSP 2023; as in clearvoice, whose weights it takes.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sepnet.networks.dual_path import Gate, n_sources_of
from sepnet.ranges import Depth, Dropout, LayerSize
from sepnet.types import SepnetError

GLOBAL_EPS, LAST_EPS, SCALE_EPS = 1e-8, 1e-6, 1e-5
WAVELENGTH_BASE = 10_000.0  # of the encoded positions
N_ROTATED = 32  # channels of queries and keys that are rotated by their position
PROJECTION_KERNEL = 17  # frames that the convolution of a projection covers
Steps = Float[Tensor, "batch step channel"]


class MossFormer2(nn.Module):
    """Masks by layers of gated attention, each followed by a gated memory.

    Args:
        n_in: Features of a frame.
        n_out: Outputs for a frame, n_in for each source.
        n_channels: Channels of the layers; even.
        n_layers: Number of layers.
        n_keys: Channels of queries and keys; even.
        n_memory: Channels of the memories.
        expansion: How many times the channels the values of the attention have; even.
        group_frames: Frames of a group, within which all pairs are compared.
        memory_frames: How far a memory reaches to either side, counting its own frame.
        dropout: Share of the units that are left out in training.

    Raises:
        SepnetError: The outputs are no masks of the features, or a number of channels is odd.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        n_channels: LayerSize = 512,
        n_layers: Depth = 24,
        n_keys: LayerSize = 128,
        n_memory: LayerSize = 256,
        expansion: LayerSize = 4,
        group_frames: LayerSize = 256,
        memory_frames: LayerSize = 20,
        dropout: Dropout = 0.1,
    ) -> None:
        super().__init__()
        for name, value in (("n_channels", n_channels), ("n_keys", n_keys), ("expansion", expansion)):
            if value % 2:
                raise SepnetError(f"{name}={value} has to be even: take {value + 1}")
        self.bottleneck = nn.Sequential(
            nn.GroupNorm(1, n_in, eps=GLOBAL_EPS), nn.Conv1d(n_in, n_channels, 1, bias=False)
        )
        self.position_scale = nn.Parameter(torch.ones(1))
        n_rotated = min(N_ROTATED, n_keys)
        frequencies = WAVELENGTH_BASE ** -(torch.arange(0, n_rotated, 2) / n_rotated)
        self.register_buffer("frequencies", frequencies)
        self.frequencies: Tensor
        self.attentions = nn.ModuleList(
            [
                GatedAttention(n_channels, n_keys, expansion * n_channels, group_frames, dropout)
                for _ in range(n_layers)
            ]
        )
        self.memories = nn.ModuleList(
            [GatedMemory(n_channels, n_memory, memory_frames, dropout) for _ in range(n_layers)]
        )
        self.last_norm = nn.LayerNorm(n_channels, eps=LAST_EPS)
        self.skip_norm = nn.GroupNorm(1, n_channels, eps=GLOBAL_EPS)
        self.n_sources = n_sources_of(n_in, n_out)
        self.sources = nn.Sequential(nn.PReLU(), nn.Conv1d(n_channels, n_channels * self.n_sources, 1))
        self.out = Gate(n_gated=n_channels, n_features=n_in)

    def forward(self, features: Float[Tensor, "batch n_in frame"]) -> Float[Tensor, "batch n_out frame"]:
        """Compute the outputs of each frame from the whole clip."""
        x = self.bottleneck(features)
        x = x + (self.position_scale * encode_positions(x.shape[2], x.shape[1]).to(x)).mT
        rotation = rotations(x.shape[2], self.frequencies)
        steps = x.mT
        for attention, memory in zip(self.attentions, self.memories, strict=True):
            steps = memory(attention(steps, rotation))
        x = x + self.skip_norm(self.last_norm(steps).mT)
        sources = self.sources(x).unflatten(1, (self.n_sources, -1)).flatten(0, 1)
        return self.out.masks(sources, self.n_sources)


class GatedAttention(nn.Module):
    """Single-head attention, both within groups and linearly across all frames, whose result gates values.

    Args:
        n_channels: Channels in and out.
        n_keys: Channels of queries and keys.
        n_hidden: Channels of both kinds of values together.
        group_frames: Frames of a group.
        dropout: Share of the units that are left out in training.
    """

    def __init__(
        self, n_channels: int, n_keys: int, n_hidden: int, group_frames: int, dropout: float
    ) -> None:
        super().__init__()
        self.group_frames, self.dropout = group_frames, dropout
        self.values = Projection(ScaleNorm(n_channels), n_channels, n_hidden, dropout)
        self.keys = Projection(ScaleNorm(n_channels), n_channels, n_keys, dropout)
        # Gains and offsets that make two kinds of queries and of keys: of groups, and of the whole clip.
        self.gains = nn.Parameter(0.02 * torch.randn(4, n_keys))
        self.offsets = nn.Parameter(torch.zeros(4, n_keys))
        self.out = Projection(ScaleNorm(n_hidden // 2), n_hidden // 2, n_channels, dropout)

    def forward(self, x: Steps, rotation: tuple[Tensor, Tensor]) -> Steps:
        """Add what each frame gathers from the others."""
        half = x.shape[2] // 2
        # The first half of the channels comes from the frame before.
        shifted = torch.cat([F.pad(x[:, :-1, :half], (0, 0, 1, 0)), x[:, :, half:]], dim=2)
        values = self.values(shifted)  # (batch, step, hidden): those to pass, then those that gate
        keys = self.keys(shifted).unsqueeze(1) * self.gains.unsqueeze(1) + self.offsets.unsqueeze(1)
        attended = self._attend(rotate(keys, rotation), values)
        passed, gate = values.chunk(2, dim=2)
        attended_passed, attended_gate = attended.chunk(2, dim=2)
        output: Tensor = self.out(attended_gate * passed * (attended_passed * gate).sigmoid())
        return x + output

    def _attend(self, keys: Float[Tensor, "batch 4 step key"], values: Steps) -> Steps:
        """Sum values by squared positive products of keys in a group, and linearly over the clip."""
        n_batch, n_steps, n_hidden = values.shape
        frames = self.group_frames
        missing = frames - 1 - (n_steps - 1) % frames
        padded = F.pad(keys, (0, 0, 0, missing)).reshape(n_batch, 4, -1, frames, keys.shape[3])
        query, global_query, key, global_key = padded.unbind(1)  # (batch, group, frame of group, key) each
        grouped = F.pad(values, (0, 0, 0, missing)).reshape(n_batch, -1, frames, n_hidden)
        weights = (query @ key.mT / frames).relu().square()
        weights = F.dropout(weights, self.dropout, self.training)
        # (batch, 1, key, hidden), the same for all groups
        summary = (global_key.flatten(1, 2).mT @ grouped.flatten(1, 2) / n_steps).unsqueeze(1)
        attended: Tensor = weights @ grouped + global_query @ summary
        return attended.flatten(1, 2).narrow(1, 0, n_steps)


class GatedMemory(nn.Module):
    """A feed-forward memory of dilated filters that is gated, between two layers that narrow and widen.

    Args:
        n_channels: Channels in and out.
        n_memory: Channels of the memory.
        reach_frames: How far it reaches to either side, counting its own frame.
        dropout: Share of the units that are left out in training.
    """

    def __init__(self, n_channels: int, n_memory: int, reach_frames: int, dropout: float) -> None:
        super().__init__()
        self.narrow = nn.Sequential(nn.Linear(n_channels, n_memory), nn.PReLU(), nn.LayerNorm(n_memory))
        self.remembered = Projection(nn.LayerNorm(n_memory), n_memory, n_memory, dropout)
        self.gate = Projection(nn.LayerNorm(n_memory), n_memory, n_memory, dropout)
        self.feed_forward = nn.Sequential(
            nn.Linear(n_memory, n_memory), nn.ReLU(), nn.Linear(n_memory, n_memory, bias=False)
        )
        self.near = DilatedFilters(n_memory, n_memory, reach_frames, dilation=1)
        self.far = DilatedFilters(2 * n_memory, n_memory, reach_frames, dilation=2)
        self.widen = nn.Sequential(nn.LayerNorm(n_memory), nn.Linear(n_memory, n_channels))

    def forward(self, x: Steps) -> Steps:
        """Add what is remembered around each frame."""
        narrow = self.narrow(x)
        remembered = self.remembered(narrow)
        states = self.feed_forward(remembered).mT  # (batch, channel, step)
        filtered = self.far(torch.cat([self.near(states), states], dim=1)).mT
        gated = self.gate(narrow) * (remembered + filtered) + narrow
        output: Tensor = self.widen(gated)
        return x + output


class DilatedFilters(nn.Module):
    """A convolution around each frame, in as many groups as there are outputs, normalised over the clip.

    Args:
        n_in: Channels in.
        n_out: Channels out.
        reach_frames: How many taps lie on either side, counting that in the middle.
        dilation: Frames between two taps.
    """

    def __init__(self, n_in: int, n_out: int, reach_frames: int, *, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            n_in,
            n_out,
            2 * reach_frames - 1,
            dilation=dilation,
            padding=dilation * (reach_frames - 1),
            groups=n_out,
            bias=False,
        )
        self.norm = ClipNorm(n_out)
        self.activation = nn.PReLU(n_out)

    def forward(self, x: Float[Tensor, "batch channel step"]) -> Float[Tensor, "batch filter step"]:
        """Filter."""
        filtered: Tensor = self.activation(self.norm(self.conv(x)))
        return filtered


class ClipNorm(nn.Module):
    """Brings each channel of a clip to mean 0 and variance 1, as nn.InstanceNorm1d, but also a single frame.

    Args:
        n_channels: Channels.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_channels))
        self.bias = nn.Parameter(torch.zeros(n_channels))

    def forward(self, x: Float[Tensor, "batch channel step"]) -> Float[Tensor, "batch channel step"]:
        """Normalise along the steps."""
        normed = F.layer_norm(x, x.shape[-1:])
        return normed * self.weight.unsqueeze(1) + self.bias.unsqueeze(1)


class Projection(nn.Module):
    """A norm, a layer, and a convolution of each channel along the frames that is added to its input.

    Args:
        norm: The norm.
        n_in: Channels in.
        n_out: Channels out.
        dropout: Share of the units that are left out in training.
    """

    def __init__(self, norm: nn.Module, n_in: int, n_out: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Sequential(norm, nn.Linear(n_in, n_out), nn.SiLU())
        self.conv = nn.Conv1d(
            n_out, n_out, PROJECTION_KERNEL, padding=PROJECTION_KERNEL // 2, groups=n_out, bias=False
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Steps) -> Float[Tensor, "batch step output"]:
        """Project each frame, with a view of those around it."""
        projected = self.project(x)
        output: Tensor = self.dropout(projected + self.conv(projected.mT).mT)
        return output


class ScaleNorm(nn.Module):
    """Divides by the root mean square of the channels, with one gain for all of them.

    Args:
        n_channels: Channels.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        self.scale = n_channels**-0.5

    def forward(self, x: Steps) -> Steps:
        """Normalise each frame."""
        rms = torch.linalg.vector_norm(x, dim=-1, keepdim=True) * self.scale
        normed: Tensor = x / rms.clamp_min(SCALE_EPS) * self.gain
        return normed


def encode_positions(n_steps: int, n_channels: int) -> Float[Tensor, "step channel"]:
    """The sines of the position at wavelengths from 2 pi to 10,000 times that, then the cosines."""
    frequencies = WAVELENGTH_BASE ** -(torch.arange(0, n_channels, 2) / n_channels)
    angles = torch.arange(n_steps).unsqueeze(1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def rotations(n_steps: int, frequencies: Float[Tensor, " half"]) -> tuple[Tensor, Tensor]:
    """Cosines and sines (step, half) of the angles by which pairs of channels are rotated.

    J. Su et al., "RoFormer: enhanced transformer with rotary position embedding", Neurocomputing 2024.
    """
    angles = torch.arange(n_steps, device=frequencies.device).unsqueeze(1) * frequencies
    return angles.cos(), angles.sin()


def rotate(
    x: Float[Tensor, "batch kind step channel"], rotation: tuple[Tensor, Tensor]
) -> Float[Tensor, "batch kind step channel"]:
    """Rotate the first pairs of channels by their position, and leave the other channels."""
    cosine, sine = rotation
    n_rotated = 2 * cosine.shape[1]
    first, second = x[..., :n_rotated:2], x[..., 1:n_rotated:2]
    turned = torch.stack([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
    return torch.cat([turned.flatten(-2), x[..., n_rotated:]], dim=-1)
