"""A mask over (frame, mel) that is a mixture of K two-dimensional Gaussians, rendered sparsely.

With z = (frame, mel), both in cells,

    g_k(z) = sigmoid(a_k) exp(-q_k(z) / 2),     q_k(z) = (z - mu_k)' Sigma_k^-1 (z - mu_k),     (1)
    M(z) = 1 - prod_k (1 - g_k(z)) = 1 - exp(L(z)),     L(z) = sum_k log(1 - g_k(z)).           (2)

M lies in [0, 1) whatever the parameters, and is smooth in all of them: nothing is clamped. Sigma_k has the
standard deviations exp(log_scales) along two axes, which are turned by a rotation.

A Gaussian is rendered only where q_k <= 9, which is within three standard deviations. That ellipse is cut
into rows, one for each frame; rows of about the same length, of any Gaussians, are computed together, and
their log(1 - g_k) are summed into L. The gradient needs no graph of the cells: with l_k = log g_k and
w_k(z) = dE/dl_k(z),

    w_k(z) = dE/dM(z) exp(L(z)) g_k(z) / (1 - g_k(z)),                                          (3)

dE/dparameters are sums of w_k(z) times 1, z - mu_k and the products of its components: six moments for each
k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

CUT_SIGMAS = 3.0
MIN_GROUP_MELS = 8  # rows of up to 8 mels are computed together, then those of up to 16, of up to 32, ...

Mask = Float[Tensor, "frame mel"]


@dataclass(frozen=True)
class Gaussians:
    """The parameters of K Gaussians, in cells.

    Attributes:
        logits: (K,), a_k: the height is its sigmoid.
        means: (K, 2), frame and mel.
        log_scales: (K, 2), natural logarithm of the standard deviations along the two axes.
        rotations: (K,), in radians from the frame axis towards the mel axis.
    """

    logits: Float[Tensor, " gaussian"]
    means: Float[Tensor, "gaussian 2"]
    log_scales: Float[Tensor, "gaussian 2"]
    rotations: Float[Tensor, " gaussian"]

    def precisions(self) -> Float[Tensor, "gaussian 3"]:
        """Sigma_k^-1: its entries (frame, frame), (frame, mel) and (mel, mel)."""
        return self._rotated(torch.exp(-2 * self.log_scales))

    def covariances(self) -> Float[Tensor, "gaussian 3"]:
        """Sigma_k, in the same layout as ``precisions``."""
        return self._rotated(torch.exp(2 * self.log_scales))

    def _rotated(self, diagonal: Tensor) -> Tensor:
        """R diag R', where R is the rotation."""
        along, across = diagonal.unbind(dim=-1)
        cosine, sine = torch.cos(self.rotations), torch.sin(self.rotations)
        return torch.stack(
            [
                along * cosine.square() + across * sine.square(),
                (along - across) * cosine * sine,
                along * sine.square() + across * cosine.square(),
            ],
            dim=-1,
        )


def render_dense(
    gaussians: Gaussians, n_frames: int, n_mels: int, *, cut_sigmas: float | None = None
) -> Mask:
    """Render (1) and (2) literally, every Gaussian in every cell: the reference for ``render``.

    Args:
        gaussians: The K Gaussians.
        n_frames: Frames of the mask.
        n_mels: Mel bands of the mask.
        cut_sigmas: Distance from the mean, in standard deviations, beyond which a Gaussian is 0; None: none.

    Returns:
        The mask, (frame, mel) in [0, 1).
    """
    like = gaussians.means
    frames = torch.arange(n_frames, device=like.device, dtype=like.dtype)
    mels = torch.arange(n_mels, device=like.device, dtype=like.dtype)
    dt = frames[None, :, None] - gaussians.means[:, 0, None, None]  # (K, frame, 1)
    df = mels[None, None, :] - gaussians.means[:, 1, None, None]  # (K, 1, mel)
    tt, tf, ff = gaussians.precisions()[:, :, None, None].unbind(dim=1)
    q = tt * dt.square() + 2 * tf * dt * df + ff * df.square()
    survival = -torch.expm1(F.logsigmoid(gaussians.logits)[:, None, None] - q / 2)
    if cut_sigmas is not None:
        survival = torch.where(q <= cut_sigmas**2, survival, 1.0)
    return 1 - survival.prod(dim=0)


def render(gaussians: Gaussians, n_frames: int, n_mels: int) -> Mask:
    """Render (2) with each Gaussian cut off at three standard deviations, where it is 1.2 % of its height.

    Args:
        gaussians: The K Gaussians; the mask is differentiable with respect to all their parameters.
        n_frames: Frames of the mask.
        n_mels: Mel bands of the mask.

    Returns:
        The mask, (frame, mel) in [0, 1).
    """
    mask: Mask = _Render.apply(  # type: ignore[no-untyped-call]
        F.logsigmoid(gaussians.logits),
        gaussians.means,
        gaussians.precisions(),
        gaussians.covariances().detach(),
        n_frames,
        n_mels,
    )
    return mask


@dataclass(frozen=True)
class _Rows:
    """Rows of cells: the part of a frame that a Gaussian covers. All rows of a group have the same length.

    Attributes:
        members: (row,), which Gaussian.
        cells: (row, mel), indices into the flattened mask.
        dt: (row,), the frame minus the mean's.
        df: (row,), the first mel minus the mean's.
        powers: (3, mel), the distance of a cell from the first one of its row, to the power of 0, 1 and 2.
    """

    members: Tensor
    cells: Tensor
    dt: Tensor
    df: Tensor
    powers: Tensor


def _rows(means: Tensor, precisions: Tensor, covariances: Tensor, T: int, N: int) -> list[_Rows]:
    """All rows inside the mask, in groups whose longest row is at most about twice as long as the shortest.

    In a frame, with Sigma^-1 = (tt tf; tf ff), q = ff (df + dt tf / ff)^2 + (tt - tf^2 / ff) dt^2. It is at
    most 9 in an interval around mu - dt tf / ff.
    """
    reach = CUT_SIGMAS * covariances[:, 0].sqrt()
    begin = (means[:, 0] - reach).ceil().clamp(0, T).long()
    counts = ((means[:, 0] + reach).floor().clamp(-1, T - 1).long() + 1 - begin).clamp_min(0)
    members = torch.arange(len(means), device=means.device).repeat_interleave(counts)
    before = counts.cumsum(0) - counts
    frames = torch.arange(len(members), device=means.device) + (begin - before)[members]
    dt = frames - means[members, 0]
    tt, tf, ff = precisions[members].unbind(dim=1)
    centre = means[members, 1] - dt * tf / ff
    half = ((CUT_SIGMAS**2 - (tt - tf.square() / ff) * dt.square()).clamp_min(0) / ff).sqrt()
    # One more cell on each side: rounding may not lose any, and the cut itself removes the superfluous ones.
    first = (centre - half).floor().clamp(0, N).long()
    lengths = (centre + half).ceil().clamp(-1, N - 1).long() + 1 - first
    groups = (
        torch.log2(lengths.clamp_min(1) / MIN_GROUP_MELS).ceil().clamp_min(0).masked_fill(lengths <= 0, -1)
    )
    rows_by_group = []
    for group in range(1 + int(groups.max()) if len(groups) else 0):
        rows = (groups == group).nonzero().flatten()
        if not len(rows):
            continue
        longest = int(lengths[rows].max())
        start = first[rows].clamp_max(N - longest)  # so that the whole row lies inside
        steps = torch.arange(longest, device=means.device)
        powers = torch.stack([steps**n for n in range(3)]).to(means)
        cells = (frames[rows] * N + start)[:, None] + steps
        chosen = members[rows]
        rows_by_group.append(_Rows(chosen, cells, dt[rows], start - means[chosen, 1], powers))
    return rows_by_group


class _Render(torch.autograd.Function):
    """(2) and (3) over rows, from log heights (K,), means (K, 2), precisions and covariances (K, 3)."""

    @staticmethod
    def forward(
        context: Any, peaks: Tensor, means: Tensor, precisions: Tensor, covariances: Tensor, T: int, N: int
    ) -> Tensor:
        logs = means.new_zeros(T * N)  # L
        tiny = torch.finfo(means.dtype).tiny
        parts = []
        for rows in _rows(means, precisions, covariances, T, N):
            tt, tf, ff = precisions[rows.members].unbind(dim=1)
            dt, df, peak = rows.dt, rows.df, peaks[rows.members]
            # l = peak - q / 2 is a polynomial of degree 2 in the distance from the first cell of the row.
            constant = peak - (tt * dt.square() + 2 * tf * dt * df + ff * df.square()) / 2
            coefficients = torch.stack([constant, -tf * dt - ff * df, ff / -2], dim=-1)
            below = coefficients @ rows.powers  # (row, mel)
            outside = below < (peak - CUT_SIGMAS**2 / 2)[:, None]
            # g - 1, exact for g near 1; the limit allows for the rounding of l
            below = below.expm1_().clamp_(max=-tiny).masked_fill_(outside, -1.0)
            logs.index_add_(0, rows.cells.flatten(), below.neg().log_().flatten())
            parts.append((rows, below))
        context.parts = parts
        context.save_for_backward(means, precisions, logs)
        return -torch.expm1(logs).view(T, N)

    @staticmethod
    def backward(context: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        means, precisions, logs = context.saved_tensors
        outer = slopes[0].flatten() * logs.exp()
        moments = means.new_zeros(len(means), 6)
        for rows, below in context.parts:
            # (3): g / (1 - g) = -(1 + b) / b = -1 / b - 1 with b = g - 1
            w = outer[rows.cells].mul_((-1 / below).sub_(1))
            one, step, square = (w @ rows.powers.T).unbind(dim=1)
            dt, df = rows.dt, rows.df
            to_mel = step + df * one
            to_mels = square + 2 * df * step + df.square() * one
            summed = torch.stack([one, dt * one, to_mel, dt.square() * one, dt * to_mel, to_mels], dim=-1)
            moments.index_add_(0, rows.members, summed)
        tt, tf, ff = precisions.unbind(dim=1)
        mass, frame, mel, frames, both, mels = moments.unbind(dim=1)
        mean = torch.stack([tt * frame + tf * mel, tf * frame + ff * mel], dim=-1)
        precision = torch.stack([-frames / 2, -both, -mels / 2], dim=-1)
        return mass, mean, precision, None, None, None
