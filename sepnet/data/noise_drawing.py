"""Noise for the mixtures of a drawn list: a recording and a gain for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil

import numpy as np

from sepnet.data.fixed_set import extend_noise
from sepnet.data.list_drawing import fit_lengths, round_gain
from sepnet.data.list_files import ListFiles, read_mono
from sepnet.data.manifest import Manifest
from sepnet.data.mixing import Interval
from sepnet.data.mixture_list import FileGain, FixedMixture
from sepnet.dsp.resample import resample
from sepnet.types import SepnetError


def draw_noises(
    mixtures: Sequence[FixedMixture],
    manifest: Manifest,
    noises: Manifest,
    *,
    snr_db: Interval,
    mode: str,
    seed: int,
    limit: int | None = None,
) -> list[FixedMixture]:
    """Give each mixture a noise, at a signal-to-noise ratio that is uniform in an interval.

    The signal is the sum of the mixture's sources. Each recording is used about as often as any other. The
    files of mixtures beyond ``limit`` are not read, and the noise of a mixture does not depend on it.

    Args:
        mixtures: A list without noise.
        manifest: The corpus of the sources.
        noises: The recordings of noise.
        snr_db: The interval of the signal-to-noise ratio, in dB.
        mode: "min" or "max": how the sources are brought to one length.
        seed: Another seed gives other noises and ratios.
        limit: Number of mixtures to take, from the first on; None: all.

    Returns:
        The mixtures that are taken, with noise.

    Raises:
        SepnetError: There is no noise, or a recording of it is silent; or files of the mixtures that are
            taken are not in the corpus.
    """
    paths = sorted(noise.path for noise in noises)
    if not paths:
        raise SepnetError(f"{noises.root} holds no noise for the list: name another folder or split")
    rng = np.random.default_rng(seed)
    taken = mixtures[:limit]
    files = ListFiles(manifest, (source.path for mixture in taken for source in mixture.sources))
    n_rounds = ceil(len(mixtures) / len(paths))
    order = np.concatenate([rng.permutation(len(paths)) for _ in range(n_rounds)])
    low, high = snr_db
    noisy = []
    for mixture, index in zip(taken, order, strict=False):
        path, ratio = paths[int(index)], rng.uniform(low, high)
        gain = _noise_gain(mixture, files, noises, path, ratio, mode)
        noisy.append(replace(mixture, noise=FileGain(path, gain)))
    return noisy


def _noise_gain(
    mixture: FixedMixture, files: ListFiles, noises: Manifest, path: str, snr_db: float, mode: str
) -> float:
    """The gain that brings a noise to a ratio, measured at the lowest rate of all files."""
    sources = [(*files.read_native(source.path), source.gain) for source in mixture.sources]
    noise, noise_rate = read_mono(noises.root / path)
    rate = min(noise_rate, *(source_rate for _, source_rate, _ in sources))
    signals = [resample(samples, own, rate) * gain for samples, own, gain in sources]
    signal = np.sum(fit_lengths(signals, mode), axis=0)
    noise = extend_noise(resample(noise, noise_rate, rate), len(signal), rate)
    noise_power = float(np.square(noise, dtype=np.float64).mean())
    if noise_power == 0.0:
        raise SepnetError(f"{noises.root / path} is silent: leave it out of the noise (exclude)")
    power = float(np.square(signal, dtype=np.float64).mean())
    return round_gain(float(np.sqrt(power / noise_power * 10 ** (-snr_db / 10))))
