"""Speed of NMF beside scikit-learn's: python benchmarks/run.py what=nmf."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from sepnet.dsp import nmf
from sepnet.dsp.filterbank import STFT
from sepnet.types import SepnetError

SECONDS, RATE = 10.0, 16000
N_COMPONENTS, N_ITERATIONS = 30, 200
BATCH = 16
PAUSE_SECONDS = 0.3  # lets the idle threads of one library stop spinning before the other computes
DIVERGENCES: dict[nmf.Divergence, str] = {
    "frobenius": "frobenius",
    "kullback_leibler": "kullback-leibler",
    "itakura_saito": "itakura-saito",
}


def run(config: DictConfig) -> None:
    """Print seconds a clip and final objectives, for one clip and for a batch.

    Both factorise the same matrix from the same start, with as many iterations, in the same dtype. They
    alternate, so that both see the same load of the machine; medians over ``config.repetitions``.

    Raises:
        SepnetError: scikit-learn is not installed.
    """
    try:
        from sklearn.decomposition import non_negative_factorization
    except ImportError as error:
        raise SepnetError("the benchmark compares with scikit-learn: pip install scikit-learn") from error
    X = torch.stack([_magnitudes(seed) for seed in range(BATCH)])  # (clip, bin, frame)
    print(
        f"{SECONDS:g} s at {RATE} Hz, STFT 1024/256: X {tuple(X.shape[1:])} {X.dtype}, {N_COMPONENTS} "
        f"components, {N_ITERATIONS} iterations, no early stop, {torch.get_num_threads()} threads, "
        f"median of {config.repetitions} (slowest)"
    )
    start = nmf.random_start(X, N_COMPONENTS, torch.Generator().manual_seed(0))
    for divergence, name in DIVERGENCES.items():

        def theirs(name: str = name) -> tuple[Tensor, Tensor]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it did not converge: iterations are fixed
                W, H, _ = non_negative_factorization(
                    X[0].numpy(),
                    W=start[0][0].numpy().copy(),
                    H=start[1][0].numpy().copy(),
                    n_components=N_COMPONENTS,
                    init="custom",
                    solver="mu",
                    beta_loss=name,
                    max_iter=N_ITERATIONS,
                    tol=0.0,
                )
            return torch.from_numpy(W)[None], torch.from_numpy(H)[None]

        def ours(n_clips: int, divergence: nmf.Divergence = divergence) -> tuple[Tensor, Tensor]:
            result = nmf.factorise_from(
                X[:n_clips],
                *(factor[:n_clips] for factor in start),
                divergence=divergence,
                n_iterations=N_ITERATIONS,
                tolerance=0,
            )
            return result.dictionary, result.activations

        _compare(X, divergence, theirs, ours, config.repetitions)


def _compare(
    X: Tensor,
    divergence: nmf.Divergence,
    theirs: Callable[[], Any],
    ours: Callable[[int], Any],
    repetitions: int,
) -> None:
    """Print seconds a clip, their ratios, and the objectives on the first clip."""
    seconds: dict[str, list[float]] = {"theirs": [], "one": [], "batch": []}
    objectives: dict[str, float] = {}
    for repetition in range(repetitions + 1):
        for name, call in (("theirs", theirs), ("one", lambda: ours(1)), ("batch", lambda: ours(BATCH))):
            time.sleep(PAUSE_SECONDS)
            begin = time.perf_counter()
            factors = call()
            taken = time.perf_counter() - begin
            if repetition > 0:  # the first warms up
                seconds[name].append(taken / (BATCH if name == "batch" else 1))
            first = (factor[:1] for factor in factors)
            objectives[name] = nmf.objective(X[:1], *first, divergence=divergence).item()
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    timings = [f"{medians[name]:7.4f} s ({max(values):.4f})" for name, values in seconds.items()]
    print(
        f"{divergence}\n"
        f"  scikit-learn      {timings[0]}, objective {objectives['theirs']:.6g}\n"
        f"  sepnet            {timings[1]}, objective {objectives['one']:.6g}: "
        f"{medians['theirs'] / medians['one']:.1f} times faster\n"
        f"  sepnet, {BATCH} clips  {timings[2]} a clip, objective {objectives['batch']:.6g}: "
        f"{medians['theirs'] / medians['batch']:.1f} times faster"
    )


def _magnitudes(seed: int) -> Tensor:
    """(bin, frame): magnitudes of notes over noise, scaled to mean 1; nowhere zero."""
    rng = np.random.default_rng(seed)
    clock = np.arange(round(SECONDS * RATE)) / RATE
    signal = 0.003 * rng.standard_normal(len(clock))
    for _ in range(40):
        pitch, begin, length = rng.uniform(80, 600), rng.uniform(0, SECONDS), rng.uniform(0.1, 1.5)
        shape = np.clip(np.minimum(clock - begin, begin + length - clock) / 0.02, 0, 1)
        signal += 0.05 * shape * sum(np.sin(2 * np.pi * k * pitch * clock) / k for k in range(1, 12))
    stft = STFT(window_samples=1024, hop_samples=256, window="hann")
    magnitudes = stft.spectrogram(torch.from_numpy(signal.astype(np.float32))).abs()
    return magnitudes / magnitudes.mean() + 1e-4  # scikit-learn takes no zero for Itakura-Saito
