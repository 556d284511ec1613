"""What networks that run along and across chunks have in common: the chunks, the runs, and the gated output.

Y. Luo, Z. Chen, T. Yoshioka, "Dual-path RNN", ICASSP 2020, section 2; the gated output is that of Y. Luo,
E. Ceolini, C. Han, S.-C. Liu, N. Mesgarani, "FaSNet", ASRU 2019, which the dual-path networks took over.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sepnet.types import SepnetError

Chunks = Float[Tensor, "batch channel frame_of_chunk chunk"]
Planes = Float[Tensor, "batch channel step other"]
Rows = Float[Tensor, "row step channel"]


def n_sources_of(n_in: int, n_out: int) -> int:
    """How many masks of ``n_in`` features there are in ``n_out`` outputs.

    Raises:
        SepnetError: The outputs are not masks of the input.
    """
    if n_out % n_in:
        raise SepnetError(
            f"the network makes masks of its {n_in} features, but {n_out} outputs are wanted: take features "
            "that are as many as the coefficients of the filterbank (features=coefficients)"
        )
    return n_out // n_in


def check_chunks(chunk_frames: int) -> None:
    """Raise SepnetError for chunks that can't overlap by half."""
    if chunk_frames < 2 or chunk_frames % 2:
        raise SepnetError(
            f"chunk_frames is {chunk_frames}, but has to be even and positive: take "
            f"{max(2, chunk_frames + 1)}"
        )


def cut_chunks(
    x: Float[Tensor, "batch channel frame"], *, chunk_frames: int, hop_frames: int, before: int, after: int
) -> Chunks:
    """Cut into chunks that overlap, after padding with zeros.

    Args:
        x: Frames.
        chunk_frames: Frames of a chunk.
        hop_frames: Distance between two chunks, in frames.
        before: Frames of zeros at the beginning.
        after: Frames of zeros at the end; what then fills no whole hop is left out.

    Returns:
        The chunks.
    """
    return F.pad(x, (before, after)).unfold(2, chunk_frames, hop_frames).transpose(2, 3)


def add_chunks(
    chunks: Chunks, *, hop_frames: int, before: int, n_frames: int
) -> Float[Tensor, "batch channel frame"]:
    """Add up overlapping chunks.

    Args:
        chunks: The chunks.
        hop_frames: Distance between two of them, in frames; half a chunk.
        before: Frames to leave out at the beginning.
        n_frames: Frames to return.

    Returns:
        The sums.
    """
    first, second = chunks[:, :, :hop_frames].transpose(2, 3), chunks[:, :, hop_frames:].transpose(2, 3)
    return (F.pad(first, (0, 0, 0, 1)) + F.pad(second, (0, 0, 1, 0))).flatten(2).narrow(2, before, n_frames)


def along_steps(run: Callable[[Rows], Rows], x: Planes) -> Planes:
    """Run along ``step``, for each index of ``other`` on its own.

    Args:
        run: Gives as many steps and channels as it gets, for each row on its own.
        x: Chunks, or chunks whose last two axes are exchanged.

    Returns:
        What it gives.
    """
    n_batch, n_channels, n_steps, n_others = x.shape
    rows = run(x.permute(0, 3, 2, 1).reshape(n_batch * n_others, n_steps, n_channels))
    return rows.reshape(n_batch, n_others, n_steps, n_channels).permute(0, 3, 2, 1)


def alternate(x: Chunks, within: nn.ModuleList, across: nn.ModuleList) -> Chunks:
    """Run along the frames of each chunk and across the chunks alternately, beginning within chunks."""
    for run_within, run_across in zip(within, across, strict=True):
        x = run_within(x)
        x = run_across(x.transpose(2, 3)).transpose(2, 3)
    return x


class Gate(nn.Module):
    """The gate through which all sources go: tanh of one layer times the sigmoid of another.

    Args:
        n_gated: Channels of the gate.
        n_features: Channels of a mask.
        has_projection: Whether another layer without bias makes the mask from what passes the gate.
    """

    def __init__(self, *, n_gated: int, n_features: int, has_projection: bool = True) -> None:
        super().__init__()
        self.value = nn.Conv1d(n_gated, n_gated, 1)
        self.gate = nn.Conv1d(n_gated, n_gated, 1)
        self.projection = nn.Conv1d(n_gated, n_features, 1, bias=False) if has_projection else None

    def masks(
        self, x: Float[Tensor, "batch_of_sources gated frame"], n_sources: int
    ) -> Float[Tensor, "batch n_out frame"]:
        """Make masks, those of the first source first, of sources whose mixtures follow each other."""
        x = self.value(x).tanh() * self.gate(x).sigmoid()
        if self.projection is not None:
            x = self.projection(x)
        masks: Tensor = x.reshape(-1, n_sources * x.shape[1], x.shape[2])
        return masks


class GatedOutput(Gate):
    """Makes the masks of all sources from the last chunks: a layer a source, overlap-add, and a gate.

    Args:
        n_channels: Channels of the chunks.
        n_gated: Channels of the gate.
        n_features: Channels of a mask.
        n_sources: Number of masks.
        divisor: By which the sums of overlapping chunks are divided.
        has_projection: See ``Gate``.
    """

    def __init__(
        self,
        *,
        n_channels: int,
        n_gated: int,
        n_features: int,
        n_sources: int,
        divisor: float = 1.0,
        has_projection: bool = True,
    ) -> None:
        super().__init__(n_gated=n_gated, n_features=n_features, has_projection=has_projection)
        self.n_sources, self.divisor = n_sources, divisor
        self.activation = nn.PReLU()
        self.sources = nn.Conv2d(n_channels, n_sources * n_gated, 1)

    def forward(
        self, chunks: Chunks, *, hop_frames: int, before: int, n_frames: int
    ) -> Float[Tensor, "batch n_out frame"]:
        """Make the masks, those of the first source first."""
        chunks = self.sources(self.activation(chunks))  # (batch, source x gated, frame of chunk, chunk)
        n_batch, n_channels, *shape = chunks.shape
        each = chunks.reshape(n_batch * self.n_sources, n_channels // self.n_sources, *shape)
        x = add_chunks(each, hop_frames=hop_frames, before=before, n_frames=n_frames) / self.divisor
        return self.masks(x, self.n_sources)
