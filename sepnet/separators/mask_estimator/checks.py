"""Checks of the settings of a mask estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from sepnet.dsp.filterbank import STFT, Filterbank
from sepnet.separators.mask_estimator.masking import COMPLEX, Activation, Features
from sepnet.separators.mask_estimator.objectives import Objective, SpectralObjective, WaveformObjective
from sepnet.types import SepnetError

Level = Literal["whole", "running"]
SourceCount = Literal["fixed", "given", "estimated"]
Scale = Literal["network", "least_squares"]


def check_choices(features: str, activation: str, level: str, source_count: str, scale: str) -> None:
    """Raise SepnetError for a value that is none of the choices."""
    for value, choices in (
        (features, get_args(Features)),
        (activation, get_args(Activation)),
        (level, get_args(Level)),
        (source_count, get_args(SourceCount)),
        (scale, get_args(Scale)),
    ):
        if value not in choices:
            raise SepnetError(f"{value!r} is none of {', '.join(choices)}")


def check_counting(
    source_count: str, quiet_db: float, labels: Sequence[str] | None, objective: Objective
) -> None:
    """Raise SepnetError for settings with which sources can't be counted."""
    if quiet_db <= 0 or labels is not None:
        raise SepnetError(
            f"source_count={source_count} with quiet_db={quiet_db} and labels={labels}: quiet_db has to be "
            "positive, and classes are not counted (labels=null)"
        )
    if isinstance(objective, WaveformObjective) and not objective.allow_silence:
        raise SepnetError(
            f"with source_count={source_count} outputs may have to be silent: set objective.allow_silence, "
            "and a metric that is defined for silence (thresholded_snr)"
        )


def check_transform(
    filterbank: Filterbank, features: Features, activation: Activation, objective: Objective
) -> None:
    """Raise SepnetError for settings that need an STFT where the filterbank is another."""
    spectral = activation in COMPLEX or features != "coefficients" or isinstance(objective, SpectralObjective)
    if spectral and not isinstance(filterbank, STFT):
        raise SepnetError(
            f"features={features}, activation={activation} and {type(objective).__name__} need an STFT, "
            f"but the filterbank is {type(filterbank).__name__}: take features=coefficients, another "
            "activation than complex, and a WaveformObjective"
        )
