"""Speed of NMF beside scikit-learn's: python benchmarks/run.py what=nmf."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from sepnet.data import audio
from sepnet.dsp import nmf
from sepnet.dsp.filterbank import STFT
from sepnet.dsp.resample import resample
from sepnet.types import SepnetError

SECONDS, RATE = 10.0, 16000
N_COMPONENTS, N_ITERATIONS = 30, 200
MAX_ITERATIONS = 6 * N_ITERATIONS
BATCH = 16
DIVERGENCES: dict[nmf.Divergence, str] = {
    "frobenius": "frobenius",
    "kullback_leibler": "kullback-leibler",
    "itakura_saito": "itakura-saito",
}


def run(config: DictConfig) -> None:
    """Print how soon sepnet reaches the objective of scikit-learn's ``mu`` after 200 iterations.

    All start from the same factors, in this process, on one thread and in one dtype. Seconds are of the
    processor, the median of ``config.repetitions`` runs with as many iterations as are needed, which are
    found by bisection. The data are made music, and speech where ``config.speech_root`` names a folder.

    Raises:
        SepnetError: scikit-learn is not installed, or its objective is not reached.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise SepnetError("the benchmark compares with scikit-learn: pip install scikit-learn") from error
    data = {"music": torch.stack([_magnitudes(_music(seed)) for seed in range(BATCH)])}
    if config.speech_root is not None:
        data["speech"] = torch.stack(
            [_magnitudes(_speech(config.speech_root, seed)) for seed in range(BATCH)]
        )
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            for name, X in data.items():
                print(
                    f"{name}, seeds 0 to {BATCH - 1}: {SECONDS:g} s at {RATE} Hz, STFT 1024/256, X "
                    f"{tuple(X.shape[1:])} {X.dtype}, {N_COMPONENTS} components"
                )
                for divergence in DIVERGENCES:
                    _compare(X, divergence, config.repetitions)
    finally:
        torch.set_num_threads(before)


def _compare(X: Tensor, divergence: nmf.Divergence, repetitions: int) -> None:
    """Print the seconds that each takes to the objective of ``mu``, and their ratios."""
    start = nmf.random_start(X, N_COMPONENTS, torch.Generator().manual_seed(0))
    goals = torch.cat(
        [_objective(X, divergence, clip, _peer("mu", X, start, divergence, clip)) for clip in range(BATCH)]
    )
    mu = _seconds(lambda: _peer("mu", X, start, divergence, 0), repetitions)
    print(f"  {divergence}\n    scikit-learn mu     {mu:.4f} s, {N_ITERATIONS} iterations")
    if divergence == "frobenius":
        n_iterations = _fewest(
            lambda n: _objective(X, divergence, 0, _peer("cd", X, start, divergence, 0, n)) <= goals[:1]
        )
        cd = _seconds(lambda: _peer("cd", X, start, divergence, 0, n_iterations), repetitions)
        print(f"    scikit-learn cd     {cd:.4f} s, {n_iterations} iterations, {mu / cd:.1f} times sooner")
    for n_clips in (1, BATCH):

        def ours(n_iterations: int, n_clips: int = n_clips) -> nmf.Factorisation:
            return nmf.factorise_from(
                X[:n_clips],
                *(factor[:n_clips] for factor in start),
                divergence=divergence,
                n_iterations=n_iterations,
                tolerance=0,
            )

        # All clips of the batch reach their own goal.
        n_iterations = _fewest(lambda n: (ours(n).objective <= goals[:n_clips]).all())  # noqa: B023
        taken = _seconds(lambda: ours(n_iterations), repetitions) / n_clips  # noqa: B023
        print(
            f"    sepnet, {n_clips:2d} clips    {taken:.4f} s a clip, {n_iterations} iterations, "
            f"{mu / taken:.1f} times sooner"
        )


def _peer(
    solver: str,
    X: Tensor,
    start: tuple[Tensor, Tensor],
    divergence: nmf.Divergence,
    clip: int,
    n_iterations: int = N_ITERATIONS,
) -> tuple[Tensor, Tensor]:
    """The factors that scikit-learn finds for one clip."""
    from sklearn.decomposition import non_negative_factorization

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it did not converge: iterations are fixed
        W, H, _ = non_negative_factorization(
            X[clip].numpy(),
            W=start[0][clip].numpy().copy(),
            H=start[1][clip].numpy().copy(),
            n_components=N_COMPONENTS,
            init="custom",
            solver=solver,
            beta_loss=DIVERGENCES[divergence],
            max_iter=n_iterations,
            tol=0.0,
        )
    return torch.from_numpy(W)[None], torch.from_numpy(H)[None]


def _objective(X: Tensor, divergence: nmf.Divergence, clip: int, factors: tuple[Tensor, Tensor]) -> Tensor:
    return nmf.objective(X[clip : clip + 1], *factors, divergence=divergence)


def _fewest(is_reached: Callable[[int], bool | Tensor]) -> int:
    """The fewest iterations by which the goal is reached.

    Raises:
        SepnetError: More than ``MAX_ITERATIONS`` would be needed.
    """
    lowest, highest = 1, 10
    while not is_reached(highest):
        if highest >= MAX_ITERATIONS:
            raise SepnetError(f"the objective of scikit-learn's mu is not reached in {highest} iterations")
        lowest, highest = highest + 1, 2 * highest
    while lowest < highest:
        middle = (lowest + highest) // 2
        if is_reached(middle):
            highest = middle
        else:
            lowest = middle + 1
    return lowest


def _seconds(call: Callable[[], object], repetitions: int) -> float:
    """The median processor seconds of a call."""
    taken = []
    for _ in range(repetitions):
        begin = time.process_time()
        call()
        taken.append(time.process_time() - begin)
    return float(np.median(taken))


def _speech(root: str, seed: int) -> np.ndarray:
    """Utterances (time,) of a folder, one after the other."""
    files = sorted(path for path in Path(root).rglob("*") if path.suffix in (".wav", ".flac"))
    if not files:
        raise SepnetError(f"speech_root={root} has no .wav or .flac files")
    rng, parts = np.random.default_rng(seed), [np.zeros(0, np.float32)]
    while sum(map(len, parts)) < SECONDS * RATE:
        samples, rate = audio.read(files[rng.integers(len(files))])
        parts.append(resample(samples[0], rate, RATE))
    return np.concatenate(parts)[: round(SECONDS * RATE)]


def _music(seed: int) -> np.ndarray:
    """Notes (time,) over noise."""
    rng = np.random.default_rng(seed)
    clock = np.arange(round(SECONDS * RATE)) / RATE
    signal = 0.003 * rng.standard_normal(len(clock))
    for _ in range(40):
        pitch, begin, length = rng.uniform(80, 600), rng.uniform(0, SECONDS), rng.uniform(0.1, 1.5)
        shape = np.clip(np.minimum(clock - begin, begin + length - clock) / 0.02, 0, 1)
        signal += 0.05 * shape * sum(np.sin(2 * np.pi * k * pitch * clock) / k for k in range(1, 12))
    return signal.astype(np.float32)


def _magnitudes(signal: np.ndarray) -> Tensor:
    """(bin, frame), scaled to mean 1; nowhere zero."""
    stft = STFT(window_samples=1024, hop_samples=256, window="hann")
    magnitudes = stft.spectrogram(torch.from_numpy(signal)).abs()
    return magnitudes / magnitudes.mean() + 1e-4  # scikit-learn takes no zero for Itakura-Saito
