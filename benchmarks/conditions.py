r"""What a model of two speakers gains by the kind of recording: the table of conditions in a model's card.

    python benchmarks/run.py what=conditions data=speech8k_noisy_rooms model=pit-2spk-8k n_separated=246 \
        out=runs/conditions/pit-2spk-8k.json

All conditions are made from the two voices of the same mixtures of the data. Noise, rooms and how late a
reflection still belongs to a voice are those of the data's list; data without them have no such rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from omegaconf import DictConfig
from torch import Tensor

import sepnet
from sepnet import artifact
from sepnet.atomic import write_text
from sepnet.cli import app
from sepnet.data.dataset import MixtureData
from sepnet.data.fixed_set import FixedSet
from sepnet.data.librimix import DrawnList, LibriMixList
from sepnet.evaluation.conditions import Condition, conditions_table
from sepnet.evaluation.statistics import summarise
from sepnet.inference.pipeline import Pipeline
from sepnet.metrics import best_permutation, pairwise, permute, si_sdr
from sepnet.types import Mixture, SepnetError

NOISE_SNR_DB = 5.0
DIFFERENCES_DB = (10, 20, 30)
TELEPHONE_HZ = (300.0, 3400.0)
TELEPHONE_ORDER = 8
MUSIC_DB = 10.0  # below the voices
CHORD_SECONDS = 0.5
SCALE = (0, 2, 3, 5, 7, 8, 10)  # of natural minor, in semitones
TONIC_HZ = 110.0
N_HARMONICS = 8
AS_THEY_ARE = "as the list has them"
ONE_SEX, BOTH_SEXES = "two voices of one sex", "a man and a woman"
LEAK = "one voice alone: its level in the other output"
MIN_LEAK = 1e-12  # of the power: a silent output counts as -120 dB


def run(config: DictConfig) -> None:
    """Print the table of conditions, and write it for a model's card where ``out`` names a file.

    Args:
        config: ``data``, ``model``, ``split``, ``n_separated`` and ``out`` of benchmarks/benchmark.yaml.

    Raises:
        SepnetError: The split is none, or a mixture of the data has not two sources.
    """
    app.plain(config)
    torch.set_num_threads(1)
    name, data = config.model or "pit-2spk-8k", artifact.build(config.data)
    pipeline = Pipeline(sepnet.load(name))
    conditions = list(measure(pipeline, data, config.split, config.n_separated))
    print(f"{name}, {conditions[0].n} mixtures of the {config.split} split of {data.corpus.root}\n")
    print(conditions_table(conditions))
    if config.out is not None:
        content = {
            "weights_sha1": artifact.resolve(name).weights_sha1(),
            "split": config.split,
            "conditions": [asdict(condition) for condition in conditions],
        }
        Path(config.out).parent.mkdir(parents=True, exist_ok=True)
        write_text(Path(config.out), json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def measure(pipeline: Pipeline, data: MixtureData, split: str, n_mixtures: int) -> Iterator[Condition]:
    """Measure a model under each condition.

    Args:
        pipeline: The model.
        data: Whose mixtures are taken.
        split: ``dev`` or ``test``: of the data's validation or test list.
        n_mixtures: How many at most, the first of the list.

    Yields:
        The rows of the table.

    Raises:
        SepnetError: The split is none of them, or a mixture has not two sources.
    """
    lists = {"dev": data.valid_list, "test": data.test_list}
    if split not in lists:
        raise SepnetError(f"split is {split!r}: give {' or '.join(lists)}")
    mixing: object = lists[split]
    if not isinstance(mixing, DrawnList | LibriMixList):
        raise SepnetError("conditions are made from lists of mixtures of speech: take data=speech8k or alike")

    def fixed(**changed: Any) -> FixedSet:
        unset = ("noise", "responses", "early_seconds", "query_seconds")
        plain: dict[str, Any] = dict.fromkeys(unset) | {"with_noise": False}
        if isinstance(mixing, DrawnList):
            plain["csv"] = None  # which keeps one list, with its noise
        made = replace(mixing, **plain | changed).fixed_set(data.corpus.manifest(), data.sample_rate)
        assert isinstance(made, FixedSet)
        return made

    plain = fixed()
    numbers = range(min(n_mixtures, len(plain)))
    if wrong := [plain.id(number) for number in numbers if plain.n_sources(number) != 2]:
        raise SepnetError(f"{wrong[0]} has not two sources, which all conditions are made for")
    yield from _of_two_voices(pipeline, plain, numbers)
    noisy = {"noise": mixing.noise, "noise_snr_db": (NOISE_SNR_DB, NOISE_SNR_DB)}
    room = {"responses": mixing.responses, "early_seconds": mixing.early_seconds}
    surroundings = {
        f"in noise, {NOISE_SNR_DB:g} dB below the voices": noisy if mixing.noise else None,
        f"in a room{_early(mixing.early_seconds)}": room if mixing.responses else None,
        "in that noise and such a room": noisy | room if mixing.noise and mixing.responses else None,
    }
    for title, changed in surroundings.items():
        if changed is not None:
            mixtures = fixed(**changed)
            yield _summary(title, [_gain(pipeline, mixtures[number]) for number in numbers])


def _early(seconds: float | None) -> str:
    return "" if seconds is None else f" (a voice is what arrives within {1000 * seconds:g} ms)"


def _of_two_voices(pipeline: Pipeline, plain: FixedSet, numbers: range) -> Iterator[Condition]:
    """The rows that need nothing but the voices."""
    rows: dict[str, list[float]] = {title: [] for title in (AS_THEY_ARE, ONE_SEX, BOTH_SEXES)}
    for number in numbers:
        mixture, sexes = plain[number], plain.sexes(number)
        for title, value in _measure_one(pipeline, mixture, np.random.default_rng(number)):
            rows.setdefault(title, []).append(value)
        if all(sexes):
            rows[ONE_SEX if sexes[0] == sexes[1] else BOTH_SEXES].append(rows[AS_THEY_ARE][-1])
    for title, values in rows.items():
        if values:
            yield _summary(title, values)


def _measure_one(
    pipeline: Pipeline, mixture: Mixture, rng: np.random.Generator
) -> Iterator[tuple[str, float]]:
    """The titles of rows, and what the voices of one mixture give for them, in dB."""
    voices, rate = mixture.references, mixture.sample_rate
    assert voices is not None
    yield AS_THEY_ARE, _gain(pipeline, mixture)
    for difference in DIFFERENCES_DB:
        scale = voices[0].norm() / voices[1].norm() * 10 ** (-difference / 20)
        sources = torch.stack([voices[0], scale * voices[1]])
        louder, weaker = _gains(pipeline, sources.sum(dim=0), sources, rate)
        yield f"{difference} dB apart: the louder voice", louder
        yield f"{difference} dB apart: the weaker voice", weaker
    narrow = _telephone(voices, rate)
    gains = _gains(pipeline, narrow.sum(dim=0), narrow, rate)
    yield "through a telephone, 300 to 3,400 Hz", float(np.mean(gains))
    music = _music(rng, voices.shape[-1], rate)
    music *= mixture.audio.norm() / music.norm() * 10 ** (-MUSIC_DB / 20)
    gains = _gains(pipeline, mixture.audio[0] + music, voices, rate)
    yield f"before music, {MUSIC_DB:g} dB below the voices", float(np.mean(gains))
    powers = pipeline.separate(Mixture(voices[:1], rate, n_sources=2)).sources.square().sum(dim=1)
    yield LEAK, 10 * float(torch.log10((powers.min() / powers.max()).clamp_min(MIN_LEAK)))


def _summary(title: str, values: Sequence[float]) -> Condition:
    summary = summarise(np.array(values))
    below = None if title == LEAK else 100 * float(np.mean(np.array(values) < 0))
    return Condition(title, summary.n, summary.mean, summary.low, summary.high, below)


def _gain(pipeline: Pipeline, mixture: Mixture) -> float:
    """The mean SI-SDRi of both voices of a mixture, in dB."""
    assert mixture.references is not None
    return float(np.mean(_gains(pipeline, mixture.audio[0], mixture.references, mixture.sample_rate)))


def _gains(pipeline: Pipeline, mixture: Tensor, sources: Tensor, sample_rate: int) -> list[float]:
    """The SI-SDRi of both voices, in dB."""
    estimates = pipeline.separate(Mixture(mixture[None], sample_rate, n_sources=2)).sources
    order = best_permutation(pairwise(si_sdr, estimates[None], sources[None]))
    before = si_sdr(mixture.expand_as(sources), sources)
    gains: list[float] = (si_sdr(permute(estimates[None], order)[0], sources) - before).tolist()
    return gains


def _telephone(signals: Tensor, sample_rate: int) -> Tensor:
    """Signals (source, time) within the band of a telephone."""
    high = min(TELEPHONE_HZ[1], 0.49 * sample_rate)
    sections = scipy.signal.butter(
        TELEPHONE_ORDER, (TELEPHONE_HZ[0], high), "bandpass", fs=sample_rate, output="sos"
    )
    filtered = scipy.signal.sosfiltfilt(sections, signals.double().numpy(), axis=-1)
    return torch.from_numpy(np.ascontiguousarray(filtered, dtype=np.float32))


def _music(rng: np.random.Generator, n_samples: int, sample_rate: int) -> Tensor:
    """Chords (time,) of three decaying notes with harmonics, in a minor key."""
    clock = np.arange(round(CHORD_SECONDS * sample_rate)) / sample_rate

    signal = np.zeros(n_samples)
    for begin in range(0, n_samples, len(clock)):
        root = int(rng.integers(2 * len(SCALE)))
        steps = (root, root + 2, root + 4)
        semitones = [12 * (step // len(SCALE)) + SCALE[step % len(SCALE)] for step in steps]
        chord = np.zeros(len(clock))
        for semitone in semitones:
            pitch = TONIC_HZ * 2 ** (semitone / 12)
            numbers = [k for k in range(1, N_HARMONICS + 1) if k * pitch < sample_rate / 2]
            chord += sum(np.sin(2 * np.pi * k * pitch * clock) / k for k in numbers)
        chord *= np.minimum(clock / 0.01, 1.0) * np.exp(-3 * clock)
        signal[begin : begin + len(clock)] += chord[: n_samples - begin]
    return torch.from_numpy(signal.astype(np.float32))
