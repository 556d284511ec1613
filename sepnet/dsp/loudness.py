"""Loudness of one channel after ITU-R BS.1770-4.

The signal passes two filters, a shelf for the head and a high-pass (K-weighting), and its power z is
taken in blocks of 400 ms, one every 100 ms:

    l = -0.691 + 10 log10(z)    LUFS                                                            (1)

The loudness is (1) of the mean z over the blocks above -70 LUFS that are also less than 10 LU under the
mean over those. The constant makes a tone of 997 Hz at full scale -3.01 LUFS, its RMS.

The recommendation tabulates the filters for 48 kHz alone. The table is the bilinear transform of two
analogue sections of second order, whose parameters stand below as B. De Man found them ("Evaluation of
implementations of the EBU R128 loudness measurement", AES 145, 2018); at another rate the same sections
are transformed anew.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy.signal import sosfilt

from sepnet.types import SepnetError

BLOCK_SECONDS, STEP_SECONDS = 0.4, 0.1
OFFSET_DB = -0.691
ABSOLUTE_GATE_LUFS, RELATIVE_GATE_LU = -70.0, -10.0
SHELF_HZ, SHELF_Q = 1681.974450955533, 0.7071752369554196
SHELF_GAIN, SHELF_EXPONENT = 10 ** (3.999843853973347 / 20), 0.4996667741545416
HIGH_PASS_HZ, HIGH_PASS_Q = 38.13547087602444, 0.5003270373238773


def integrated_loudness(signal: Float[np.ndarray, " time"], sample_rate: int) -> float:
    """Integrated, gated loudness of one channel, in LUFS; -inf for silence.

    A signal shorter than one block of 400 ms is measured as if it went on repeating. Raises SepnetError
    for a sample rate that can't hold the shelf at 1.68 kHz.
    """
    block, step = round(BLOCK_SECONDS * sample_rate), round(STEP_SECONDS * sample_rate)
    samples = signal.astype(np.float64)
    if samples.size == 0:
        return -math.inf
    if samples.size < block:
        samples = np.tile(samples, -(-block // samples.size))
    energy = np.cumsum(np.square(sosfilt(k_weighting(sample_rate), samples)))
    energy = np.concatenate([[0.0], energy])
    powers = (energy[block::step] - energy[:-block:step]) / block  # (block,)
    loud = powers[powers > _power(ABSOLUTE_GATE_LUFS)]
    if loud.size == 0:
        return -math.inf
    kept = loud[loud > loud.mean() * 10 ** (RELATIVE_GATE_LU / 10)]
    return OFFSET_DB + 10 * math.log10(kept.mean())


def k_weighting(sample_rate: int) -> Float[np.ndarray, "section coefficient"]:
    """The two filters as second-order sections (b0, b1, b2, 1, a1, a2), for scipy.signal.sosfilt."""
    if sample_rate <= 2 * SHELF_HZ:
        raise SepnetError(
            f"loudness has a shelf at {SHELF_HZ:.0f} Hz, which {sample_rate} Hz can't hold: "
            "take a sample rate of 4000 Hz or more"
        )
    # The bilinear transform, with both frequencies prewarped.
    k = math.tan(math.pi * SHELF_HZ / sample_rate)
    middle = SHELF_GAIN**SHELF_EXPONENT * k / SHELF_Q
    shelf = [SHELF_GAIN + middle + k**2, 2 * (k**2 - SHELF_GAIN), SHELF_GAIN - middle + k**2]
    poles = [1 + k / SHELF_Q + k**2, 2 * (k**2 - 1), 1 - k / SHELF_Q + k**2]
    k = math.tan(math.pi * HIGH_PASS_HZ / sample_rate)
    high_poles = [1 + k / HIGH_PASS_Q + k**2, 2 * (k**2 - 1), 1 - k / HIGH_PASS_Q + k**2]
    high_pass = [high_poles[0] * b for b in (1, -2, 1)]  # the table does not normalise it
    sections = np.array([[*shelf, *poles], [*high_pass, *high_poles]])
    normalised: np.ndarray = sections / sections[:, 3:4]
    return normalised


def _power(loudness_lufs: float) -> float:
    return float(10 ** ((loudness_lufs - OFFSET_DB) / 10))
