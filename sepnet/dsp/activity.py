"""Activity detection: when a single sound occurs in a recording of it.

A frame of 20 ms is active where its power is within 30 dB of that of the loudest frame. Pauses of up to half
a second belong to the sound, such as those between the ticks of a clock or between barks.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

FRAME_SECONDS = 0.02
RANGE_DB = 30.0
MAX_PAUSE_SECONDS = 0.5
MIN_POWER = 1e-20  # below that of any sound: silence has no active frames


def active_frames(
    samples: Float[np.ndarray, " time"], frame_samples: int, range_db: float = RANGE_DB
) -> Bool[np.ndarray, " frame"]:
    """Tell which frames are active.

    Args:
        samples: (time,).
        frame_samples: Length of a frame, in samples; the last one is filled up with zeros.
        range_db: A frame is active where its power is at most this far below that of the loudest, in dB.

    Returns:
        True for each active frame; silence has none.
    """
    n_frames = -(-len(samples) // frame_samples)
    padded = np.zeros(n_frames * frame_samples)
    padded[: len(samples)] = samples
    power = np.square(padded).reshape(n_frames, frame_samples).mean(axis=1)
    active: np.ndarray = power >= max(float(power.max(initial=0.0)) * 10 ** (-range_db / 10), MIN_POWER)
    return active


def active_runs(active: Bool[np.ndarray, " frame"], max_pause_frames: int) -> list[tuple[int, int]]:
    """List the runs of active frames.

    Args:
        active: True for each active frame.
        max_pause_frames: Runs that are separated by at most this many frames are merged.

    Returns:
        The first frame of each run, and the one after its last.
    """
    runs: list[tuple[int, int]] = []
    for frame in np.flatnonzero(active).tolist():
        if runs and frame - runs[-1][1] <= max_pause_frames:
            runs[-1] = (runs[-1][0], frame + 1)
        else:
            runs.append((frame, frame + 1))
    return runs


def active_samples(samples: Float[np.ndarray, " time"], sample_rate: int) -> Bool[np.ndarray, " time"]:
    """Tell which samples belong to the sound.

    Args:
        samples: (time,).
        sample_rate: In Hz.

    Returns:
        True for each sample of an active frame, and of a pause that belongs to the sound.
    """
    frame_samples = max(1, round(FRAME_SECONDS * sample_rate))
    max_pause_frames = round(MAX_PAUSE_SECONDS / FRAME_SECONDS)
    active = np.zeros(len(samples), dtype=bool)
    for begin, end in active_runs(active_frames(samples, frame_samples), max_pause_frames):
        active[begin * frame_samples : end * frame_samples] = True
    return active
