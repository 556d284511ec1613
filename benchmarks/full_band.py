"""Rules that share the band above a model's among its estimates, scored on mixtures of real voices.

    python benchmarks/run.py what=full_band speech_root=../shared/audio/an4_16k split=dev

Mixtures of two speakers at 16 kHz are separated by a model at 8 kHz; each rule of ``rules`` then shares the
band from 4 to 8 kHz among the estimates (sepnet.inference.full_band). The floor is to drop the band, or to
split it evenly; the ceiling is the shares of the true sources in each frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from scipy.signal import firwin
from torch import Tensor

import sepnet
from sepnet.data.audio import read
from sepnet.dsp.resample import resample
from sepnet.evaluation.statistics import summarise
from sepnet.inference.full_band import ShareRule, extend_to_full_band, ratio, shares_by_brightness
from sepnet.metrics import best_permutation, pairwise, permute, pesq, si_sdr, si_sdr_improvement, snr
from sepnet.types import Mixture, Separator, SepnetError

RATE = 16000
SECONDS = 4.0
SEED = 0
MAX_LEVEL_DIFFERENCE_DB = 5.0
RMS = 0.05
SHIPPED, FLOOR, EVEN = "activity and brightness (shipped)", "dropped", "split evenly"
COLUMNS = ("SI-SDR improvement", "wide-band PESQ", "SNR above the edge", "SI-SDR improvement above the edge")


def run(config: DictConfig) -> None:
    """Print the table of rules, and the differences of the shipped rule from an even split.

    Raises:
        SepnetError: ``config.speech_root`` is missing, or the model returns the whole band.
    """
    if config.speech_root is None:
        raise SepnetError("speech_root is missing: name a folder of <split>/<speaker>/<file> at 16 kHz")
    torch.set_num_threads(1)
    model = config.model or "pit-2spk-8k"
    separator = sepnet.load(model)
    model_rate = separator.info.sample_rate
    if model_rate is None or model_rate >= RATE:
        raise SepnetError(f"model={model} returns the whole band: name one that works below {RATE} Hz")
    edge_hz = model_rate / 2
    rows: dict[str, list[list[float]]] = {}
    for sources in draw_sources(Path(config.speech_root), config.split, config.n_separated):
        case = separate(separator, sources, model_rate)
        for name, estimates in rules(case, edge_hz):
            rows.setdefault(name, []).append(score(case, estimates, edge_hz))
    scores = {name: np.array(values) for name, values in rows.items()}
    print(
        f"{config.n_separated} mixtures of 2 speakers ({config.split}), {SECONDS} s, 0 to "
        f"{MAX_LEVEL_DIFFERENCE_DB:.0f} dB apart, seed {SEED}, {model}; in brackets: the difference from "
        f"{FLOOR}, 95 % interval"
    )
    print(table(scores))
    for column in range(len(COLUMNS)):
        gains = scores[SHIPPED][:, column] - scores[EVEN][:, column]
        print(f"{SHIPPED} less {EVEN}, {COLUMNS[column]}: {interval(gains)}")


@dataclass(frozen=True)
class Case:
    """A mixture (time,), its sources (source, time), and estimates in their order, without the upper band."""

    mixture: Tensor
    sources: Tensor
    estimates: Tensor


def draw_sources(root: Path, split: str, n_mixtures: int) -> Iterator[Tensor]:
    """Two sources (source, time) after the other, each a speaker's utterances in a row."""
    speakers = sorted(folder for folder in (root / split).iterdir() if folder.is_dir())
    n_samples, rng = round(SECONDS * RATE), np.random.default_rng(SEED)
    for _ in range(n_mixtures):
        pair = []
        for index in rng.choice(len(speakers), 2, replace=False):
            paths = sorted(speakers[index].iterdir())
            pieces = [read(paths[place], sample_rate=RATE)[0][0] for place in rng.permutation(len(paths))]
            signal = np.concatenate(pieces)[:n_samples]
            signal = np.pad(signal, (0, n_samples - len(signal)))
            pair.append(RMS * signal / np.sqrt(np.mean(signal**2)))
        louder_db = rng.uniform(0, MAX_LEVEL_DIFFERENCE_DB)
        gains = 10 ** (np.array([louder_db, -louder_db]) / 40)
        yield torch.from_numpy((gains[:, None] * np.stack(pair)).astype(np.float32))


def separate(separator: Separator, sources: Tensor, model_rate: int) -> Case:
    """The case of two sources."""
    mixture = sources.sum(dim=0)
    inside = Mixture(resample(mixture[None], RATE, model_rate), model_rate)
    estimates = resample(separator.separate(inside).sources, model_rate, RATE)[:, : len(mixture)]
    order = best_permutation(pairwise(si_sdr, estimates[None], sources[None]))
    return Case(mixture, sources, permute(estimates[None], order)[0])


def shares_by_power(exponent: float, first_quarter: int) -> ShareRule:
    """Shares by the power from a quarter of the band up, to an exponent; infinite: the loudest takes all."""

    def rule(powers: Tensor) -> Tensor:
        power = powers[:, first_quarter:].sum(dim=1)
        relative = ratio(power, power.amax(dim=0))
        weights = relative**exponent if exponent < math.inf else (relative == 1).double()
        return ratio(weights, weights.sum(dim=0))

    return rule


def equal_shares(powers: Tensor) -> Tensor:
    """As much for each estimate, and nothing for the remainder."""
    n_estimates = len(powers) - 1
    shares = powers.new_full((n_estimates + 1, powers.shape[-1]), 1 / n_estimates)
    shares[-1] = 0
    return shares


def shares_of_truth(sources: Tensor, edge_hz: float, hop_seconds: float) -> ShareRule:
    """The shares that the true sources have above the edge in each frame."""
    hop = round(hop_seconds * RATE)
    padded = torch.nn.functional.pad(above(sources, edge_hz), (hop, 2 * hop))
    frames = padded.unfold(-1, 2 * hop, hop) * torch.hann_window(2 * hop)  # (source, frame, time)
    power = torch.nn.functional.pad(frames.double().square().sum(dim=-1), (0, 0, 0, 1))  # and no remainder

    def rule(powers: Tensor) -> Tensor:
        return ratio(power, power.sum(dim=0))[:, : powers.shape[-1]]

    return rule


def above(signal: Tensor, edge_hz: float) -> Tensor:
    """(*batch, time), without what lies below the edge."""
    taps = torch.from_numpy(firwin(401, 1.05 * edge_hz, fs=RATE, pass_zero=False)).to(signal)
    flat = signal.reshape(-1, 1, signal.shape[-1])
    return torch.nn.functional.conv1d(flat, taps[None, None], padding=len(taps) // 2).reshape(signal.shape)


def rules(case: Case, edge_hz: float) -> Iterator[tuple[str, Tensor]]:
    """Each rule's name, and the estimates (source, time) that it makes."""

    def extend(rule: ShareRule, hop_seconds: float = 0.032) -> Tensor:
        return extend_to_full_band(
            case.estimates,
            case.mixture,
            sample_rate=RATE,
            edge_hz=edge_hz,
            rule=rule,
            hop_seconds=hop_seconds,
        )

    yield FLOOR, case.estimates
    yield EVEN, extend(equal_shares)
    yield "power of the whole band", extend(shares_by_power(1.0, 0))
    yield "power of the top octave", extend(shares_by_power(1.0, 2))
    yield "power of the top octave, exponent 0.5", extend(shares_by_power(0.5, 2))
    yield "power of the top octave, exponent 0.25", extend(shares_by_power(0.25, 2))
    yield "loudest in the top octave takes all", extend(shares_by_power(math.inf, 2))
    yield SHIPPED, extend(shares_by_brightness)
    for window_ms in (16, 32, 128):
        yield f"the same, windows of {window_ms} ms", extend(shares_by_brightness, window_ms / 2000)
    yield "true shares (ceiling)", extend(shares_of_truth(case.sources, edge_hz, 0.032))


def score(case: Case, estimates: Tensor, edge_hz: float) -> list[float]:
    """The columns, each a mean over the sources."""
    high, high_sources, high_mixture = (
        above(x, edge_hz) for x in (estimates, case.sources, case.mixture[None])
    )
    return [
        float(si_sdr_improvement(estimates, case.sources, case.mixture[None]).mean()),
        float(np.mean([pesq(*pair, RATE) for pair in zip(estimates, case.sources, strict=True)])),
        float(snr(high, high_sources).mean()),
        float(si_sdr_improvement(high, high_sources, high_mixture).mean()),
    ]


def table(scores: dict[str, NDArray[np.float64]]) -> str:
    """Means, and paired differences from dropping the band with their 95 % intervals."""
    lines = ["| rule | " + " | ".join(COLUMNS) + " |", "| --- |" + " --- |" * len(COLUMNS)]
    for name, values in scores.items():
        cells = []
        for column in range(len(COLUMNS)):
            cell = f"{np.nanmean(values[:, column]):.2f}"
            if name != FLOOR and column < 2:
                cell += f" ({interval(values[:, column] - scores[FLOOR][:, column])})"
            elif name == FLOOR and column == 3:
                cell = "-"  # the ratio of two traces of a filter's leakage
            cells.append(cell)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def interval(differences: NDArray[np.float64]) -> str:
    """The mean and its 95 % interval."""
    summary = summarise(differences)
    return f"{summary.mean:+.2f}, {summary.low:+.2f} to {summary.high:+.2f}"
