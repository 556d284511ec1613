"""Ratios of signal to error in dB: SNR, SI-SDR, SD-SDR, thresholded SNR, BSS-eval SDR, improvements.

Every function is pure, batched and differentiable, and takes ``(estimate, reference)`` in that order,
each ``(*batch, time)``. A loss is the negated metric: the same code (``sepnet.losses.negative``).

Silence. Powers are mean squares, so nothing here depends on the length. Two constants keep every value
and every gradient finite, and are far under what audio holds:

- ``RELATIVE_FLOOR`` is a share of the signal's power added to its error, so no ratio exceeds 120 dB.
- ``ABSOLUTE_FLOOR`` is a power of -200 dBFS, some 60 dB under one step of 24 bits, that determines the
  score of silence:

  ==================  =====================================  ===========================
  metric              silent reference                       silent estimate only
  ==================  =====================================  ===========================
  snr, sd_sdr,        -10 log10(1 + error / floor): falls    about 0 dB; sd_sdr -200 dB
  thresholded_snr     with the estimate's level, so a loss   less the reference's level
                      still pushes the estimate to silence
  si_sdr, sdr         -120 dB whatever the estimate; the     -120 dB, the worst there is
                      gradient is zero
  ==================  =====================================  ===========================

These numbers make training safe; they are no result. Evaluation calls ``is_silent`` first, leaves such
a source out of its means, and counts it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sepnet.types import SepnetError

Metric = Callable[[Tensor, Tensor], Tensor]
"""(estimate, reference), each (*batch, ...) -> (*batch)."""

MAX_DB = 120.0  # no ratio is above this; si_sdr and sdr are not below its negative either
RELATIVE_FLOOR = 10 ** (-MAX_DB / 10)
ABSOLUTE_FLOOR = 1e-20  # mean square, full scale 1.0: -200 dBFS
SILENCE_DBFS = -80.0  # RMS; 20 dB above the rounding noise of 16 bits, 20 dB and more under faint speech
BSS_EVAL_FILTER_TAPS = 512


def is_silent(signal: Float[Tensor, "*batch time"]) -> Bool[Tensor, "*batch"]:
    """Return whether the RMS is below ``SILENCE_DBFS`` (-80 dB under full scale)."""
    return _power(signal) < 10 ** (SILENCE_DBFS / 10)


def snr(
    estimate: Float[Tensor, "*batch time"], reference: Float[Tensor, "*batch time"]
) -> Float[Tensor, "*batch"]:
    """Compute the signal-to-noise ratio in dB: 10 log10(|s|^2 / |s - e|^2), at most 120 dB.

    Raises:
        SepnetError: The shapes differ.
    """
    return thresholded_snr(estimate, reference, max_db=MAX_DB)


def thresholded_snr(
    estimate: Float[Tensor, "*batch time"],
    reference: Float[Tensor, "*batch time"],
    *,
    max_db: float = 30.0,
    mixture: Float[Tensor, "*#batch time"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Compute SNR with a soft ceiling: 10 log10(|s|^2 / (|s - e|^2 + tau |s|^2)), tau = 10^(-max_db / 10).

    A pair that is nearly perfect stops dominating the gradient. Wisdom et al., "Unsupervised sound
    separation using mixture invariant training", NeurIPS 2020 (there negated, as a loss).

    A silent reference has no power to compare the error with, so its gradient on the estimate grows without
    bound as the estimate falls silent. With the ``mixture`` x its power is used instead: 10 log10(|x|^2 /
    (|e|^2 + tau |x|^2)), which saturates once the estimate is ``max_db`` below the mixture. Wisdom et
    al., "What's all the FUSS about free universal sound separation data?", ICASSP 2021.

    Args:
        estimate: e.
        reference: s.
        max_db: The ceiling in dB.
        mixture: x, for references that may be silent; for ``pairwise``, x of (batch, time) is
            ``mixture[:, None, None]``.

    Raises:
        SepnetError: The shapes differ.
    """
    estimate, reference = _pair(estimate, reference)
    tau = 10 ** (-max_db / 10)
    signal, error = _power(reference), _power(estimate - reference)
    if mixture is not None:
        signal = torch.where(is_silent(reference), _power(mixture.to(signal.dtype)), signal)
    return _decibels(signal + ABSOLUTE_FLOOR, error + tau * signal + ABSOLUTE_FLOOR)


def si_sdr(
    estimate: Float[Tensor, "*batch time"],
    reference: Float[Tensor, "*batch time"],
    *,
    zero_mean: bool = False,
) -> Float[Tensor, "*batch"]:
    """Compute the scale-invariant signal-to-distortion ratio in dB, within +-120 dB.

    With a = <e, s> / |s|^2, the projection of e on s: 10 log10(|a s|^2 / |e - a s|^2). Le Roux et al.,
    "SDR - half-baked or well done?", ICASSP 2019.

    Args:
        estimate: e.
        reference: s.
        zero_mean: Whether to subtract the mean of each signal first.

    Raises:
        SepnetError: The shapes differ.

    Example:
        >>> import torch
        >>> time = torch.linspace(0, 1, 8000)
        >>> reference, noise = torch.sin(40 * torch.pi * time), torch.cos(40 * torch.pi * time)
        >>> round(float(si_sdr(reference + 0.1 * noise, reference)), 1)
        20.0
    """
    estimate, reference = _pair(estimate, reference)
    if zero_mean:
        estimate = estimate - estimate.mean(dim=-1, keepdim=True)
        reference = reference - reference.mean(dim=-1, keepdim=True)
    # The ratio does not depend on the scale of either signal, so bring both to unit power; then a = <e, s>
    # and the floors are relative to 1. The residual is taken sample by sample: 1 - a^2 equals it on paper,
    # but in float32 cancels to noise above 60 dB.
    e, s = _unit_power(estimate), _unit_power(reference)
    a = (e * s).mean(dim=-1, keepdim=True)
    residual = _power(e - a * s)
    # A silent estimate has no direction; as pure noise at the floor it gets the worst score, and not 0 dB.
    noise = 1 / (1 + _power(estimate) / ABSOLUTE_FLOOR)
    return _decibels(a.squeeze(-1).square() + RELATIVE_FLOOR, residual + noise + RELATIVE_FLOOR)


def sd_sdr(
    estimate: Float[Tensor, "*batch time"], reference: Float[Tensor, "*batch time"]
) -> Float[Tensor, "*batch"]:
    """Compute the scale-dependent signal-to-distortion ratio in dB: SI-SDR that penalises a wrong level.

    10 log10(|a s|^2 / |s - e|^2) with a = <e, s> / |s|^2, that is SNR + 20 log10 |a|; at most 120 dB
    where the level is right. Le Roux et al., ICASSP 2019.

    Raises:
        SepnetError: The shapes differ.
    """
    estimate, reference = _pair(estimate, reference)
    signal, error = _power(reference), _power(estimate - reference)
    inner = (estimate * reference).mean(dim=-1)
    projected = inner * (inner / (signal + ABSOLUTE_FLOOR))  # |a s|^2 = <e, s>^2 / |s|^2
    return _decibels(projected + ABSOLUTE_FLOOR, error + RELATIVE_FLOOR * signal + ABSOLUTE_FLOOR)


def sdr(
    estimate: Float[Tensor, "*batch time"], reference: Float[Tensor, "*batch time"]
) -> Float[Tensor, "*batch"]:
    """Compute the BSS-eval signal-to-distortion ratio in dB, up to a filter of 512 taps; within +-120 dB.

    Vincent, Gribonval and Fevotte, "Performance measurement in blind audio source separation", IEEE
    TASLP 14(4), 2006: the target is the projection of e on s and its 511 delays, the distortion all
    the rest. Computed in float64 by torchmetrics, after Scheibler, "SDR - medium rare with fast
    computations", ICASSP 2022. A reference that leaves part of the spectrum empty makes the system
    singular: implementations then agree to some 1e-3 dB, else to 1e-5.

    Raises:
        SepnetError: The shapes differ, or there are fewer than 512 samples.
    """
    # Imported here: it takes a second and a half, which separation does not need.
    from torchmetrics.functional.audio import signal_distortion_ratio

    estimate, reference = _pair(estimate, reference)
    if estimate.shape[-1] < BSS_EVAL_FILTER_TAPS:
        raise SepnetError(
            f"SDR fits a filter of {BSS_EVAL_FILTER_TAPS} taps, but the signals have {estimate.shape[-1]} "
            "samples: give more, or use si_sdr"
        )
    e, s = _unit_power(estimate.double()), _unit_power(reference.double())
    # Without power there is no system to solve: an impulse takes its place, and its value is replaced below.
    empty = (_power(estimate.double()) < ABSOLUTE_FLOOR) | (_power(reference.double()) < ABSOLUTE_FLOOR)
    impulse = torch.zeros_like(s)
    impulse[..., 0] = 1.0
    e, s = (torch.where(empty[..., None], impulse, signal) for signal in (e, s))
    value = signal_distortion_ratio(e, s, filter_length=BSS_EVAL_FILTER_TAPS)
    if bool(value.isnan().any()):
        # Rounding took the coherence of a perfect estimate past 1; loading the diagonal keeps it below.
        loaded = signal_distortion_ratio(e, s, filter_length=BSS_EVAL_FILTER_TAPS, load_diag=RELATIVE_FLOOR)
        value = torch.where(value.isnan(), loaded, value)
    return torch.where(empty, -MAX_DB, value.clamp(-MAX_DB, MAX_DB)).to(estimate.dtype)


def improvement(
    metric: Metric,
    estimate: Float[Tensor, "*batch time"],
    reference: Float[Tensor, "*batch time"],
    mixture: Float[Tensor, "*#batch time"],
) -> Float[Tensor, "*batch"]:
    """Compute the gain of separation in dB: the metric of the estimate minus the metric of the mixture.

    ``mixture`` is expanded to the shape of the reference: one mixture may serve all of its sources.
    """
    return metric(estimate, reference) - metric(mixture.expand_as(reference), reference)


def si_sdr_improvement(
    estimate: Float[Tensor, "*batch time"],
    reference: Float[Tensor, "*batch time"],
    mixture: Float[Tensor, "*#batch time"],
) -> Float[Tensor, "*batch"]:
    """Compute the SI-SDR of the estimate minus that of the mixture, in dB (SI-SDRi)."""
    return improvement(si_sdr, estimate, reference, mixture)


def _pair(estimate: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Check the shapes, and convert to float32 at least: half precision can't hold the floors."""
    if estimate.shape != reference.shape:
        raise SepnetError(
            f"the estimate is {tuple(estimate.shape)}, but the reference {tuple(reference.shape)}: "
            "a metric compares signals of one shape (pairwise compares all with all)"
        )
    dtype = torch.promote_types(torch.promote_types(estimate.dtype, reference.dtype), torch.float32)
    return estimate.to(dtype), reference.to(dtype)


def _power(signal: Tensor) -> Tensor:
    return signal.square().mean(dim=-1)


def _unit_power(signal: Tensor) -> Tensor:
    return signal * torch.rsqrt(_power(signal) + ABSOLUTE_FLOOR).unsqueeze(-1)


def _decibels(signal: Tensor, noise: Tensor) -> Tensor:
    return 10.0 * (torch.log10(signal) - torch.log10(noise))
