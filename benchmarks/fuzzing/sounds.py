"""Sound files as people have them, and as they come out of broken disks and programs."""

from __future__ import annotations

import contextlib
import io

import av
import numpy as np
import soundfile

from sepnet.data import audio

RATES = (
    1,
    7,
    100,
    999,
    1000,
    4000,
    7999,
    8000,
    8001,
    11025,
    16000,
    22050,
    44100,
    48000,
    96000,
    192000,
    768000,
)
ODD_RATES = (1_000_000, 1_000_001, 2**31 - 1)
LENGTHS = (0, 1, 2, 3, 15, 16, 17, 63, 100, 255, 256, 257, 400, 511, 1000, 2048, 4001, 8000, 12000, 20011)
FORMATS = (
    "WAV",
    "WAV",
    "WAV",
    "FLAC",
    "OGG",
    "AIFF",
    "AU",
    "CAF",
    "W64",
    "RF64",
    "MP3",
    "WAVEX",
    "NIST",
    "VOC",
    "RAW",
)
MUXED = (
    ("mp4", "aac"),
    ("webm", "libopus"),
    ("mp3", "libmp3lame"),
    ("adts", "aac"),
    ("matroska", "flac"),
    ("ogg", "libopus"),
    ("wav", "pcm_mulaw"),
    ("wav", "adpcm_ms"),
    ("asf", "wmav2"),
    ("avi", "mp2"),
)
SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".m4a", ".webm", ".txt", "", ".WAV", ".w64", ".jpg")
MAGIC = (b"RIFF", b"fLaC", b"OggS", b"ID3\x04", b"\xff\xfb\x90\x00", b"FORM", b"RF64", b"caff", b".snd",
         b"\0\0\0 ftyp",
         b"\x1aE\xdf\xa3", b"PK\x03\x04", b"#!/bin/sh\n", b"%PDF-1.7", b"riff", b"RIFX")  # fmt: skip
HUGE = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF0, 0x10000, 44)


def samples(rng: np.random.Generator) -> np.ndarray:
    """Random samples (time, channel) in float32: noise, tones, silence, and what no microphone gives."""
    n_samples = int(rng.choice(LENGTHS))
    n_channels = int(rng.choice((1, 1, 1, 2, 2, 3, 5, 8, 17)))
    kind = rng.integers(12)
    noise = rng.standard_normal((n_samples, n_channels))
    clock = np.arange(n_samples)[:, None]
    if kind == 0:
        return np.zeros((n_samples, n_channels), np.float32)
    if kind == 1:
        return np.full((n_samples, n_channels), rng.choice((0.5, 1.0, -1.0, 3.0)), np.float32)
    if kind == 2:
        return np.asarray(noise * rng.choice((1e-40, 1e-30, 1e-6, 1e10, 1e30, 3e37)), np.float32)
    if kind == 3 and n_samples:
        noise[rng.integers(n_samples)] = rng.choice((np.nan, np.inf, -np.inf, 1e300))
        with np.errstate(over="ignore"):
            return np.asarray(noise, np.float32)
    if kind == 4:
        return np.asarray((clock == n_samples // 2) * np.ones(n_channels), np.float32)
    if kind == 5:
        return np.asarray(np.sign(noise), np.float32)
    if kind == 6:
        return np.repeat(np.asarray(0.1 * noise[:, :1], np.float32), n_channels, axis=1)
    pitch = rng.uniform(0.001, 0.5)
    tone = 0.3 * np.sin(2 * np.pi * pitch * clock) * (1 + np.sin(clock / 700))
    return np.asarray(tone + 0.05 * noise, np.float32)


def sound(rng: np.random.Generator) -> tuple[bytes, str]:
    """The bytes of a random file that a program might have written, and its usual suffix."""
    for _ in range(20):
        rate = int(rng.choice(RATES if rng.random() < 0.95 else ODD_RATES))
        data = samples(rng)
        with contextlib.suppress(Exception):  # a combination that no such file can hold
            if rng.random() < 0.15:
                return _muxed(rng, data), ".mp4"
            name = str(rng.choice(FORMATS))
            # libsndfile's own encoder of ALAC crashes on some lengths: those files come from FFmpeg.
            subtypes = [kind for kind in soundfile.available_subtypes(name) if not kind.startswith("ALAC")]
            subtype = str(rng.choice(subtypes)) if rng.random() < 0.6 else soundfile.default_subtype(name)
            if subtype not in ("FLOAT", "DOUBLE"):  # encoders crash on what no microphone gives
                data = np.clip(np.nan_to_num(data), -1, 1)
            if name == "OGG" and rate > audio.MAX_SAMPLE_RATE[name]:
                continue  # libsndfile crashes
            stream = io.BytesIO()
            soundfile.write(
                stream, data[: LENGTHS[-1] if rate >= 1000 else 400], rate, format=name, subtype=subtype
            )
            return stream.getvalue(), f".{name.lower()}"
    return b"", ".wav"


def damaged(rng: np.random.Generator, data: bytes) -> bytes:
    """A file after some accidents."""
    for _ in range(int(rng.choice((0, 0, 1, 1, 1, 2, 3)))):
        data = _accident(rng, data)
    return data


def _accident(rng: np.random.Generator, data: bytes) -> bytes:
    kind, size = rng.integers(13), len(data)
    place = int(rng.integers(size)) if size else 0
    early = int(rng.integers(min(size, 64))) if size else 0
    changed = bytearray(data)
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:early]
    if kind == 2:
        return data[place:]
    if kind in (3, 4) and size:
        for _ in range(int(rng.choice((1, 3, 30)))):
            where = int(rng.integers(min(size, 128) if kind == 3 else size))
            changed[where] ^= 1 << int(rng.integers(8))
        return bytes(changed)
    if kind in (5, 6) and size > 8:
        where = 4 * (early // 4) if kind == 5 else early
        changed[where : where + 4] = int(rng.choice(HUGE)).to_bytes(4, str(rng.choice(("little", "big"))))  # type: ignore[arg-type]
        return bytes(changed)
    if kind == 7:
        return data + data
    if kind == 8:
        return data + rng.bytes(int(rng.integers(1, 3000)))
    if kind == 9:
        return b"ID3\x04\x00\x00" + rng.bytes(4) + data
    if kind == 10:
        changed[place : place + 512] = bytes(len(changed[place : place + 512]))
        return bytes(changed)
    if kind == 11:
        return MAGIC[int(rng.integers(len(MAGIC)))] + rng.bytes(int(rng.integers(0, 400)))
    return MAGIC[int(rng.integers(len(MAGIC)))] + data[4:]


def _muxed(rng: np.random.Generator, data: np.ndarray) -> bytes:
    """A file by FFmpeg."""
    container, codec = MUXED[int(rng.integers(len(MUXED)))]
    rate = int(rng.choice((8000, 16000, 44100, 48000)))
    stream = io.BytesIO()
    with av.open(stream, "w", format=container, options={"fflags": "+bitexact"}) as output:
        track = output.add_stream(codec, rate=rate, layout="mono" if data.shape[1] == 1 else "stereo")
        assert isinstance(track, av.AudioStream)
        channels = 1 if data.shape[1] == 1 else 2
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(np.clip(np.nan_to_num(data[:, :channels]), -1, 1).T),
            format="fltp",
            layout=track.layout.name,
        )
        frame.sample_rate = rate
        for packet in (*track.encode(frame), *track.encode(None)):
            output.mux(packet)
    return stream.getvalue()
