"""Decoded utterances of one corpus in one memory-mapped file, shared by all worker processes.

Decoding a FLAC takes a hundred times longer than mixing it. The cache holds every utterance as int16 at
one sample rate, one after the other, with its scale and its loudness beside it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from sepnet.atomic import replacing
from sepnet.data import audio
from sepnet.data.manifest import Manifest, Utterance
from sepnet.data.ordered_map import map_in_order
from sepnet.dsp.loudness import integrated_loudness
from sepnet.dsp.resample import resample
from sepnet.types import SepnetError

FULL_SCALE = 32768.0
VERSION = 2
DECODED_AHEAD = 32  # files in memory that are not written yet
SAMPLES, INDEX, ROWS, STAMP = "samples.int16", "index.npz", "manifest.csv", "stamp.json"


class Cache:
    """Decoded utterances, numbered in the manifest's order. Pickles as its folder: workers map the same file.

    Args:
        folder: What ``open_cache`` built.

    Attributes:
        sample_rate: In Hz.
        fingerprint: That of the manifest.
        utterances: The manifest's rows.
        lengths: (utterance,), in samples.
        loudness_lufs: (utterance,), integrated loudness in LUFS.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        stamp = json.loads((folder / STAMP).read_text())
        index = np.load(folder / INDEX)
        self.sample_rate: int = stamp["sample_rate"]
        self.fingerprint: str = stamp["fingerprint"]
        self.utterances = Manifest.read(folder / ROWS, folder).utterances
        self.starts: np.ndarray = index["starts"]
        self.lengths: np.ndarray = index["lengths"]
        self.scales: np.ndarray = index["scales"]
        self.loudness_lufs: np.ndarray = index["loudness_lufs"]
        self._samples: np.ndarray = np.memmap(folder / SAMPLES, dtype=np.int16, mode="r")

    def __reduce__(self) -> tuple[Any, ...]:
        return Cache, (self.folder,)

    def __len__(self) -> int:
        return len(self.utterances)

    def read(
        self, utterance: int, start: int = 0, n_samples: int | None = None
    ) -> Float[np.ndarray, " time"]:
        """Read a part of one utterance.

        Args:
            utterance: Its number.
            start: The first sample.
            n_samples: The number of samples; None: to the end.

        Returns:
            (time,), float32.

        Raises:
            SepnetError: The utterance doesn't have these samples: the next one follows in the file.
        """
        length = int(self.lengths[utterance])
        stop = length if n_samples is None else start + n_samples
        if not 0 <= start <= stop <= length:
            raise SepnetError(
                f"{self.utterances[utterance].path} has {length} samples, so {start} to {stop} can't be read"
            )
        begin = int(self.starts[utterance])
        samples: np.ndarray = self._samples[begin + start : begin + stop] * self.scales[utterance]
        return samples


def open_cache(manifest: Manifest, folder: Path, *, sample_rate: int, resampled: bool = False) -> Cache:
    """Open the cache of a manifest; it is built first if it is missing or of another manifest or rate.

    Args:
        manifest: The utterances.
        folder: Where the cache is.
        sample_rate: In Hz.
        resampled: Resample files at another rate; otherwise they are refused.

    Raises:
        SepnetError: A file is at another rate or has several channels, or the disk is too small.
    """
    required = {
        "version": VERSION,
        "fingerprint": manifest.fingerprint,
        "root": str(manifest.root),
        "sample_rate": sample_rate,
    }
    _check_rates(manifest, sample_rate, resampled)
    stamp = folder / STAMP
    if not (stamp.is_file() and stamp.read_text() == json.dumps(required)):
        _build(manifest, folder, sample_rate)
        with replacing(stamp) as temporary:
            temporary.write_text(json.dumps(required))
    return Cache(folder)


def _check_rates(manifest: Manifest, sample_rate: int, resampled: bool) -> None:
    other = [u for u in manifest.utterances if u.sample_rate != sample_rate]
    if other and not resampled:
        raise SepnetError(
            f"{len(other)} of {len(manifest)} files under {manifest.root} are not at {sample_rate} Hz "
            f"(the first is {other[0].path}, at {other[0].sample_rate} Hz): "
            "set data.sample_rate to theirs, or data.resample=true to convert them"
        )


def _build(manifest: Manifest, folder: Path, sample_rate: int) -> None:
    """Write all but the stamp. Files are replaced, not changed: processes that map an older cache keep it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STAMP).unlink(missing_ok=True)
    required = int(2 * sample_rate * manifest.seconds)
    free = shutil.disk_usage(folder).free
    if required > free:
        raise SepnetError(
            f"the cache of {manifest.root} needs {required / 1e6:.0f} MB, but {folder} has {free / 1e6:.0f} "
            "MB free: make room, or point data.cache_dir at another disk"
        )
    lengths, scales, levels = [], [], []
    with replacing(folder / SAMPLES) as temporary, temporary.open("wb") as out:
        for samples, scale, level in _decode(manifest, sample_rate):
            samples.tofile(out)
            lengths.append(len(samples))
            scales.append(scale)
            levels.append(level)
    with replacing(folder / INDEX) as temporary, temporary.open("wb") as out:
        np.savez(
            out,
            starts=np.cumsum([0, *lengths[:-1]]),
            lengths=np.array(lengths),
            scales=np.array(scales, dtype=np.float32),
            loudness_lufs=np.array(levels, dtype=np.float32),
        )
    manifest.write(folder / ROWS)


def _decode(manifest: Manifest, sample_rate: int) -> Iterator[tuple[np.ndarray, float, float]]:
    """For each file its samples as int16, the factor that makes floats of them, and its loudness."""

    def decode(utterance: Utterance) -> tuple[np.ndarray, float, float]:
        path = manifest.path(utterance)
        channels, rate = audio.read(path)
        if len(channels) != 1:
            raise SepnetError(f"{path} has {len(channels)} channels, but a corpus is mono: convert it first")
        signal = channels[0] if rate == sample_rate else resample(channels[0], rate, sample_rate)
        # Samples beyond full scale (resampling overshoots) are kept by scaling the file, never clipped.
        # int16 holds -1.0 but not +1.0.
        highest, lowest = float(signal.max()), float(signal.min())
        scale = max(1.0, highest * FULL_SCALE / (FULL_SCALE - 1), -lowest) / FULL_SCALE
        level = integrated_loudness(signal, sample_rate)
        return np.round(signal / scale).astype(np.int16), scale, level

    bar = tqdm(
        total=len(manifest.utterances),
        desc=f"cache {manifest.root.name}",
        unit="file",
        leave=False,
        disable=None,
    )
    with ThreadPoolExecutor() as pool, bar:
        for decoded in map_in_order(pool, decode, manifest.utterances, max_ahead=DECODED_AHEAD):
            bar.update()
            yield decoded
