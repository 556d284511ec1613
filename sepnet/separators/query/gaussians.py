"""A mask over (time, mel) that is a mixture of K two-dimensional Gaussians, rendered sparsely.

With z = (frame, mel), both counted in cells,

    g_k(z) = sigmoid(a_k) exp(-q_k(z) / 2),     q_k(z) = (z - mu_k)' Sigma_k^-1 (z - mu_k),     (1)
    M(z) = 1 - prod_k (1 - g_k(z)) = 1 - exp(L(z)),     L(z) = sum_k log(1 - g_k(z)).           (2)

M lies in [0, 1) whatever the parameters, and is smooth in all of them: nothing is clamped. Sigma_k has the
standard deviations exp(log_scales) along two axes, which are turned by a rotation.

A Gaussian is rendered only where q_k <= 9, which is within three standard deviations, and each only in a box
about that ellipse; boxes of about the same size are computed together. The logarithm of what survives then
adds up over the boxes. The gradient needs no graph of the cells: with l_k = log g_k and w_k(z) = dE/dl_k(z),

    w_k(z) = dE/dM(z) exp(L(z)) g_k(z) / (1 - g_k(z)),                                          (3)

dE/dparameters are sums of w_k(z) times 1, z - mu_k and the products of its parts: six moments of each box.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

CUT_SIGMAS = 3.0
BOX_FRAMES, BOX_MELS = 4, 4  # the smallest boxes; others are these doubled until they hold the ellipse

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


def _boxes(
    means: Tensor, covariances: Tensor, size: tuple[int, int]
) -> list[tuple[Tensor, Tensor, tuple[int, int]]]:
    """Which Gaussians (their numbers), where their boxes begin (n, 2), and the frames and mels of each box.

    Those whose ellipse lies outside of the mask are in none of them.
    """
    limits = torch.tensor(size, device=means.device)
    reach = CUT_SIGMAS * covariances[:, [0, 2]].sqrt()
    first = torch.minimum((means - reach).ceil().clamp_min(0).long(), limits)
    end = torch.minimum((means + reach).floor().long() + 1, limits)
    extent = (end - first).clamp_min(0)
    smallest = torch.tensor([BOX_FRAMES, BOX_MELS], device=means.device)
    doublings = torch.log2(extent / smallest).ceil().clamp_min(0).long()
    code = torch.where(extent.amin(dim=1) > 0, doublings[:, 0] * 64 + doublings[:, 1], -1)
    found = []
    for kind in sorted(set(code.tolist())):
        if kind < 0:
            continue
        members = (code == kind).nonzero().flatten()
        longest = extent[members].amax(dim=0)
        start = torch.minimum(first[members], limits - longest)  # the whole box lies inside
        found.append((members, start, (int(longest[0]), int(longest[1]))))
    return found


class _Render(torch.autograd.Function):
    """(2) and (3) over boxes; log amplitudes (K,), means (K, 2), precisions and covariances (K, 3)."""

    @staticmethod
    def forward(
        context: Any, peaks: Tensor, means: Tensor, precisions: Tensor, covariances: Tensor, T: int, N: int
    ) -> Tensor:
        logs = means.new_zeros(T * N)  # L
        tiny = torch.finfo(means.dtype).tiny
        parts = []
        for members, start, (n_t, n_f) in _boxes(means, covariances, (T, N)):
            frames = start[:, :1] + torch.arange(n_t, device=means.device)  # (n, frame)
            mels = start[:, 1:] + torch.arange(n_f, device=means.device)  # (n, mel)
            dt, df = frames - means[members, :1], mels - means[members, 1:]
            tt, tf, ff = precisions[members].unbind(dim=1)
            # -q / 2 = (-tt dt^2 / 2) 1 + (-tf dt) df + 1 (-ff df^2 / 2): a product of ranks 3
            left = torch.stack([tt[:, None] * dt.square() / -2, -tf[:, None] * dt, torch.ones_like(dt)], -1)
            right = torch.stack([torch.ones_like(df), df, ff[:, None] * df.square() / -2], 1)
            exponent = left @ right  # (n, frame, mel)
            outside = exponent < -(CUT_SIGMAS**2) / 2
            below = torch.expm1(exponent.add_(peaks[members, None, None]))  # g - 1: exact for g near 1
            below.clamp_(max=-tiny)  # only where even expm1 rounds to zero
            below.masked_fill_(outside, -1.0)
            cells = ((frames * N)[:, :, None] + mels[:, None, :]).flatten()
            logs.index_add_(0, cells, below.neg().log_().flatten())
            parts.append((members, cells, dt, df, below))
        context.parts, context.shape = parts, means.shape
        context.save_for_backward(means, precisions, logs)
        return -torch.expm1(logs).view(T, N)

    @staticmethod
    def backward(context: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        means, precisions, logs = context.saved_tensors
        outer = slopes[0].flatten() * logs.exp()
        moments = means.new_zeros(len(means), 3, 3)
        for members, cells, dt, df, below in context.parts:
            # (3): g / (1 - g) = -(1 + b) / b = -1 / b - 1 with b = g - 1
            w = outer[cells].view_as(below) * (-1 - below.reciprocal())
            left = torch.stack([torch.ones_like(dt), dt, dt.square()], 1)  # (n, 3, frame)
            right = torch.stack([torch.ones_like(df), df, df.square()], -1)  # (n, mel, 3)
            moments[members] = left @ w @ right
        tt, tf, ff = precisions.unbind(dim=1)
        to_frame, to_mel = moments[:, 1, 0], moments[:, 0, 1]
        mean = torch.stack([tt * to_frame + tf * to_mel, tf * to_frame + ff * to_mel], dim=-1)
        precision = torch.stack([-moments[:, 2, 0] / 2, -moments[:, 1, 1], -moments[:, 0, 2] / 2], dim=-1)
        return moments[:, 0, 0], mean, precision, None, None, None
