"""python scripts/benchmark.py what=streaming: latency, speed, equality and memory of what goes live."""

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
EQUAL_SECONDS, TIMED_SECONDS, MINUTE, HOUR = 60, 10, 60, 3600
WARM_UP = 50  # hops


def streaming(config: DictConfig) -> None:
    """Print, for each method that streams, on one thread: with ``hour``, also the memory after an hour."""
    torch.set_num_threads(1)
    print(f"one thread, {RATE} Hz, two buzzing voices and an example of 3 s of each")
    for name in MODELS if config.model is None else (config.model,):
        separator = artifact.load(name)
        queries = (Query(_voice(131, 3, 5), RATE), Query(_voice(204, 3, 7), RATE))
        mixture = Mixture(_mixture(EQUAL_SECONDS)[None], RATE, 2, queries)
        stream = StreamingSeparator(
            separator, sample_rate=RATE, queries=[(query.audio, RATE) for query in queries]
        )
        print(f"{name}: latency {stream.latency_samples} samples, {stream.latency_ms:g} ms")
        offline = separator.separate(mixture.only(separator.info.needs)).sources
        streamed = _run(stream, mixture.audio[0], 777)
        apart = float((streamed - offline).abs().max())
        print(f"  against {EQUAL_SECONDS} s at once: {apart:.1e} apart at most")
        for n_samples in (stream.hop_samples // 4, stream.hop_samples, 4 * stream.hop_samples, 5000):
            print(_timed(stream, n_samples, config.repetitions))
        _memory(stream, HOUR if config.hour else MINUTE)


def _timed(stream: StreamingSeparator, n_samples: int, repetitions: int) -> str:
    """Real-time factors of blocks of a size: of the processor, and by the clock; the slowest blocks."""
    signal = _mixture(TIMED_SECONDS)
    seconds = len(signal) / stream.sample_rate
    clocks, processors, slowest = [], [], []
    for _ in range(repetitions):
        stream.reset()
        for hop in torch.split(signal[: WARM_UP * stream.hop_samples], stream.hop_samples):
            stream.push(hop)
        busy, blocks = time.process_time(), []
        for block in torch.split(signal, n_samples):
            begin = time.perf_counter()
            stream.push(block)
            blocks.append(time.perf_counter() - begin)
        processors.append((time.process_time() - busy) / seconds)
        clocks.append(sum(blocks) / seconds)
        slowest.append(float(np.quantile(blocks, 0.99)))
    return (
        f"  blocks of {n_samples:4d}: real-time factor {np.median(clocks):.3f} by the clock "
        f"({min(clocks):.3f} to {max(clocks):.3f}), {np.median(processors):.3f} of the processor; "
        f"99 % of blocks within {1000 * np.median(slowest):.1f} ms"
    )


def _memory(stream: StreamingSeparator, seconds: int) -> None:
    """Print the resident memory after a minute, and after ``seconds``, of blocks of 16 hops."""
    stream.reset()
    block, pushed, begin = _mixture(16 * stream.hop_samples / RATE), 0, time.perf_counter()
    for until in sorted({MINUTE, seconds}):
        while pushed < until * stream.sample_rate:
            stream.push(block)
            pushed += len(block)
        print(
            f"  after {until / 60:g} min of sound ({time.perf_counter() - begin:.0f} s by the clock): "
            f"{resident_mb('VmRSS'):.1f} MiB resident"
        )


def _run(stream: StreamingSeparator, signal: torch.Tensor, n_samples: int) -> torch.Tensor:
    stream.reset()
    parts = [stream.push(block) for block in torch.split(signal, n_samples)]
    return torch.cat([*parts, stream.finish()], dim=1)[:, stream.latency_samples :]


def _mixture(seconds: float) -> torch.Tensor:
    return _voice(137, seconds, 1) + _voice(211, seconds, 2)


def _voice(pitch_hz: float, seconds: float, seed: int) -> torch.Tensor:
    """(time,): harmonics that come and go, in a little noise."""
    rng = np.random.default_rng(seed)
    clock = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * pitch_hz * clock + 2 * np.sin(2 * np.pi * 0.7 * clock + seed)
    buzz = sum(rng.uniform(0.1, 1) / k * np.sin(k * phase) for k in range(1, 14))
    loudness = np.clip(np.sin(2 * np.pi * (0.4 + 0.1 * seed) * clock + seed) + 0.5, 0, None)
    sound = 0.05 * buzz * loudness + 0.001 * rng.standard_normal(len(clock))
    return torch.from_numpy(sound.astype(np.float32))
