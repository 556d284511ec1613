"""TF-Locoformer: attention along frequency and along time, with convolutions for the local context.

K. Saijo, G. Wichern, F. Germain, Z. Pan, J. Le Roux, "TF-Locoformer: transformer with local modeling by
convolution for speech separation and enhancement", IWAENC 2024. Rotary positions after J. Su et al.,
"RoFormer", 2021. Each layer is a transformer's, applied to every frame along its bins and then to every bin
along its frames:

    z + ConvSwiGLU(norm z),    z + attention(norm z),    z + ConvSwiGLU(norm z).

It is among the best models of its time and has no recurrence, only attention, convolution and one norm, so
that training runs in parallel. It takes much memory: a vector for each bin of each frame.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sepnet.ranges import Depth, LayerSize
from sepnet.types import SepnetError

EPS = 1e-5


class RMSGroupNorm(nn.Module):
    """Divides each group of channels by its root mean square at one position (section 2.4)."""

    def __init__(self, n_channels: int, n_groups: int) -> None:
        super().__init__()
        self.n_groups = n_groups
        self.scale = nn.Parameter(torch.ones(n_channels))

    def forward(self, z: Float[Tensor, "*batch channel"]) -> Float[Tensor, "*batch channel"]:
        """Bring each group to unit RMS, then scale the channels."""
        groups = z.view(*z.shape[:-1], self.n_groups, -1)
        normed = groups * (groups.square().mean(dim=-1, keepdim=True) + EPS).rsqrt()
        return normed.view(z.shape) * self.scale


class ConvSwiGLU(nn.Module):
    """The feed-forward network with convolutions along the sequence for linear layers (section 2.3)."""

    def __init__(self, n_channels: int, n_hidden: int, kernel: int) -> None:
        super().__init__()
        self.expand = nn.Conv1d(n_channels, 2 * n_hidden, kernel)
        self.contract = nn.ConvTranspose1d(n_hidden, n_channels, kernel)
        self.kernel = kernel

    def forward(self, z: Float[Tensor, "item step channel"]) -> Float[Tensor, "item step channel"]:
        """Transform a sequence; the two convolutions together keep its length."""
        before = (self.kernel - 1) // 2
        padded = F.pad(z.mT, (before, self.kernel - 1 - before))
        gate, value = torch.chunk(self.expand(padded), 2, dim=1)
        contracted: Tensor = self.contract(F.silu(gate) * value)
        return contracted[..., before : before + z.shape[1]].mT


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions."""

    def __init__(self, n_channels: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.into = nn.Linear(n_channels, 3 * n_channels, bias=False)
        self.out = nn.Linear(n_channels, n_channels, bias=False)

    def forward(self, z: Float[Tensor, "item step channel"]) -> Float[Tensor, "item step channel"]:
        """Replace each step by a weighted mean of all steps."""
        items, steps, channels = z.shape
        heads = self.into(z).view(items, steps, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)  # (item, head, step, channel of the head) each
        attended = F.scaled_dot_product_attention(rotate(query), rotate(key), value)
        mixed: Tensor = self.out(attended.transpose(1, 2).reshape(items, steps, channels))
        return mixed


def rotate(x: Float[Tensor, "*batch step channel"]) -> Float[Tensor, "*batch step channel"]:
    """Rotate pairs of channels by an angle that grows with the step.

    Inner products then depend on the distance of two steps alone.
    """
    half = x.shape[-1] // 2
    rates = 10000.0 ** (-torch.arange(half, device=x.device) / half)
    angles = torch.arange(x.shape[-2], device=x.device)[:, None] * rates  # (step, half)
    cosine, sine = angles.cos().to(x), angles.sin().to(x)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)


class Layer(nn.Module):
    """One transformer layer along a sequence, between two feed-forward networks."""

    def __init__(self, n_channels: int, n_hidden: int, kernel: int, n_heads: int, n_groups: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(RMSGroupNorm(n_channels, n_groups) for _ in range(3))
        self.before = ConvSwiGLU(n_channels, n_hidden, kernel)
        self.attention = Attention(n_channels, n_heads)
        self.after = ConvSwiGLU(n_channels, n_hidden, kernel)

    def forward(self, z: Float[Tensor, "item step channel"]) -> Float[Tensor, "item step channel"]:
        """Transform sequences (item, step, channel)."""
        for norm, part in zip(self.norms, (self.before, self.attention, self.after), strict=True):
            z = z + part(norm(z))
        return z


class Locoformer(nn.Module):
    """Maps the real and imaginary parts of a mixture to those of each source, or to complex masks.

    The defaults are those of the small model of the paper, with 5 M parameters.

    Args:
        n_in: Twice the number of bins.
        n_out: The same for each source.
        n_channels: Size of the vector of a bin.
        n_hidden: Units of the feed-forward networks.
        kernel: Taps of their convolutions.
        n_heads: Heads of the attention.
        n_groups: Groups of channels that are normalised on their own.
        n_blocks: Number of blocks, each of one layer along frequency and one along time.

    Raises:
        SepnetError: Heads or groups can't share the channels evenly, or inputs and outputs are no spectra.
    """

    def __init__(
        self,
        n_in: LayerSize,
        n_out: LayerSize,
        *,
        n_channels: LayerSize = 96,
        n_hidden: LayerSize = 256,
        kernel: LayerSize = 4,
        n_heads: LayerSize = 4,
        n_groups: LayerSize = 4,
        n_blocks: Depth = 4,
    ) -> None:
        super().__init__()
        if n_channels % (2 * n_heads) or n_channels % n_groups or n_in % 2 or n_out % n_in:
            raise SepnetError(
                f"n_channels={n_channels} has to be a multiple of 2 n_heads={2 * n_heads} and of "
                f"n_groups={n_groups}, n_in={n_in} even, and n_out={n_out} a multiple of it: give it spectra "
                "(features=coefficients or compressed, activation=mapping or complex)"
            )
        norm = nn.GroupNorm(1, n_channels, eps=EPS)
        self.inlet = nn.Sequential(nn.Conv2d(2, n_channels, 3, padding=1), norm)
        sizes = (n_channels, n_hidden, kernel, n_heads, n_groups)
        self.along_bins = nn.ModuleList(Layer(*sizes) for _ in range(n_blocks))
        self.along_frames = nn.ModuleList(Layer(*sizes) for _ in range(n_blocks))
        self.outlet = nn.ConvTranspose2d(n_channels, 2 * n_out // n_in, 3, padding=1)

    def forward(self, features: Float[Tensor, "batch n_in frame"]) -> Float[Tensor, "batch n_out frame"]:
        """Compute the outputs of each frame from the whole clip."""
        batch, n_in, frames = features.shape
        bins = n_in // 2
        z = self.inlet(features.view(batch, 2, bins, frames))
        z = z.permute(0, 3, 2, 1)  # (batch, frame, bin, channel)
        for along_bins, along_frames in zip(self.along_bins, self.along_frames, strict=True):
            z = along_bins(z.reshape(batch * frames, bins, -1)).view(batch, frames, bins, -1)
            z = z.transpose(1, 2).reshape(batch * bins, frames, -1)  # (batch x bin, frame, channel)
            z = along_frames(z).view(batch, bins, frames, -1).transpose(1, 2)
        parts: Tensor = self.outlet(z.permute(0, 3, 2, 1))  # (batch, source x part, bin, frame)
        return parts.flatten(1, 2)
