"""Mixture consistency: estimates that sum to the mixture, and gains that bring them to its level."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

MAX_RATIO = 10.0  # between the gain of an estimate and the common gain: 20 dB
N_SWEEPS = 8  # of coordinate descent; estimates hardly correlate, so that it converges at once


def make_consistent(
    estimates: Float[Tensor, "*batch source time"], mixture: Float[Tensor, "*batch time"]
) -> Float[Tensor, "*batch source time"]:
    """Make estimates sum to the mixture: the difference is added to them in equal shares.

    This is the smallest change in the least-squares sense: Wisdom et al., "Differentiable consistency
    constraints for improved deep speech enhancement", ICASSP 2019, eq. 7. Shares by the magnitudes of the
    estimates in each bin of an STFT gained less (pit-2spk-8k on 60 dev mixtures of speech8k, the second voice
    0, 10, 20, 30 dB below the first): mean SI-SDRi 8.40, 8.89, 5.70, -1.62 dB, in equal shares 8.45, 8.93,
    5.76, -1.51 dB.

    Args:
        estimates: (..., source, time).
        mixture: (..., time).

    Returns:
        The consistent estimates.
    """
    missing = mixture - estimates.sum(dim=-2)
    return estimates + missing.unsqueeze(-2) / estimates.shape[-2]


def scale_to_mixture(
    estimates: Float[Tensor, "*batch source time"], mixture: Float[Tensor, "*batch time"]
) -> Float[Tensor, "*batch source time"]:
    """Scale estimates so that their sum comes as close to the mixture as gains can bring it.

    A network that is trained with SI-SDR leaves the level and the sign of its outputs open. With the
    estimates s_k and the mixture x, the gains minimise

        || x - sum_k g_k s_k ||^2   over   0.1 <= g_k / c <= 10,       c = <x, sum_k s_k> / || sum_k s_k ||^2,

    where c is the best gain that all of them can share. The bounds matter where the least squares are
    ill-posed: an output that is silent but for what leaks into it keeps its sign and about its level, so that
    neighbouring chunks of a recording fit together.

    Args:
        estimates: (..., source, time).
        mixture: (..., time).

    Returns:
        The scaled estimates; unchanged where their sum has nothing in common with the mixture.
    """
    gram = estimates @ estimates.mT  # (..., source, source)
    correlation = (estimates @ mixture.unsqueeze(-1)).squeeze(-1)  # (..., source)
    power = gram.sum(dim=(-2, -1))
    common = correlation.sum(dim=-1) / torch.where(power > 0, power, 1.0)
    is_open = (common != 0).unsqueeze(-1)  # (..., 1)
    common = torch.where(is_open, common.unsqueeze(-1), 1.0)
    # Bounded least squares in units of the common gain, by coordinate descent; the objective is convex.
    gains = [torch.ones_like(common[..., 0]) for _ in range(estimates.shape[-2])]
    for _ in range(N_SWEEPS):
        for k in range(len(gains)):
            others = sum(
                (gram[..., k, j] * gains[j] for j in range(len(gains)) if j != k), torch.zeros_like(gains[k])
            )
            own = torch.where(gram[..., k, k] > 0, gram[..., k, k], 1.0)
            gains[k] = ((correlation[..., k] / common[..., 0] - others) / own).clamp(1 / MAX_RATIO, MAX_RATIO)
    scale = torch.where(is_open, common * torch.stack(gains, dim=-1), 1.0)
    return estimates * scale.unsqueeze(-1)
