"""In/out scores, which the guard compares: is the query in the target, and out of the residual?"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sepnet.query.mel_masking import MelMasking
from sepnet.query.optimisation.task import EmbedWindows, InOutScore
from sepnet.query.windowing import zero_padded_windows


def embedding_score(
    mixture: Float[Tensor, " time"],
    query: Float[Tensor, " embedding"],
    embed: EmbedWindows,
    *,
    window_samples: int,
) -> InOutScore:
    """Make a score from embeddings of windows, which overlap by half.

    Args:
        mixture: Each window is weighted by the power of the mixture in it.
        query: The embedding of the query.
        embed: From windows (window, sample) to embeddings.
        window_samples: Length of the windows; a shorter mixture is one window.

    Returns:
        A function of target and residual: the weighted mean difference of their cosine similarities to the
        query.
    """
    length = min(window_samples, len(mixture))
    hop = max(1, length // 2)
    weights = zero_padded_windows(mixture, length, hop).square().mean(dim=1)
    weights = weights / weights.sum().clamp_min(1e-12)

    def score(target: Tensor, residual: Tensor) -> float:
        windows = torch.cat([zero_padded_windows(signal, length, hop) for signal in (target, residual)])
        inside, outside = F.cosine_similarity(embed(windows), query[None], dim=-1).chunk(2)
        return float((weights * (inside - outside)).sum())

    return score


def spectral_score(masking: MelMasking, example: Float[Tensor, " time"]) -> InOutScore:
    """Make a score from mean log-mel spectra, which takes almost no time to compute.

    Args:
        masking: The mel scale.
        example: The query.

    Returns:
        A function of target and residual: the difference of their correlation with the query's spectrum.
    """

    def log_spectrum(signal: Tensor) -> Tensor:
        levels = torch.log10(masking.mel_powers(signal).mean(dim=0) + 1e-10)
        return levels - levels.mean()

    query = log_spectrum(example)

    def score(target: Tensor, residual: Tensor) -> float:
        inside, outside = (
            F.cosine_similarity(log_spectrum(signal), query, dim=0) for signal in (target, residual)
        )
        return float(inside - outside)

    return score
