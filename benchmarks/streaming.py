"""Latency, speed, accuracy and memory of streaming separators: python benchmarks/run.py what=streaming."""

from __future__ import annotations

import time

import numpy as np
import torch
from omegaconf import DictConfig

from sepnet import artifact
from sepnet.evaluation.memory import resident_mb
from sepnet.inference.stream import StreamingSeparator
from sepnet.types import Mixture, Query

RATE = 8000
MODELS = ("pit-causal-2spk-8k", "energy_live", "nmf_online")
COMPARED_SECONDS, TIMED_SECONDS, MINUTE, HOUR = 60, 10, 60, 3600
WARM_UP_HOPS = 50


def run(config: DictConfig) -> None:
    """Print the figures of each streaming model, or of ``config.model``, on one thread.

    With ``config.hour``, also the memory after an hour.
    """
    torch.set_num_threads(1)
    print(f"one thread, {RATE} Hz, two buzzing voices and an example of 3 s of each")
    for name in MODELS if config.model is None else (config.model,):
        separator = artifact.load(name)
        queries = (Query(_voice(131, 3, 5), RATE), Query(_voice(204, 3, 7), RATE))
        mixture = Mixture(_mixture(COMPARED_SECONDS)[None], RATE, 2, queries)
        stream = StreamingSeparator(
            separator, sample_rate=RATE, queries=[(query.audio, RATE) for query in queries]
        )
        print(f"{name}: latency {stream.latency_samples} samples, {stream.latency_ms:g} ms")
        offline = separator.separate(mixture.only(separator.info.needs)).sources
        streamed = _stream(stream, mixture.audio[0], 777)
        difference = float((streamed - offline).abs().max())
        print(f"  largest difference from {COMPARED_SECONDS} s in one piece: {difference:.1e}")
        for n_samples in (stream.hop_samples // 4, stream.hop_samples, 4 * stream.hop_samples, 5000):
            print(_timed(stream, n_samples, config.repetitions))
        _memory(stream, HOUR if config.hour else MINUTE)


def _timed(stream: StreamingSeparator, n_samples: int, repetitions: int) -> str:
    """Describe the real-time factors, wall-clock and processor, and the slowest blocks, for a block size."""
    signal = _mixture(TIMED_SECONDS)
    seconds = len(signal) / stream.sample_rate
    wall_factors, processor_factors, slowest = [], [], []
    for _ in range(repetitions):
        stream.reset()
        for hop in torch.split(signal[: WARM_UP_HOPS * stream.hop_samples], stream.hop_samples):
            stream.push(hop)
        processor_begin, block_seconds = time.process_time(), []
        for block in torch.split(signal, n_samples):
            begin = time.perf_counter()
            stream.push(block)
            block_seconds.append(time.perf_counter() - begin)
        processor_factors.append((time.process_time() - processor_begin) / seconds)
        wall_factors.append(sum(block_seconds) / seconds)
        slowest.append(float(np.quantile(block_seconds, 0.99)))
    return (
        f"  blocks of {n_samples:4d}: real-time factor {np.median(wall_factors):.3f} wall-clock "
        f"({min(wall_factors):.3f} to {max(wall_factors):.3f}), "
        f"{np.median(processor_factors):.3f} processor; "
        f"99 % of blocks within {1000 * np.median(slowest):.1f} ms"
    )


def _memory(stream: StreamingSeparator, seconds: int) -> None:
    """Print the resident memory after a minute and after ``seconds`` of sound, in blocks of 16 hops."""
    stream.reset()
    block, pushed, begin = _mixture(16 * stream.hop_samples / RATE), 0, time.perf_counter()
    for until in sorted({MINUTE, seconds}):
        while pushed < until * stream.sample_rate:
            stream.push(block)
            pushed += len(block)
        print(
            f"  after {until / 60:g} min of sound ({time.perf_counter() - begin:.0f} s wall-clock): "
            f"{resident_mb('VmRSS'):.1f} MiB resident"
        )


def _stream(stream: StreamingSeparator, signal: torch.Tensor, n_samples: int) -> torch.Tensor:
    stream.reset()
    blocks = [stream.push(block) for block in torch.split(signal, n_samples)]
    return torch.cat([*blocks, stream.finish()], dim=1)[:, stream.latency_samples :]


def _mixture(seconds: float) -> torch.Tensor:
    return _voice(137, seconds, 1) + _voice(211, seconds, 2)


def _voice(pitch_hz: float, seconds: float, seed: int) -> torch.Tensor:
    """(time,): harmonics of varying level in a little noise."""
    rng = np.random.default_rng(seed)
    clock = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * pitch_hz * clock + 2 * np.sin(2 * np.pi * 0.7 * clock + seed)
    buzz = sum(rng.uniform(0.1, 1) / k * np.sin(k * phase) for k in range(1, 14))
    loudness = np.clip(np.sin(2 * np.pi * (0.4 + 0.1 * seed) * clock + seed) + 0.5, 0, None)
    sound = 0.05 * buzz * loudness + 0.001 * rng.standard_normal(len(clock))
    return torch.from_numpy(sound.astype(np.float32))
