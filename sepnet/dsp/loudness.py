"""Loudness of one channel according to ITU-R BS.1770-4.

The signal passes two filters (K-weighting), a shelf that models the head and a high-pass. Its power z is
computed in blocks of 400 ms, one every 100 ms:

    l = -0.691 + 10 log10(z)    LUFS                                                            (1)

The loudness is (1) of a mean z: over the blocks above -70 LUFS that are also at most 10 LU below the mean
over all blocks above -70 LUFS. With the constant, a tone of 997 Hz at full scale has -3.01 LUFS, which is its
RMS.

The recommendation tabulates the filters for 48 kHz only. The table is the bilinear transform of two analogue
second-order sections, whose parameters B. De Man has determined ("Evaluation of implementations of the EBU
R128 loudness measurement", AES 145, 2018). At other sample rates the same sections are transformed.
"""

from __future__ import annotations

import math

import numpy as np
import scipy
from jaxtyping import Float

from sepnet.types import SepnetError

BLOCK_SECONDS, STEP_SECONDS = 0.4, 0.1
OFFSET_DB = -0.691
ABSOLUTE_GATE_LUFS, RELATIVE_GATE_LU = -70.0, -10.0
SHELF_HZ, SHELF_Q = 1681.974450955533, 0.7071752369554196
SHELF_GAIN, SHELF_EXPONENT = 10 ** (3.999843853973347 / 20), 0.4996667741545416
HIGH_PASS_HZ, HIGH_PASS_Q = 38.13547087602444, 0.5003270373238773


def integrated_loudness(signal: Float[np.ndarray, " time"], sample_rate: int) -> float:
    """Measure the integrated, gated loudness of one channel.

    Args:
        signal: (time,), full scale 1.0. One that is shorter than a block of 400 ms is repeated.
        sample_rate: In Hz.

    Returns:
        The loudness in LUFS; -inf for silence.

    Raises:
        SepnetError: The sample rate is too low for the shelf at 1.68 kHz.
    """
    block, step = round(BLOCK_SECONDS * sample_rate), round(STEP_SECONDS * sample_rate)
    samples = signal.astype(np.float64)
    if samples.size == 0:
        return -math.inf
    if samples.size < block:
        samples = np.tile(samples, -(-block // samples.size))
    energy = np.cumsum(np.square(scipy.signal.sosfilt(k_weighting(sample_rate), samples)))
    energy = np.concatenate([[0.0], energy])
    powers = (energy[block::step] - energy[:-block:step]) / block  # (block,)
    loud = powers[powers > _power(ABSOLUTE_GATE_LUFS)]
    if loud.size == 0:
        return -math.inf
    kept = loud[loud > loud.mean() * 10 ** (RELATIVE_GATE_LU / 10)]
    return OFFSET_DB + 10 * math.log10(kept.mean())


def k_weighting(sample_rate: int) -> Float[np.ndarray, "section coefficient"]:
    """Compute the two filters at a sample rate.

    Args:
        sample_rate: In Hz.

    Returns:
        Second-order sections (b0, b1, b2, 1, a1, a2) for scipy.signal.sosfilt.

    Raises:
        SepnetError: The sample rate is too low for the shelf at 1.68 kHz.
    """
    if sample_rate <= 2 * SHELF_HZ:
        raise SepnetError(
            f"the loudness filter at {SHELF_HZ:.0f} Hz cannot be realised at {sample_rate} Hz: "
            "take a sample rate of 4000 Hz or more"
        )
    # The bilinear transform, with both frequencies prewarped.
    k = math.tan(math.pi * SHELF_HZ / sample_rate)
    middle = SHELF_GAIN**SHELF_EXPONENT * k / SHELF_Q
    shelf = [SHELF_GAIN + middle + k**2, 2 * (k**2 - SHELF_GAIN), SHELF_GAIN - middle + k**2]
    poles = [1 + k / SHELF_Q + k**2, 2 * (k**2 - 1), 1 - k / SHELF_Q + k**2]
    k = math.tan(math.pi * HIGH_PASS_HZ / sample_rate)
    high_poles = [1 + k / HIGH_PASS_Q + k**2, 2 * (k**2 - 1), 1 - k / HIGH_PASS_Q + k**2]
    high_pass = [high_poles[0] * b for b in (1, -2, 1)]  # not normalised in the table
    sections = np.array([[*shelf, *poles], [*high_pass, *high_poles]])
    normalised: np.ndarray = sections / sections[:, 3:4]
    return normalised


def _power(loudness_lufs: float) -> float:
    return float(10 ** ((loudness_lufs - OFFSET_DB) / 10))
