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
from sepnet.types import SepnetError

SECONDS = 5.0
MUSIC_RATE = 16000
WINDOW_SECONDS = 0.064
N_ITERATIONS = 200  # of ``mu``, whose objective is the goal
COUNTS = tuple(sorted({round(3 * 1.1**step) for step in range(54)}))  # of iterations, to 469
BATCH = 16
DIVERGENCES: dict[nmf.Divergence, str] = {
    "frobenius": "frobenius",
    "kullback_leibler": "kullback-leibler",
    "itakura_saito": "itakura-saito",
}
Run = Callable[[int], tuple[Tensor, float]]
"""A number of iterations -> the objective of each clip, and the processor seconds a clip."""


def run(config: DictConfig) -> None:
    """Print how soon sepnet reaches the objective of scikit-learn's ``mu`` after 200 iterations.

    All start from the same random factors, in this process, in turn, on one thread and in one dtype; seconds
    are of the processor. sepnet and ``cd`` run with more and more iterations, until the goal is reached; the
    last run counts. The data are made music, and recordings where ``speech_root`` and
    ``sound_root`` name folders.

    Raises:
        SepnetError: scikit-learn is not installed.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise SepnetError("the benchmark compares with scikit-learn: pip install scikit-learn") from error
    makers: dict[str, Callable[[int], Tensor]] = {"music": lambda seed: _magnitudes(_music(seed), MUSIC_RATE)}
    if config.speech_root is not None:
        makers["speech"] = lambda seed: _magnitudes(*_recordings(config.speech_root, seed))
    if config.sound_root is not None:
        makers["sounds"] = lambda seed: _magnitudes(*_recordings(config.sound_root, seed))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            for name, make in makers.items():
                for rank in config.ranks:
                    X = torch.stack([make(seed) for seed in range(config.n_seeds)])
                    print(f"{name}, X {tuple(X.shape[1:])}, {rank} components, seeds 0 to {len(X) - 1}")
                    for divergence in DIVERGENCES:
                        _compare(list(X[:, None]), rank, divergence)
                if config.batch:
                    X = torch.stack([make(seed) for seed in range(BATCH)])
                    print(f"{name}, X {tuple(X.shape)}, {config.ranks[0]} components")
                    for divergence in DIVERGENCES:
                        _compare([X], config.ranks[0], divergence)
    finally:
        torch.set_num_threads(before)


def _compare(batches: list[Tensor], rank: int, divergence: nmf.Divergence) -> None:
    """Print how many times sooner than ``mu``, and for the Frobenius norm than ``cd``, sepnet is."""
    ratios: dict[str, list[float]] = {"mu": [], "cd": []}
    for seed, X in enumerate(batches):
        start = nmf.random_start(X, rank, torch.Generator().manual_seed(seed))
        goals, mu_seconds = _peer("mu", X, start, divergence)(N_ITERATIONS)
        taken = _until(_ours(X, start, divergence), goals)
        again = _peer("mu", X, start, divergence)(N_ITERATIONS)[1]
        ratios["mu"] += (0.5 * (mu_seconds + again) / taken).tolist()
        if divergence == "frobenius":
            ratios["cd"] += (_until(_peer("cd", X, start, divergence), goals) / taken).tolist()
    for peer, values in ratios.items():
        if values:
            print(
                f"  {divergence}: {np.median(values):.1f} times sooner than {peer} (median), "
                f"{min(values):.1f} at worst, of {len(values)}"
            )


def _until(attempt: Run, goals: Tensor) -> Tensor:
    """The seconds of each clip until it reaches its goal; infinite where the largest count does not."""
    seconds = torch.full_like(goals, float("inf"))
    for count in COUNTS:
        objectives, taken = attempt(count)
        seconds[(objectives <= goals) & seconds.isinf()] = taken
        if not bool(seconds.isinf().any()):
            break
    return seconds


def _ours(X: Tensor, start: tuple[Tensor, Tensor], divergence: nmf.Divergence) -> Run:
    def attempt(count: int) -> tuple[Tensor, float]:
        begin = time.process_time()
        found = nmf.factorise_from(X, *start, divergence=divergence, n_iterations=count, tolerance=0)
        return found.objective, (time.process_time() - begin) / len(X)

    return attempt


def _peer(solver: str, X: Tensor, start: tuple[Tensor, Tensor], divergence: nmf.Divergence) -> Run:
    """scikit-learn, clip by clip."""
    from sklearn.decomposition import non_negative_factorization

    def attempt(count: int) -> tuple[Tensor, float]:
        objectives, seconds = [], 0.0
        for clip in range(len(X)):
            factors = [factor[clip].numpy().copy() for factor in start]
            begin = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it did not converge: iterations are fixed
                W, H, _ = non_negative_factorization(
                    X[clip].numpy(),
                    W=factors[0],
                    H=factors[1],
                    n_components=factors[0].shape[1],
                    init="custom",
                    solver=solver,
                    beta_loss=DIVERGENCES[divergence],
                    max_iter=count,
                    tol=0.0,
                )
            seconds += time.process_time() - begin
            found = torch.from_numpy(W)[None], torch.from_numpy(H)[None]
            objectives.append(nmf.objective(X[clip : clip + 1], *found, divergence=divergence))
        return torch.cat(objectives), seconds / len(X)

    return attempt


def _recordings(root: str, seed: int) -> tuple[np.ndarray, int]:
    """Recordings (time,) of a folder, one after the other, and their rate."""
    files = sorted(path for path in Path(root).rglob("*") if path.suffix in (".wav", ".flac"))
    if not files:
        raise SepnetError(f"{root} has no .wav or .flac files")
    rng, signal, rate = np.random.default_rng(seed), np.zeros(0, np.float32), 1
    while len(signal) < SECONDS * rate:
        samples, rate = audio.read(files[rng.integers(len(files))])
        signal = np.concatenate([signal, samples[0]])
    return signal[: round(SECONDS * rate)], rate


def _music(seed: int) -> np.ndarray:
    """Notes (time,) over noise."""
    rng = np.random.default_rng(seed)
    clock = np.arange(round(SECONDS * MUSIC_RATE)) / MUSIC_RATE
    signal = 0.003 * rng.standard_normal(len(clock))
    for _ in range(20):
        pitch, begin, length = rng.uniform(80, 600), rng.uniform(0, SECONDS), rng.uniform(0.1, 1.5)
        shape = np.clip(np.minimum(clock - begin, begin + length - clock) / 0.02, 0, 1)
        signal += 0.05 * shape * sum(np.sin(2 * np.pi * k * pitch * clock) / k for k in range(1, 12))
    return signal.astype(np.float32)


def _magnitudes(signal: np.ndarray, rate: int) -> Tensor:
    """(bin, frame), scaled to mean 1; nowhere zero."""
    hop = round(WINDOW_SECONDS * rate / 4)
    stft = STFT(window_samples=4 * hop, hop_samples=hop, window="hann")
    magnitudes = stft.spectrogram(torch.from_numpy(signal)).abs()
    return magnitudes / magnitudes.mean() + 1e-4  # scikit-learn takes no zero for Itakura-Saito
