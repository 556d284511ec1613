"""Properties of a mixture by which the report breaks the table down: levels, overlap, sexes, condition."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.evaluation.contender import HasConditions, HasSexes
from sepnet.metrics.sdr import is_silent
from sepnet.types import Mixtures

FRAME_SECONDS = 0.02
ACTIVE_RANGE_DB = 40.0  # the dynamic range that STOI takes for speech (Taal et al. 2011)


def level_differences_db(references: Float[Tensor, "source time"]) -> list[float | None]:
    """Compute the power of each source over that of the sum of the others.

    Args:
        references: (source, time).

    Returns:
        A ratio in dB for each source; None if the source or the sum of the others is silent.
    """
    sources = references.double()
    rest = sources.sum(dim=0, keepdim=True) - sources  # (source, time)
    undefined = is_silent(sources) | is_silent(rest)
    ratios = sources.square().mean(dim=-1) / rest.square().mean(dim=-1)
    return [
        None if is_undefined else 10 * math.log10(float(ratio))
        for is_undefined, ratio in zip(undefined.tolist(), ratios, strict=True)
    ]


def overlap(references: Float[Tensor, "source time"], sample_rate: int) -> float:
    """Compute the share of the time in which two sources or more are active.

    A source is active in a frame of 20 ms whose power is at most 40 dB below that of its loudest frame; a
    silent source is never active. The last frame may be shorter, and counts by its length.

    Args:
        references: (source, time).
        sample_rate: In Hz.

    Returns:
        A share from 0 to 1.
    """
    n_samples = references.shape[-1]
    frame = max(1, round(FRAME_SECONDS * sample_rate))
    n_frames = -(-n_samples // frame)
    padded = torch.nn.functional.pad(references.double(), (0, n_frames * frame - n_samples))
    lengths = torch.full((n_frames,), float(frame), dtype=torch.float64)
    lengths[-1] = n_samples - (n_frames - 1) * frame
    energy = padded.reshape(-1, n_frames, frame).square().sum(dim=-1)  # (source, frame, sample)
    power = energy / lengths
    threshold = power.amax(dim=-1, keepdim=True) * 10 ** (-ACTIVE_RANGE_DB / 10)
    active = (power >= threshold) & ~is_silent(references)[:, None]
    return float(lengths[active.sum(dim=0) >= 2].sum() / n_samples)


def sexes(mixtures: Mixtures, index: int) -> str:
    """Return the sexes of a mixture's speakers, sorted and joined, as in f+m; empty if one is unknown."""
    of_sources = mixtures.sexes(index) if isinstance(mixtures, HasSexes) else ()
    return "+".join(sorted(of_sources)) if all(of_sources) else ""


def condition(mixtures: Mixtures, index: int) -> str:
    """Return the condition under which a mixture was made; empty if the test set has only one."""
    return mixtures.condition(index) if isinstance(mixtures, HasConditions) else ""
