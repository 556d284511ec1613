"""Whether a source stays on the same output for the length of a recording."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from sepnet.metrics.sdr import improvement, si_sdr

MIN_ENERGY = 1e-3  # a second in which the references have less energy is not judged


class OutputTracking(NamedTuple):
    """How well two outputs follow two sources.

    Attributes:
        swapped: Share of the active seconds in which the other order of the outputs fits better, 0 to 1/2.
        si_sdri_db: Mean SI-SDR improvement over the whole recording, in the order that fits it best.
    """

    swapped: float
    si_sdri_db: float


def output_tracking(
    estimates: Float[Tensor, "source time"], references: Float[Tensor, "source time"], sample_rate: int
) -> OutputTracking:
    """Measure in which share of the seconds two sources are on the wrong outputs.

    In each second, the squared error of both orders is compared; the order that fits more seconds is the
    right one. Seconds in which both references are nearly silent are left out.

    Args:
        estimates: (source, time), two of them.
        references: (source, time), two of them, as long as the estimates.
        sample_rate: Hz.

    Returns:
        The share of swapped seconds, and the mean SI-SDR improvement in dB.
    """
    n_seconds = references.shape[1] // sample_rate
    estimated, true = (
        signals[:, : n_seconds * sample_rate].reshape(2, n_seconds, sample_rate)  # (source, second, time)
        for signals in (estimates, references)
    )
    errors = (estimated - true).square().sum(dim=(0, 2))
    swapped_errors = (estimated.flip(0) - true).square().sum(dim=(0, 2))
    active = true.square().sum(dim=(0, 2)) > MIN_ENERGY
    swapped = float(((swapped_errors < errors) & active).sum() / active.sum())
    if swapped > 0.5:
        swapped, estimates = 1 - swapped, estimates.flip(0)
    mixture = references.sum(dim=0).expand_as(references)
    return OutputTracking(swapped, float(improvement(si_sdr, estimates, references, mixture).mean()))
