"""Variants of a model that were trained for the same time: settings that differ, scores and cost."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sepnet import artifact
from sepnet.evaluation.cost import count_macs
from sepnet.evaluation.curves import read_curve
from sepnet.inference.pipeline import Pipeline
from sepnet.types import Mixture, Separator

NOISE_SECONDS = 10.0  # of the signal that the cost is measured on
N_REPETITIONS = 5


@dataclass(frozen=True)
class Variant:
    """A trained variant.

    Attributes:
        folder: The run folder.
        settings: The settings of the model, in plain containers.
        separator: The model with the weights of the run.
    """

    folder: Path
    settings: Mapping[str, Any]
    separator: Separator


def read_variant(folder: Path) -> Variant:
    """Load the model of a run folder.

    Args:
        folder: The run folder.

    Returns:
        The model and its settings.

    Raises:
        SepnetError: It holds no trained separator.
    """
    return Variant(folder, artifact.describe(folder), artifact.load(folder))


def variants_table(variants: Sequence[Variant]) -> str:
    """Make a Markdown table of variants, the best first.

    The real-time factor is that of one thread, the best of five repetitions on ten seconds of noise.

    Args:
        variants: The variants; their settings are compared with those of the first.

    Returns:
        The table, with a line break at its end.

    Raises:
        SepnetError: A run has logged no validation.
    """
    reached = {variant.folder: read_curve(variant.folder) for variant in variants}
    base = variants[0].settings
    best = {folder: max(point.si_sdri_db for point in points) for folder, points in reached.items()}
    lines = [
        "| Change | Validation SI-SDRi (dB) | Minutes | Steps | Parameters (M) | GMAC per s "
        "| Real-time factor |",
        "|:--|--:|--:|--:|--:|--:|--:|",
    ]
    for variant in sorted(variants, key=lambda variant: -best[variant.folder]):
        assert isinstance(variant.separator, nn.Module)  # it was trained
        last = reached[variant.folder][-1]
        changed = ", ".join(f"`{change}`" for change in changes(base, variant.settings)) or "none"
        parameters = sum(p.numel() for p in variant.separator.parameters()) / 1e6
        macs, real_time_factor = _cost(variant.separator)
        lines.append(
            f"| {changed} | {best[variant.folder]:.2f} | {last.minutes:.1f} | {last.step} | {parameters:.2f} "
            f"| {macs / 1e9:.2g} | {real_time_factor:.2g} |"
        )
    return "\n".join(lines) + "\n"


def changes(base: Mapping[str, Any], settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Compare settings.

    Args:
        base: The settings of the first variant.
        settings: The settings of another variant.
        prefix: The beginning of the names.

    Yields:
        Each difference as name=value; for a part of another class, only the name of the class.
    """
    for name in [*settings, *(key for key in base if key not in settings)]:
        old, new = base.get(name), settings.get(name)
        if old == new:
            continue
        if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
            yield f"{prefix}{name}={new}"
        elif old.get("_target_") != new.get("_target_"):
            yield f"{prefix}{name}={str(new.get('_target_')).rpartition('.')[2]}"
        else:
            yield from changes(old, new, f"{prefix}{name}.")


def _cost(separator: Separator) -> tuple[float, float]:
    """The multiply-accumulates for a second of audio, and the seconds that one thread needs for it."""
    rate, pipeline = separator.info.sample_rate or 16000, Pipeline(separator)
    noise = torch.randn(1, round(NOISE_SECONDS * rate), generator=torch.Generator().manual_seed(0))
    mixture = Mixture(noise, rate, n_sources=2).only(separator.info.needs)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        macs = count_macs(lambda: pipeline.separate(mixture))
        seconds = []
        for _ in range(N_REPETITIONS):
            begin = time.perf_counter()
            pipeline.separate(mixture)
            seconds.append(time.perf_counter() - begin)
    finally:
        torch.set_num_threads(threads)
    return macs / NOISE_SECONDS, min(seconds) / NOISE_SECONDS
