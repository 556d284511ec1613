"""A mask over (time, mel) that is a mixture of K two-dimensional Gaussians, rendered sparsely.

With z = (frame, mel), both counted in cells,

    g_k(z) = sigmoid(a_k) exp(-q_k(z) / 2),     q_k(z) = (z - mu_k)' Sigma_k^-1 (z - mu_k),     (1)
    M(z) = 1 - prod_k (1 - g_k(z)) = 1 - exp(L(z)),     L(z) = sum_k log(1 - g_k(z)).           (2)

M lies in [0, 1) whatever the parameters, and is smooth in all of them: nothing is clamped. Sigma_k has the
standard deviations exp(log_scales) along two axes, which are turned by a rotation.

A Gaussian is rendered only where q_k <= 9, which is within three standard deviations: that ellipse is cut
into rows, one for each frame, and rows of about the same length are computed together, of whatever Gaussians.
The logarithm of what survives adds up over them. The gradient needs no graph of the cells: with l_k = log g_k
and w_k(z) = dE/dl_k(z),

    w_k(z) = dE/dM(z) exp(L(z)) g_k(z) / (1 - g_k(z)),                                          (3)

dE/dparameters are sums of w_k(z) times 1, z - mu_k and the products of its parts: six moments of each k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

CUT_SIGMAS = 3.0
SHORTEST = 8  # mels; rows of up to so many, and of up to twice, four times ... as many are computed together

Mask = Float[Tensor, "frame mel"]


@dataclass(frozen=True)
class Gaussians:
    """The parameters of K Gaussians, in cells.

    logits: (K,), a_k. means: (K, 2), frame and mel. log_scales: (K, 2), of the standard deviations along the
    two axes. rotations: (K,), radians from the axis of time towards that of mel.
    """

    logits: Float[Tensor, " gaussian"]
    means: Float[Tensor, "gaussian 2"]
    log_scales: Float[Tensor, "gaussian 2"]
    rotations: Float[Tensor, " gaussian"]

    def precisions(self) -> Float[Tensor, "gaussian 3"]:
        """Sigma_k^-1: its entries for (frame, frame), (frame, mel) and (mel, mel)."""
        return self._turned(torch.exp(-2 * self.log_scales))

    def covariances(self) -> Float[Tensor, "gaussian 3"]:
        """Sigma_k, as ``precisions``."""
        return self._turned(torch.exp(2 * self.log_scales))

    def _turned(self, diagonal: Tensor) -> Tensor:
        """R diag R' with R the rotation."""
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
    """(1) and (2) as they stand, every Gaussian in every cell: what ``render`` is held against.

    cut_sigmas: leave each Gaussian out beyond so many standard deviations; None: nowhere.
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
    """(2) with each Gaussian cut off at three standard deviations, where it is under 1.2 % of its height."""
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
    """What Gaussians cover of single frames: of each, from the mel ``first`` on, as many mels as the longest.

    members: which Gaussian. cells: (row, mel), places in the flat mask. dt, df: frame and first mel less the
    mean. powers: (3, mel), of how many mels a cell is after the first: to the 0, 1 and 2.
    """

    members: Tensor
    cells: Tensor
    dt: Tensor
    df: Tensor
    powers: Tensor


def _rows(means: Tensor, precisions: Tensor, covariances: Tensor, T: int, N: int) -> list[_Rows]:
    """All rows in sight, in groups of lengths between a half of the longest and that.

    In a frame, with Sigma^-1 = (tt tf; tf ff), q = ff (df + dt tf / ff)^2 + (tt - tf^2 / ff) dt^2, which is
    at most 9 in a stretch about mu - dt tf / ff.
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
    # A cell more on each side: what rounding might lose is seen to by the cut itself.
    first = (centre - half).floor().clamp(0, N).long()
    lengths = (centre + half).ceil().clamp(-1, N - 1).long() + 1 - first
    kinds = torch.log2(lengths.clamp_min(1) / SHORTEST).ceil().clamp_min(0).masked_fill(lengths <= 0, -1)
    found = []
    for kind in range(1 + int(kinds.max()) if len(kinds) else 0):
        rows = (kinds == kind).nonzero().flatten()
        if not len(rows):
            continue
        longest = int(lengths[rows].max())
        start = first[rows].clamp_max(N - longest)  # so that the whole row lies inside
        steps = torch.arange(longest, device=means.device)
        powers = torch.stack([steps**n for n in range(3)]).to(means)
        cells = (frames[rows] * N + start)[:, None] + steps
        chosen = members[rows]
        found.append(_Rows(chosen, cells, dt[rows], start - means[chosen, 1], powers))
    return found


class _Render(torch.autograd.Function):
    """(2) and (3) over rows; log amplitudes (K,), means (K, 2), precisions and covariances (K, 3)."""

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
            # l = peak - q / 2 is of degree 2 in how many mels a cell is after the first of its row.
            nought = peak - (tt * dt.square() + 2 * tf * dt * df + ff * df.square()) / 2
            coefficients = torch.stack([nought, -tf * dt - ff * df, ff / -2], dim=-1)
            below = coefficients @ rows.powers  # (row, mel)
            outside = below < (peak - CUT_SIGMAS**2 / 2)[:, None]
            # g - 1, exact for g near 1; the limit is for the rounding of l
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
