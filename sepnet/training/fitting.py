"""Training without gradients: a separator that fits itself to clips, and is scored like any other."""

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
    """Fit to the training split, then score on the first ``n_valid`` validation mixtures (None: all).

    Returns ``si_sdri_db``, the mean over mixtures as ``SeparationTask`` has it, their number, the seconds
    that fitting took, and what the separator tells. Raises SepnetError where there is nothing to score.
    """
    valid = data.valid()
    count = len(valid) if n_valid is None else min(n_valid, len(valid))
    if count < 1:
        raise SepnetError(f"loader.n_valid={n_valid} of {len(valid)} validation mixtures: score one or more")
    start = time.monotonic()
    told = separator.fit(data.clips())
    seconds = time.monotonic() - start
    bar = tqdm(range(count), desc="validation", unit="mixture", leave=False, disable=None)
    gains = [gain for index in bar if (gain := si_sdr_gain(separator, valid[index])) is not None]
    if not gains:
        raise SepnetError(
            f"all sources of the {count} validation mixtures are silent: there is nothing to score"
        )
    score = float(torch.stack(gains).mean())
    return {"si_sdri_db": score, "n_valid": len(gains), "fit_seconds": round(seconds, 1), **told}
