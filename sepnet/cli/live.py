"""python scripts/separate.py live=true: raw PCM from standard input, separated, to standard output.

live=device: from the sound card and back to it. What there is to tell goes to standard error.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from torch import Tensor

from sepnet import artifact
from sepnet.data import audio
from sepnet.inference.events import settings
from sepnet.inference.stream import StreamingSeparator
from sepnet.types import SepnetError

FORMATS: dict[str, np.dtype[Any]] = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}
MODEL = "pit-causal-2spk-8k"  # where none is named
MOST_BYTES = 1 << 16  # read at once; less as soon as less is there
FULL_SCALE = 32768


@dataclass
class Pcm:
    """Interleaved samples of a format, with what was lost in making them."""

    format: str
    n_channels: int
    n_clipped: int = 0
    n_bad: int = 0
    rest: bytes = field(default=b"", repr=False)  # of a sample that has not come whole

    def decode(self, data: bytes) -> np.ndarray:
        """Bytes to (time,), full scale 1.0: the first channel of the samples that are whole."""
        data = self.rest + data
        size = FORMATS[self.format].itemsize * self.n_channels
        whole = len(data) // size * size
        self.rest = data[whole:]
        first = np.frombuffer(data[:whole], FORMATS[self.format]).reshape(-1, self.n_channels)[:, 0]
        signal: np.ndarray = first.astype(np.float32)
        if self.format == "s16le":
            return signal / np.float32(FULL_SCALE)
        bad = ~np.isfinite(signal)
        if bad.any() and not self.n_bad:
            tell("warning: samples that are NaN or infinite come in, and are taken for zeros")
        self.n_bad += int(bad.sum())
        signal[bad] = 0.0
        return signal

    def encode(self, sources: np.ndarray) -> bytes:
        """(source, time) to bytes; integers beyond full scale saturate, and are counted."""
        samples = sources.T
        if self.format == "s16le":
            scaled = np.rint(samples * FULL_SCALE)
            samples = scaled.clip(-FULL_SCALE, FULL_SCALE - 1)
            clipped = int((scaled != samples).sum())
            if clipped and not self.n_clipped:
                tell(
                    "warning: the output goes beyond full scale and is cut off, for live audio can't be "
                    "taken back: turn the input down, or take pcm.format=f32le"
                )
            self.n_clipped += clipped
        data: bytes = samples.astype(FORMATS[self.format]).tobytes()
        return data


def live(config: DictConfig, files: Sequence[str | Path] = ()) -> None:
    """Separate until the input ends. Raises SepnetError for settings that can't be."""
    if config.live not in (True, "device"):
        raise SepnetError(f"live={config.live} is none of false, true (a pipe) and device (the sound card)")
    if files or config.files:
        raise SepnetError("live=true listens to standard input: leave the files out, or live=true")
    pcm = config.pcm
    if pcm.format not in FORMATS or type(pcm.channels) is not int or pcm.channels < 1:
        raise SepnetError(
            f"pcm.format={pcm.format} and pcm.channels={pcm.channels}: the format is one of "
            f"{', '.join(FORMATS)}, and there is one channel or more"
        )
    if not (pcm.rate is None or (type(pcm.rate) is int and pcm.rate > 0)):
        raise SepnetError(f"pcm.rate={pcm.rate} is no rate: give a whole number of Hz, or leave it out")
    if config.live is True and (sys.stdin is None or sys.__stdout__ is None):
        raise SepnetError(
            "live=true wants sound on standard input and gives it out on standard output: open both"
        )
    name = config.model or MODEL
    queries = (
        config.query if config.query is not None and not isinstance(config.query, str) else [config.query]
    )
    examples = [audio.read(file) for file in queries if file is not None]
    stream = StreamingSeparator(
        artifact.load(name, settings(config)),
        sample_rate=pcm.rate,
        n_sources=config.n_sources,
        queries=[(sound.mean(axis=0), rate) for sound, rate in examples],
    )
    labels = stream.labels or tuple(f"s{k + 1}" for k in range(stream.n_sources))
    if pcm.source is not None and pcm.source not in labels:
        raise SepnetError(f"pcm.source={pcm.source} is none of {', '.join(labels)}")
    chosen = (
        slice(None) if pcm.source is None else slice(labels.index(pcm.source), labels.index(pcm.source) + 1)
    )
    tell(
        f"live: {name}, {stream.sample_rate} Hz, out come {', '.join(labels[chosen])}, "
        f"{stream.latency_ms:g} ms late; Ctrl-C ends it"
    )
    if config.live == "device":
        over_the_card(stream, pcm.channels, chosen)
    else:
        over_a_pipe(stream, Pcm(pcm.format, pcm.channels), chosen)


def over_a_pipe(stream: StreamingSeparator, pcm: Pcm, chosen: slice) -> None:
    """From standard input to standard output, until either is closed."""
    begin, n_samples, busy = time.perf_counter(), 0, 0.0
    incoming, outgoing = sys.stdin.fileno(), sys.stdout.fileno()
    try:
        while data := os.read(incoming, MOST_BYTES):
            signal = pcm.decode(data)
            started = time.perf_counter()
            sources = stream.push(signal)[chosen].numpy()
            busy, n_samples = busy + time.perf_counter() - started, n_samples + len(signal)
            _write(outgoing, pcm.encode(sources))
        _write(outgoing, pcm.encode(stream.finish()[chosen].numpy()))
        ending = "the input has ended"
    except BrokenPipeError:
        ending = "nobody reads the output any more"
    except KeyboardInterrupt:
        ending = "stopped"
    if pcm.rest:
        tell(
            f"warning: the last {len(pcm.rest)} bytes are no whole sample of {pcm.format}, and were left out"
        )
    seconds = n_samples / stream.sample_rate
    tell(
        f"live: {ending} after {seconds:.2f} s of sound, {time.perf_counter() - begin:.2f} s by the clock; "
        f"real-time factor {busy / max(seconds, 1e-9):.3f}"
        + (f"; {pcm.n_clipped} samples were cut off at full scale" if pcm.n_clipped else "")
        + (f"; {pcm.n_bad} were no numbers, and taken for zeros" if pcm.n_bad else "")
    )


def over_the_card(stream: StreamingSeparator, n_channels: int, chosen: slice) -> None:
    """From the sound card's default input to its default output, hop by hop, until Ctrl-C."""
    try:
        sounddevice: Any = importlib.import_module("sounddevice")
    except (ImportError, OSError) as error:  # OSError: it is there, but its PortAudio is not
        raise SepnetError(
            f"live=device wants sounddevice ({error}): pip install 'sepnet[live]', with PortAudio on Linux"
        ) from error
    n_late = 0
    try:
        with sounddevice.Stream(
            samplerate=stream.sample_rate,
            blocksize=stream.hop_samples,
            channels=(n_channels, len(range(stream.n_sources)[chosen])),
            dtype="float32",
        ) as card:
            while True:
                heard, late = card.read(stream.hop_samples)  # (time, channel)
                n_late += bool(late)
                sources: Tensor = stream.push(np.ascontiguousarray(heard[:, 0]))[chosen]
                card.write(np.ascontiguousarray(sources.numpy().T).clip(-1.0, 1.0))
    except KeyboardInterrupt:
        tell(f"live: stopped; {n_late} blocks came too late to be heard whole")
    except sounddevice.PortAudioError as error:
        raise SepnetError(
            f"the sound card can't be used at {stream.sample_rate} Hz ({error}): see python -m sounddevice"
        ) from error


def tell(what: str) -> None:
    """To standard error: standard output is for sound."""
    print(what, file=sys.stderr, flush=True)


def _write(outgoing: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(outgoing, view) :]
