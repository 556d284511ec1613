"""When a sound is there: frames by their power, and what lies between them.

A frame of 20 ms is active where its power is within 30 dB of the loudest frame's; pauses of up to half a
second belong to the sound, as those between a clock's ticks, or in a row of barks.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

FRAME_SECONDS = 0.02
RANGE_DB = 30.0
PAUSE_SECONDS = 0.5
TINY = 1e-20  # a power under all sound


def active_frames(
    samples: Float[np.ndarray, " time"], frame: int, range_db: float = RANGE_DB
) -> Bool[np.ndarray, " frame"]:
    """Frames of ``frame`` samples within ``range_db`` of the loudest; none of silence."""
    n_frames = -(-len(samples) // frame)
    padded = np.zeros(n_frames * frame)
    padded[: len(samples)] = samples
    power = np.square(padded).reshape(n_frames, frame).mean(axis=1)
    active: np.ndarray = power >= max(float(power.max(initial=0.0)) * 10 ** (-range_db / 10), TINY)
    return active


def bridged(active: Bool[np.ndarray, " frame"], longest: int) -> list[tuple[int, int]]:
    """Runs of active frames, (first, behind the last); pauses of up to ``longest`` frames belong to them."""
    runs: list[tuple[int, int]] = []
    for frame in np.flatnonzero(active).tolist():
        if runs and frame - runs[-1][1] <= longest:
            runs[-1] = (runs[-1][0], frame + 1)
        else:
            runs.append((frame, frame + 1))
    return runs


def gate(samples: Float[np.ndarray, " time"], sample_rate: int) -> Bool[np.ndarray, " time"]:
    """For each sample whether the sound is there, by the rule above."""
    frame = max(1, round(FRAME_SECONDS * sample_rate))
    there = np.zeros(len(samples), dtype=bool)
    for begin, end in bridged(active_frames(samples, frame), round(PAUSE_SECONDS / FRAME_SECONDS)):
        there[begin * frame : end * frame] = True
    return there
