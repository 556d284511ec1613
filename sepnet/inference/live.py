"""Live separation: raw PCM from standard input to standard output, or over the sound card.

Messages go to standard error.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from sepnet.inference.stream import StreamingSeparator
from sepnet.types import SepnetError

FORMATS: dict[str, np.dtype[Any]] = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}
MAX_READ_BYTES = 1 << 16  # at once; a read returns as soon as there is anything
FULL_SCALE = 32768  # of 16-bit integers


@dataclass
class Pcm:
    """Interleaved samples of a format, with counts of samples that could not be kept.

    Attributes:
        format: A key of ``FORMATS``.
        n_channels: Channels of the input.
        n_clipped: Samples of output that were clipped at full scale.
        n_bad: Samples of input that were NaN or infinite, and became zeros.
        incomplete: Bytes of a sample that has not arrived completely.
    """

    format: str
    n_channels: int
    n_clipped: int = 0
    n_bad: int = 0
    incomplete: bytes = field(default=b"", repr=False)

    def decode(self, data: bytes) -> np.ndarray:
        """Decode bytes to (time,) with full scale 1.0: the first channel of all complete samples."""
        data = self.incomplete + data
        size = FORMATS[self.format].itemsize * self.n_channels
        n_complete = len(data) // size * size
        self.incomplete = data[n_complete:]
        first = np.frombuffer(data[:n_complete], FORMATS[self.format]).reshape(-1, self.n_channels)[:, 0]
        signal: np.ndarray = first.astype(np.float32)
        if self.format == "s16le":
            return signal / np.float32(FULL_SCALE)
        bad = ~np.isfinite(signal)
        if bad.any() and not self.n_bad:
            print_message(
                "warning: the input holds samples that are NaN or infinite, which are taken for zeros"
            )
        self.n_bad += int(bad.sum())
        signal[bad] = 0.0
        return signal

    def encode(self, sources: np.ndarray) -> bytes:
        """Encode (source, time) as bytes; integers beyond full scale are clipped, and counted."""
        samples = sources.T
        if self.format == "s16le":
            scaled = np.rint(samples * FULL_SCALE)
            samples = scaled.clip(-FULL_SCALE, FULL_SCALE - 1)
            clipped = int((scaled != samples).sum())
            if clipped and not self.n_clipped:
                print_message(
                    "warning: the output exceeds full scale and is clipped, since live audio can't be taken "
                    "back: turn the input down, or take pcm.format=f32le"
                )
            self.n_clipped += clipped
        data: bytes = samples.astype(FORMATS[self.format]).tobytes()
        return data


def run_pipe(stream: StreamingSeparator, pcm: Pcm, chosen: slice) -> None:
    """Separate standard input to standard output until either is closed.

    Args:
        stream: The separator.
        pcm: The format of input and output.
        chosen: The sources that are written.
    """
    begin, n_samples, busy = time.perf_counter(), 0, 0.0
    incoming, outgoing = sys.stdin.fileno(), sys.stdout.fileno()
    try:
        while data := os.read(incoming, MAX_READ_BYTES):
            signal = pcm.decode(data)
            started = time.perf_counter()
            sources = stream.push(signal)[chosen].numpy()
            busy, n_samples = busy + time.perf_counter() - started, n_samples + len(signal)
            _write(outgoing, pcm.encode(sources))
        _write(outgoing, pcm.encode(stream.finish()[chosen].numpy()))
        ending = "the input has ended"
    except BrokenPipeError:
        ending = "the reader of the output has gone"
    except KeyboardInterrupt:
        ending = "stopped"
    if pcm.incomplete:
        print_message(
            f"warning: the last {len(pcm.incomplete)} bytes are no complete sample of {pcm.format}, and were "
            "left out"
        )
    seconds = n_samples / stream.sample_rate
    print_message(
        f"live: {ending} after {seconds:.2f} s of sound, {time.perf_counter() - begin:.2f} s elapsed; "
        f"real-time factor {busy / max(seconds, 1e-9):.3f}"
        + (f"; {pcm.n_clipped} samples were clipped at full scale" if pcm.n_clipped else "")
        + (f"; {pcm.n_bad} were NaN or infinite, and became zeros" if pcm.n_bad else "")
    )


def run_sound_card(stream: StreamingSeparator, n_channels: int, chosen: slice) -> None:
    """Separate the sound card's default input to its default output, hop by hop, until Ctrl-C.

    Args:
        stream: The separator.
        n_channels: Channels of the input, of which the first is separated.
        chosen: The sources that are played.

    Raises:
        SepnetError: sounddevice or PortAudio is missing, or the card can't be used at this rate.
    """
    try:
        sounddevice: Any = importlib.import_module("sounddevice")
    except (ImportError, OSError) as error:  # OSError: its PortAudio is missing
        raise SepnetError(
            f"live=device needs sounddevice ({error}): pip install 'sepnet[live]', with PortAudio on Linux"
        ) from error
    n_overflows = 0
    try:
        with sounddevice.Stream(
            samplerate=stream.sample_rate,
            blocksize=stream.hop_samples,
            channels=(n_channels, len(range(stream.n_sources)[chosen])),
            dtype="float32",
        ) as card:
            while True:
                block, overflowed = card.read(stream.hop_samples)  # (time, channel)
                n_overflows += bool(overflowed)
                sources: Tensor = stream.push(np.ascontiguousarray(block[:, 0]))[chosen]
                card.write(np.ascontiguousarray(sources.numpy().T).clip(-1.0, 1.0))
    except KeyboardInterrupt:
        print_message(f"live: stopped; {n_overflows} times the input overflowed, and samples were lost")
    except sounddevice.PortAudioError as error:
        raise SepnetError(
            f"the sound card can't be used at {stream.sample_rate} Hz ({error}): see python -m sounddevice"
        ) from error


def print_message(message: str) -> None:
    """Print to standard error: standard output is for sound."""
    print(message, file=sys.stderr, flush=True)


def _write(outgoing: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(outgoing, view) :]
