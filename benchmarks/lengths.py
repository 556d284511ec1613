"""Memory and speed of ``sepnet separate`` on long files: python benchmarks/run.py what=lengths."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float
from omegaconf import DictConfig

from sepnet import artifact, inference
from sepnet.data.audio import write_blocks

MODEL = "pit-2spk-8k"
RATE = 16000  # of the long files
BLOCK_SECONDS = 10
N_WARM_UP = 3  # separations of the clip before it is timed


def run(config: DictConfig) -> None:
    """Print the peak memory and the real-time factor of the command line for files of several lengths.

    The files have 16 kHz, the model 8 kHz; sources are written as float32. The real-time factor covers the
    separation and the checkpoints of its results, not the start of the program. The factor of a clip in
    memory, the best of ``config.repetitions`` after a warm-up, is what it is compared with.
    """
    clip_factor = _clip_factor(config.repetitions)
    print(f"10 s in memory: real-time factor {clip_factor:.4f}")
    for seconds in config.lengths:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "long.wav"
            write_blocks(
                file, _noise(seconds), RATE, n_channels=1, n_samples=seconds * RATE, subtype="PCM_16"
            )
            begin = time.perf_counter()
            peak_mib = _separate_in_process([str(file), f"model={MODEL}"])
            wall_seconds = time.perf_counter() - begin
            record = json.loads((Path(folder) / "long_separation.json").read_text())
        factor = record["compute_seconds"] / seconds
        print(
            f"{seconds} s: peak {peak_mib:.0f} MiB, real-time factor {factor:.4f} "
            f"({factor / clip_factor:.2f} times the clip's), {wall_seconds:.0f} s in all"
        )


def _clip_factor(repetitions: int) -> float:
    clip = next(_noise(BLOCK_SECONDS))
    separator = artifact.load(MODEL)
    factors = []
    for repetition in range(N_WARM_UP + repetitions):
        begin = time.perf_counter()
        inference.separate(clip, RATE, separator)
        if repetition >= N_WARM_UP:
            factors.append((time.perf_counter() - begin) / BLOCK_SECONDS)
    return min(factors)


def _noise(seconds: int) -> Iterator[Float[np.ndarray, "channel time"]]:
    """Noise of slowly varying level, in blocks."""
    rng = np.random.default_rng(0)
    for start in range(0, seconds, BLOCK_SECONDS):
        length = min(BLOCK_SECONDS, seconds - start) * RATE
        level = 0.5 + 0.5 * np.sin(np.arange(length) / RATE)
        yield (0.05 * level * rng.standard_normal(length)).astype(np.float32)[None]


def _separate_in_process(words: list[str]) -> float:
    """Run ``sepnet separate`` in a process of its own and return its peak resident memory in MiB."""
    command = [sys.executable, "-c", "from sepnet.cli import separate; separate.main()", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with the status {process.returncode}")
    return usage.ru_maxrss / 1024
