"""Training without gradients: a separator fits itself to clips, and is then validated like all others."""

from __future__ import annotations

import time

import torch
from tqdm import tqdm

from sepnet.data.dataset import MixtureData
from sepnet.training.task import si_sdr_gain
from sepnet.types import FittedSeparator, SepnetError


def fit(
    separator: FittedSeparator, data: MixtureData, *, n_valid: int | None = None
) -> dict[str, float | int]:
    """Fit a separator to the training split, then score it on validation mixtures.

    Args:
        separator: The separator; it is changed.
        data: The clips to fit to, and the validation mixtures.
        n_valid: The number of validation mixtures, from the first; None for all.

    Returns:
        ``si_sdri_db``, the mean over mixtures as in ``SeparationTask``; ``n_valid``, the number of mixtures
        that were scored; ``fit_seconds``, the time of the fit; and the figures that the separator returned.

    Raises:
        SepnetError: There is nothing to score: no mixtures, or only silent sources.
    """
    valid = data.valid()
    n_mixtures = len(valid) if n_valid is None else min(n_valid, len(valid))
    if n_mixtures < 1:
        raise SepnetError(f"loader.n_valid={n_valid} of {len(valid)} validation mixtures: score one or more")
    start = time.monotonic()
    figures = separator.fit(data.clips())
    seconds = time.monotonic() - start
    bar = tqdm(range(n_mixtures), desc="validation", unit="mixture", leave=False, disable=None)
    gains = [gain for index in bar if (gain := si_sdr_gain(separator, valid[index])) is not None]
    if not gains:
        raise SepnetError(
            f"all sources of the {n_mixtures} validation mixtures are silent, so there is nothing to score: "
            "look at the data"
        )
    score = float(torch.stack(gains).mean())
    return {"si_sdri_db": score, "n_valid": len(gains), "fit_seconds": round(seconds, 1), **figures}
