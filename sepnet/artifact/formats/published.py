"""What a reader of a foreign format returns: a model in sepnet's terms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from sepnet.artifact.build import shorten
from sepnet.types import SepnetError

Renaming = list[tuple[str, str | None]]
"""Rules of ``rename``."""


@dataclass(frozen=True)
class PublishedModel:
    """A model of another toolkit, in sepnet's terms.

    Attributes:
        architecture: Its name, for people.
        model: The constructor call of the separator, as in conf/model.
        weights: Its tensors by sepnet's names.
        licence: Of the weights, where the files say it.
        origin: What else the files say of where the weights come from.
    """

    architecture: str
    model: dict[str, Any]
    weights: dict[str, Tensor]
    licence: str | None = None
    origin: dict[str, Any] = field(default_factory=dict)


def rename(tensors: Mapping[str, Tensor], rules: Renaming, path: Path) -> dict[str, Tensor]:
    """Give tensors sepnet's names.

    Args:
        tensors: By the toolkit's names.
        rules: (pattern that a whole name has to match, replacement as for ``re.sub``); None drops the tensor.
            The first that matches counts.
        path: The file, for the message.

    Returns:
        The tensors by sepnet's names.

    Raises:
        SepnetError: No rule matches a name.
    """
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        for pattern, replacement in compiled:
            if match := pattern.fullmatch(name):
                if replacement is not None:
                    renamed[match.expand(replacement)] = tensor
                break
        else:
            raise SepnetError(f"{path} holds a tensor {shorten(name)!r}, which its architecture doesn't have")
    return renamed


def mask_estimator(
    network: dict[str, Any],
    *,
    n_sources: int,
    sample_rate: int,
    leaves_out_noise: bool,
    activation: str,
    filterbank: dict[str, Any],
    input_rms: float = 1.0,
) -> dict[str, Any]:
    """The constructor call of a separator by masks of the coefficients of learned filters.

    Args:
        network: The constructor call of what makes the masks.
        n_sources: Number of its sources.
        sample_rate: In Hz.
        leaves_out_noise: Whether there was noise in the mixtures of its training, and not in the sources.
        activation: What bounds the masks.
        filterbank: The constructor call of the filters.
        input_rms: The RMS of the mixtures that the network expects; any where it normalises its input.

    Returns:
        The call, as in conf/model.
    """
    return {
        "_target_": "sepnet.separators.mask_estimator.model.MaskEstimator",
        "n_sources": n_sources,
        "sample_rate": sample_rate,
        "features": "coefficients",
        "activation": activation,
        "consistent": False,
        "scale": "least_squares",
        "covers_mixture": n_sources > 1 and not leaves_out_noise,
        "level": "whole",
        "input_rms": input_rms,
        "filterbank": filterbank,
        "network": network,
        "objective": {
            "_target_": "sepnet.separators.mask_estimator.objectives.WaveformObjective",
            "metric": {"_target_": "sepnet.metrics.si_sdr", "_partial_": True},
        },
    }


def learned_filterbank(
    *, n_filters: int, window_samples: int, hop_samples: int, rectified: bool
) -> dict[str, Any]:
    """The constructor call of learned filters that lie within the signal.

    Args:
        n_filters: Number of filters.
        window_samples: Length of a filter, in samples.
        hop_samples: Distance between two frames, in samples.
        rectified: Whether negative coefficients are set to zero.

    Returns:
        The call, as in conf/model.
    """
    return {
        "_target_": "sepnet.dsp.filterbank.LearnedFilterbank",
        "n_filters": n_filters,
        "window_samples": window_samples,
        "hop_samples": hop_samples,
        "rectified": rectified,
        "padded": False,
    }
