"""python scripts/benchmark.py what=lengths | what=identities: how recordings of any length are served."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from omegaconf import DictConfig

from sepnet import artifact, inference
from sepnet.data import audio
from sepnet.data.blocks import write_blocks
from sepnet.data.corpus import Manifest
from sepnet.data.dataset import MixtureData
from sepnet.metrics import improvement, si_sdr
from sepnet.types import Mixture, Separator

RATE = 16000  # of the long files
BLOCK_SECONDS = 10
WARM = 3  # separations of a short clip before it is timed
TURN_SECONDS, PAUSE_SECONDS, LONG_SECONDS = (2.0, 8.0), (0.2, 2.0), (5.0, 20.0)
LONG_SHARE = 0.1  # of the pauses of a speaker
TOGETHER_SECONDS, APART_SECONDS = (8.0, 14.0), (90.0, 150.0)  # pauses of both, and between these


def lengths(config: DictConfig) -> None:
    """Print the peak memory and the real-time factor of scripts/separate.py for files of many lengths.

    16 kHz, the shipped default at 8 kHz, written as float32. The real-time factor is that of the separation
    and of keeping its results, without the start of the program; that of a short clip is the best of
    ``repetitions`` once all is warm.
    """
    short = _short_factor(config.repetitions)
    print(f"10 s in memory: real-time factor {short:.4f}")
    for seconds in config.lengths:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "long.wav"
            write_blocks(file, _hum(seconds), RATE, n_channels=1, n_samples=seconds * RATE, subtype="PCM_16")
            begin = time.perf_counter()
            peak = _run([str(file), "model=pit-2spk-8k"])
            wall = time.perf_counter() - begin
            record = json.loads((Path(folder) / "long_separation.json").read_text())
        factor = record["compute_seconds"] / seconds
        print(
            f"{seconds} s: peak {peak:.0f} MiB, real-time factor {factor:.4f} ({factor / short:.2f} times "
            f"the clip's), {wall:.0f} s in all"
        )


def identities(config: DictConfig) -> None:
    """Print how well sources keep their places over conversations, in chunks and with the file at once.

    Each is of two speakers of ``split``, ``conversation_minutes`` long: their utterances in turns and over
    one another, with pauses. A second is on the wrong output if the other order of the outputs fits it
    better than the order that fits the whole best.
    """
    data: MixtureData = artifact.build(config.data)
    manifest = data.corpus.manifest().split(config.split)
    speakers = manifest.speakers
    rng = np.random.default_rng(0)
    separator = artifact.load("pit-2spk-8k")
    found = []
    for _ in range(config.n_conversations):
        pair = [speakers[k] for k in rng.choice(len(speakers), 2, replace=False)]
        seconds = 60.0 * config.conversation_minutes
        sources = conversation(manifest, pair, seconds, data.sample_rate, rng)
        row = at_once_and_in_chunks(separator, sources, data.sample_rate)
        found.append(row)
        print(
            f"{pair[0]} and {pair[1]}: at once {100 * row[0]:.1f} % wrong, {row[1]:.2f} dB; in chunks "
            f"{100 * row[2]:.1f} % wrong, {row[3]:.2f} dB",
            flush=True,
        )
    mean = np.mean(found, axis=0)
    print(
        f"mean of {len(found)}: at once {100 * mean[0]:.1f} % wrong, {mean[1]:.2f} dB; in chunks "
        f"{100 * mean[2]:.1f} % wrong, {mean[3]:.2f} dB"
    )


def _short_factor(repetitions: int) -> float:
    clip = next(_hum(BLOCK_SECONDS))
    separator = artifact.load("pit-2spk-8k")
    times = []
    for turn in range(WARM + repetitions):
        begin = time.perf_counter()
        inference.separate(clip, RATE, separator)
        if turn >= WARM:
            times.append((time.perf_counter() - begin) / BLOCK_SECONDS)
    return min(times)


def _hum(seconds: int) -> Iterator[Float[np.ndarray, "channel time"]]:
    """Noise that comes and goes, in blocks."""
    rng = np.random.default_rng(0)
    for start in range(0, seconds, BLOCK_SECONDS):
        length = min(BLOCK_SECONDS, seconds - start) * RATE
        swell = 0.5 + 0.5 * np.sin(np.arange(length) / RATE)
        yield (0.05 * swell * rng.standard_normal(length)).astype(np.float32)[None]


def _run(words: list[str]) -> float:
    """Run scripts/separate.py in a process of its own; its peak resident memory in MiB."""
    command = [sys.executable, "-c", "from sepnet.cli import separate; separate.main()", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with the status {process.returncode}")
    return usage.ru_maxrss / 1024


def at_once_and_in_chunks(
    separator: Separator, sources: Float[torch.Tensor, "source time"], rate: int
) -> tuple[float, float, float, float]:
    """The share of seconds on the wrong output and the mean SI-SDRi in dB: heard at once, then in chunks."""
    mixture = Mixture(sources.sum(dim=0, keepdim=True), rate)
    whole = separator.separate(mixture).sources
    chunked = inference.separate(mixture.audio, rate, separator).sources
    return *_judged(whole, sources, rate), *_judged(chunked, sources, rate)


def conversation(
    manifest: Manifest, speakers: Sequence[str], seconds: float, rate: int, rng: np.random.Generator
) -> Float[torch.Tensor, "source time"]:
    """Utterances of each speaker, after and over one another, with pauses of each and of both."""
    n_samples = round(seconds * rate)
    sources = np.zeros((len(speakers), n_samples), dtype=np.float32)
    for source, speaker in zip(sources, speakers, strict=True):
        files = [manifest.path(utterance) for utterance in manifest.by_speaker()[speaker]]
        clips = [audio.read(file, sample_rate=rate)[0][0] for file in files]
        at = 0
        while at < n_samples:
            clip = clips[rng.integers(len(clips))]
            length = min(len(clip), round(rng.uniform(*TURN_SECONDS) * rate))
            begin = rng.integers(len(clip) - length + 1)
            turn = clip[begin : begin + length]
            turn = 0.05 * turn / max(float(np.sqrt(np.square(turn).mean())), 1e-6)
            source[at : at + length] = turn[: n_samples - at]
            pause = LONG_SECONDS if rng.random() < LONG_SHARE else PAUSE_SECONDS
            at += length + round(rng.uniform(*pause) * rate)
    at = round(rng.uniform(*APART_SECONDS) * rate)
    while at < n_samples:
        sources[:, at : at + round(rng.uniform(*TOGETHER_SECONDS) * rate)] = 0.0
        at += round(rng.uniform(*APART_SECONDS) * rate)
    return torch.from_numpy(sources)


def _judged(
    estimates: Float[torch.Tensor, "source time"], sources: Float[torch.Tensor, "source time"], rate: int
) -> tuple[float, float]:
    """The share of seconds on the wrong output, and the mean SI-SDRi in dB, in the order that fits best."""
    seconds = sources.shape[1] // rate
    cut = [signal[:, : seconds * rate].reshape(2, seconds, rate) for signal in (estimates, sources)]
    ours = (cut[0] - cut[1]).square().sum(dim=(0, 2))
    other = (cut[0].flip(0) - cut[1]).square().sum(dim=(0, 2))
    heard = cut[1].square().sum(dim=(0, 2)) > 1e-3
    wrong = float(((other < ours) & heard).sum() / heard.sum())
    if wrong > 0.5:
        wrong, estimates = 1 - wrong, estimates.flip(0)
    mixture = sources.sum(dim=0).expand_as(sources)
    return wrong, float(improvement(si_sdr, estimates, sources, mixture).mean())
