"""TIGER: a network along bands and along frames, with few weights that are used several times.

M. Xu, K. Li, G. Chen, X. Hu, "TIGER: time-frequency interleaved gain extraction and reconstruction for
efficient speech separation", ICLR 2025. The spectrum is divided into bands, narrow ones for low frequencies,
and each becomes a vector. Two blocks, one along the bands and one along the frames, change these vectors;
they are applied ``n_repeats`` times with the same weights. Each block combines features of several scales
(``MultiScale``) and attends to all places (``JointAttention``). The masks are complex, and those of all
sources sum to 1.

The structure follows the paper; where its published code does something else, it is done as there, because
its weights were trained so: the coarsest scale counts in the mean alone (see ``MultiScale``), and with two
sources the values of all masks come from the first half of the channels of a vector, their gates from the
second.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sepnet.ranges import Depth, LayerSize, SampleRate
from sepnet.types import SepnetError

BANDS_HZ = (*[25] * 40, *[100] * 10, *[250] * 8, *[500] * 8)
"""Widths of the bands from 0 Hz on; the last band is the rest (section 3.2)."""
NORM_EPS, CHANNEL_EPS = 1e-8, 1e-5
DROPOUT = 0.1


def band_sizes(n_bins: int, sample_rate: int) -> list[int]:
    """Divide the bins of a spectrum into bands.

    Args:
        n_bins: Number of bins, from 0 Hz to half the sample rate.
        sample_rate: In Hz.

    Returns:
        The number of bins of each band.

    Raises:
        SepnetError: A band would have no bin.
    """
    sizes = [int(width / (sample_rate / 2) * n_bins) for width in BANDS_HZ]
    sizes.append(n_bins - sum(sizes))
    if min(sizes) < 1:
        raise SepnetError(
            f"{n_bins} bins up to {sample_rate / 2:g} Hz leave a band without a bin: bands are at least 25 "
            f"Hz wide and reach {sum(BANDS_HZ)} Hz, so take a longer window, or a higher sample rate"
        )
    return sizes


class ChannelNorm(nn.Module):
    """Brings the channels of each place, or those of each head there, to mean 0 and variance 1."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(*shape, 1, 1))
        self.offset = nn.Parameter(torch.zeros(*shape, 1, 1))

    def forward(
        self, z: Float[Tensor, "*batch channel step rest"]
    ) -> Float[Tensor, "*batch channel step rest"]:
        """Normalise, then scale and shift the channels."""
        variance, mean = torch.var_mean(z, dim=-3, keepdim=True, correction=0)
        return (z - mean) * (variance + CHANNEL_EPS).rsqrt() * self.gain + self.offset


def normed_conv(
    n_in: int, n_out: int, kernel: int = 1, *, stride: int = 1, depthwise: bool = False, bias: bool = False
) -> nn.Sequential:
    """Make a convolution along a sequence, and a norm over all channels and steps of it."""
    groups = n_in if depthwise else 1
    conv = nn.Conv1d(n_in, n_out, kernel, stride, (kernel - 1) // 2, groups=groups, bias=bias)
    return nn.Sequential(conv, nn.GroupNorm(1, n_out, eps=NORM_EPS))


class Injection(nn.Module):
    """Brings a coarse sequence into a fine one: as gates for its steps, and as a sum."""

    def __init__(self, n_channels: int, kernel: int) -> None:
        super().__init__()
        self.fine, self.gate, self.value = (
            normed_conv(n_channels, n_channels, kernel, depthwise=True) for _ in range(3)
        )

    def forward(
        self, fine: Float[Tensor, "item channel step"], coarse: Float[Tensor, "item channel coarse_step"]
    ) -> Float[Tensor, "item channel step"]:
        """Combine two sequences; each coarse step stands for several fine ones."""
        steps = fine.shape[-1]
        gate = F.interpolate(self.gate(coarse).sigmoid(), size=steps)
        combined: Tensor = self.fine(fine) * gate + F.interpolate(self.value(coarse), size=steps)
        return combined


class MultiScale(nn.Module):
    """Features of several scales, each half as fine as the one before, and their combination (MSA).

    The mean of all scales is injected into each; then each is injected into the next finer one. As in the
    published code, this begins with the scale above the coarsest, into which the one above it is injected, so
    that of three scales or more the coarsest counts in the mean alone.
    """

    def __init__(self, n_channels: int, n_hidden: int, n_scales: int) -> None:
        super().__init__()
        self.project = nn.Sequential(*normed_conv(n_channels, n_hidden, bias=True), nn.PReLU())
        self.scales = nn.ModuleList(
            normed_conv(n_hidden, n_hidden, 5, stride=1 if scale == 0 else 2, depthwise=True, bias=True)
            for scale in range(n_scales)
        )
        self.mean = nn.Sequential(
            *normed_conv(n_hidden, n_hidden),
            nn.Conv1d(n_hidden, n_hidden, 5, padding=2, groups=n_hidden),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            *normed_conv(n_hidden, n_hidden),
            nn.Dropout(DROPOUT),
        )
        self.injections = nn.ModuleList(Injection(n_hidden, 1) for _ in range(max(n_scales - 1, 2)))
        self.combinations = nn.ModuleList(Injection(n_hidden, 5) for _ in range(n_scales - 1))
        self.out = nn.Conv1d(n_hidden, n_channels, 1)

    def forward(self, z: Float[Tensor, "item channel step"]) -> Float[Tensor, "item channel step"]:
        """Transform sequences."""
        scales = [self.project(z)]
        for convolve in self.scales:
            scales.append(convolve(scales[-1]))
        del scales[0]  # which is the input of the finest
        coarsest = scales[-1].shape[-1]
        mean = self.mean(sum(F.adaptive_avg_pool1d(scale, coarsest) for scale in scales))
        injected = [inject(scale, mean) for inject, scale in zip(self.injections, scales, strict=False)]
        combined = injected[len(scales) - 3]
        for number in reversed(range(len(self.combinations))):
            combined = self.combinations[number](injected[number], combined)
        changed: Tensor = self.out(combined) + z
        return changed


class HeadProjection(nn.Module):
    """A linear layer for each head, with its own PReLU and its own norm."""

    def __init__(self, n_in: int, n_out: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.linear = nn.Conv2d(n_in, n_heads * n_out, 1)
        self.slope = nn.Parameter(torch.full((n_heads, 1, 1, 1), 0.25))
        self.norm = ChannelNorm(n_heads, n_out)

    def forward(
        self, z: Float[Tensor, "batch n_in step rest"]
    ) -> Float[Tensor, "batch head n_out step rest"]:
        """Project the channels of each place."""
        batch, _, *place = z.shape
        heads = self.linear(z).view(batch, self.n_heads, -1, *place)
        normed: Tensor = self.norm(torch.where(heads < 0, self.slope * heads, heads))
        return normed


class JointAttention(nn.Module):
    """Self-attention of steps, each with the vectors of all the rest (F3A).

    Along bands, the attention is the same in all frames; along frames, in all bands.
    """

    def __init__(self, n_channels: int, n_heads: int, n_keys: int) -> None:
        super().__init__()
        self.queries, self.keys = (HeadProjection(n_channels, n_keys, n_heads) for _ in range(2))
        self.values = HeadProjection(n_channels, n_channels // n_heads, n_heads)
        self.out = HeadProjection(n_channels, n_channels, 1)

    def forward(
        self, z: Float[Tensor, "batch channel step rest"]
    ) -> Float[Tensor, "batch channel step rest"]:
        """Add to each step a weighted mean of all steps."""
        values = self.values(z).transpose(2, 3)
        queries, keys = (each(z).transpose(2, 3).flatten(3) for each in (self.queries, self.keys))
        attended = F.scaled_dot_product_attention(queries, keys, values.flatten(3))
        heads = attended.view(values.shape).transpose(2, 3)  # (batch, head, channel of the head, step, rest)
        mixed: Tensor = self.out(heads.flatten(1, 2))[:, 0] + z
        return mixed


class Path(nn.Module):
    """A block along one of the axes: bands or frames."""

    def __init__(self, n_channels: int, n_hidden: int, n_scales: int, n_heads: int, n_keys: int) -> None:
        super().__init__()
        self.multi_scale = MultiScale(n_channels, n_hidden, n_scales)
        self.attention = JointAttention(n_channels, n_heads, n_keys)
        self.norm = ChannelNorm(n_channels)

    def forward(
        self, z: Float[Tensor, "batch channel step rest"]
    ) -> Float[Tensor, "batch channel step rest"]:
        """Change the vectors of all steps."""
        batch, n_channels, steps, rest = z.shape
        sequences = z.permute(0, 3, 1, 2).flatten(0, 1)  # (batch x rest, channel, step)
        changed = self.multi_scale(sequences).view(batch, rest, n_channels, steps).permute(0, 2, 3, 1)
        added: Tensor = self.norm(self.attention(changed)) + z
        return added


class Tiger(nn.Module):
    """Complex masks of a spectrogram, which sum to 1 over the sources.

    The defaults are those of the paper's large model, of 0.8 M parameters, with a window of 40 ms.

    Args:
        n_in: Twice the number of bins: real parts, then imaginary ones.
        n_out: The same for each source.
        sample_rate: In Hz; it gives the bands.
        n_channels: Size of the vector of a band.
        n_hidden: Channels of the features of all scales.
        n_scales: Number of scales; at least 2.
        n_heads: Heads of the attention.
        n_keys: Size of a key of a head.
        n_repeats: How often the two blocks are applied.

    Raises:
        SepnetError: A band has no bin, heads or sources can't share the channels evenly, or inputs and
            outputs are no spectra.
    """

    def __init__(
        self,
        n_in: LayerSize,
        n_out: LayerSize,
        *,
        sample_rate: SampleRate = 16000,
        n_channels: LayerSize = 128,
        n_hidden: LayerSize = 256,
        n_scales: Depth = 5,
        n_heads: LayerSize = 4,
        n_keys: LayerSize = 4,
        n_repeats: Depth = 8,
    ) -> None:
        super().__init__()
        n_sources = n_out // n_in
        if n_in % 2 or n_out % n_in or n_channels % n_heads or n_channels % max(n_sources, 1) or n_scales < 2:
            raise SepnetError(
                f"n_channels={n_channels} has to be a multiple of n_heads={n_heads} and of the {n_sources} "
                f"sources, n_scales={n_scales} at least 2, n_in={n_in} even, and n_out={n_out} a multiple of "
                "it: give it spectra (features=coefficients, activation=complex_unbounded)"
            )
        self.n_sources, self.n_repeats = n_sources, n_repeats
        self.band_sizes = band_sizes(n_in // 2, sample_rate)
        eps = torch.finfo(torch.float32).eps
        self.inlets = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(1, 2 * size, eps=eps), nn.Conv1d(2 * size, n_channels, 1))
            for size in self.band_sizes
        )
        sizes = (n_channels, n_hidden, n_scales, n_heads, n_keys)
        self.along_bands, self.along_frames = Path(*sizes), Path(*sizes)
        self.again = nn.Sequential(nn.Conv2d(n_channels, n_channels, 1, groups=n_channels), nn.PReLU())
        self.outlets = nn.ModuleList(
            nn.Sequential(nn.PReLU(), nn.Conv1d(n_channels, 4 * size * n_sources, 1, groups=n_sources))
            for size in self.band_sizes
        )

    def forward(self, spectrum: Float[Tensor, "batch n_in frame"]) -> Float[Tensor, "batch n_out frame"]:
        """Compute the masks: for each source the real parts, then the imaginary ones."""
        batch, n_in, frames = spectrum.shape
        parts = spectrum.view(batch, 2, n_in // 2, frames)
        bands = torch.split(parts, self.band_sizes, dim=2)
        vectors = [inlet(band.flatten(1, 2)) for inlet, band in zip(self.inlets, bands, strict=True)]
        mixture = torch.stack(vectors, dim=2)  # (batch, channel, band, frame)
        z = self._pass(mixture)
        for _ in range(self.n_repeats - 1):
            z = self._pass(self.again(mixture + z))
        return self._masks([outlet(band) for outlet, band in zip(self.outlets, z.unbind(2), strict=True)])

    def _pass(self, z: Tensor) -> Tensor:
        """Apply both blocks to vectors (batch, channel, band, frame)."""
        along_frames: Tensor = self.along_frames(self.along_bands(z).mT)
        return along_frames.mT

    def _masks(self, outputs: Sequence[Tensor]) -> Tensor:
        batch, _, frames = outputs[0].shape
        gated = [band.view(batch, 2, 2, self.n_sources, -1, frames) for band in outputs]
        values, gates = torch.cat(gated, dim=4).unbind(1)  # (batch, part, source, bin, frame) each
        masks = values * gates.sigmoid()
        missing = -masks.sum(dim=2, keepdim=True)
        missing = torch.cat([missing[:, :1] + 1, missing[:, 1:]], dim=1)  # they sum to 1 + 0i
        return (masks + missing / self.n_sources).transpose(1, 2).flatten(1, 3)
