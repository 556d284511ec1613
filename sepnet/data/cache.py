"""Decoded utterances of one corpus in one memory-mapped file, shared by all worker processes.

Decoding a FLAC costs a hundred times more than mixing it. The cache holds every utterance as int16 at
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

from sepnet.data import audio
from sepnet.data.corpus import Manifest, Utterance
from sepnet.dsp.loudness import integrated_loudness
from sepnet.dsp.resample import resample
from sepnet.types import SepnetError

FULL_SCALE = 32768.0
VERSION = 2
SAMPLES, INDEX, ROWS, STAMP = "samples.int16", "index.npz", "manifest.csv", "stamp.json"


class Cache:
    """Utterances in memory order: ``read`` gives samples; the arrays beside it are indexed alike.

    utterances: the manifest's rows. lengths: samples of each. loudness_lufs: integrated loudness of
    each. Pickles as its folder, so that worker processes map the same file.
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
        """``n_samples`` samples of one utterance from ``start``, or up to its end, as float32.

        Raises SepnetError for a stretch that the utterance doesn't hold: the next one lies behind it.
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
    """The cache of a manifest in ``folder``, built first if it is not there or no longer fits.

    resampled: whether files at another rate are resampled; otherwise they are refused. Raises
    SepnetError for them, for files of several channels, and where the disk is too small.
    """
    wanted = {
        "version": VERSION,
        "fingerprint": manifest.fingerprint,
        "root": str(manifest.root),
        "sample_rate": sample_rate,
    }
    _check_rates(manifest, sample_rate, resampled)
    stamp = folder / STAMP
    if not (stamp.is_file() and stamp.read_text() == json.dumps(wanted)):
        _build(manifest, folder, sample_rate)
        with audio.replacing(stamp) as temporary:
            temporary.write_text(json.dumps(wanted))
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
    """Write all but the stamp. Files are replaced, not changed: who has an older cache mapped keeps it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STAMP).unlink(missing_ok=True)
    need = int(2 * sample_rate * manifest.seconds)
    free = shutil.disk_usage(folder).free
    if need > free:
        raise SepnetError(
            f"the cache of {manifest.root} needs {need / 1e6:.0f} MB, but {folder} has {free / 1e6:.0f} MB "
            "free: make room, or point data.cache_dir at another disk"
        )
    lengths, scales, levels = [], [], []
    with audio.replacing(folder / SAMPLES) as temporary, temporary.open("wb") as out:
        for samples, scale, level in _decode(manifest, sample_rate):
            samples.tofile(out)
            lengths.append(len(samples))
            scales.append(scale)
            levels.append(level)
    with audio.replacing(folder / INDEX) as temporary, temporary.open("wb") as out:
        np.savez(
            out,
            starts=np.cumsum([0, *lengths[:-1]]),
            lengths=np.array(lengths),
            scales=np.array(scales, dtype=np.float32),
            loudness_lufs=np.array(levels, dtype=np.float32),
        )
    manifest.write(folder / ROWS)


def _decode(manifest: Manifest, sample_rate: int) -> Iterator[tuple[np.ndarray, float, float]]:
    """Samples as int16, the factor that turns them back into floats, and the loudness, file by file."""

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
        for decoded in pool.map(decode, manifest.utterances):
            bar.update()
            yield decoded
