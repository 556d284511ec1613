"""Accuracy and speed of Gaussians fitted to ideal masks: python benchmarks/run.py what=gaussians data=esc10.

Each mixture is of two clips of different classes at the same power, from the training and validation splits.
The ideal mel mask of the first clip is its share of the mel powers; K Gaussians are fitted to it, each cell
weighted by the mixture's power. SI-SDR improvements measure how much of the ideal mask the fit retains.
Seconds are processor time on one thread, which other load on the machine does not change.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from omegaconf import DictConfig
from torch import Tensor

from sepnet import artifact
from sepnet.cli import app
from sepnet.data.dataset import MixtureData
from sepnet.data.librimix import DrawnList
from sepnet.dsp.masks import wiener_mask
from sepnet.metrics.sdr import si_sdr
from sepnet.query.mel_masking import MelMasking
from sepnet.query.optimisation.descent import MaskParameters
from sepnet.query.optimisation.dgmo import DGMO
from sepnet.query.optimisation.gaussians import Gaussians, render_dense
from sepnet.query.optimisation.mask_parameters import FreeForm, GaussianMixture, fit_mask, gaussian_mixture
from sepnet.query.optimisation.matching_pursuit import matching_pursuit
from sepnet.query.optimisation.task import OptimisationTask

COUNTS, STEPS, LR = (8, 32, 128), (0, 18, 150), 0.28
DENSE_STEPS = 5  # number of dense steps that are timed, and extrapolated to max(STEPS)


@dataclass(frozen=True)
class Case:
    """Mixture and target (time,), the target's ideal mask and the mixture's powers (frame, mel)."""

    mixture: Tensor
    target: Tensor
    mask: Tensor
    powers: Tensor


class Dense(GaussianMixture):
    """The same Gaussians, rendered as the formula says."""

    def render(self) -> Tensor:
        return render_dense(self.gaussians, self.n_frames, self.n_mels)


def run(config: DictConfig) -> None:
    """Print SI-SDR improvements of ideal masks and of fits to them, and the seconds for 10 s, on one core."""
    app.plain(config)
    torch.set_num_threads(1)
    data: MixtureData = artifact.build(config.data)
    masking = MelMasking(sample_rate=data.sample_rate)
    cases = [_case(mixture, references, masking) for mixture, references in _mixtures(data, config.n_fitted)]
    print(f"{len(cases)} mixtures of two at {data.sample_rate} Hz, {masking.n_mels} mel bands, one core")
    print(f"{'SI-SDR improvement, dB':31s}    mean  median")
    ideal = _print_gains("ideal mel mask", [_gain(case, case.mask, masking) for case in cases])
    _print_gains("ideal linear mask", [_linear(case, masking) for case in cases])
    _print_gains(
        "ideal, as free values", [_gain(case, FreeForm(case.mask).render(), masking) for case in cases]
    )
    for steps in STEPS[1:]:
        masks = [_fitted(case, FreeForm(torch.full_like(case.mask, 0.5)), steps) for case in cases]
        gains = [_gain(case, mask, masking) for case, mask in zip(cases, masks, strict=True)]
        _print_gains(f"free values, {steps} steps from 1/2", gains)
    for n_gaussians in COUNTS:
        starts = [matching_pursuit(case.mask, n_gaussians, case.powers) for case in cases]
        for steps in STEPS:
            masks = [
                _fitted(case, _gaussian_mixture(case, start), steps)
                for case, start in zip(cases, starts, strict=True)
            ]
            gains = [_gain(case, mask, masking) for case, mask in zip(cases, masks, strict=True)]
            _print_gains(f"K = {n_gaussians}, {steps} steps", gains, ideal)
    _speed(cases, masking, config.repetitions)


def _mixtures(data: MixtureData, n_mixtures: int) -> list[tuple[Tensor, Tensor]]:
    """Mixtures (time,) and their sources (source, time), equally many from each split but the test split."""
    manifest = data.corpus.manifest()
    assert isinstance(data.valid_list, DrawnList)
    splits = dict.fromkeys((*data.train_splits, data.valid_list.split))
    mixtures = []
    for split in splits:
        drawn = DrawnList(
            split=split,
            n_mixtures=-(-n_mixtures // len(splits)),
            labels=manifest.labels or None,
            equal_power=True,
        ).fixed_set(manifest, data.sample_rate)
        for index in range(len(drawn)):
            mixture = drawn[index]
            assert mixture.references is not None
            mixtures.append((mixture.audio[0], mixture.references))
    return mixtures[:n_mixtures]


def _case(mixture: Tensor, references: Tensor, masking: MelMasking) -> Case:
    powers = masking.mel_powers(references)  # (source, frame, mel)
    mask = powers[0] / powers.sum(dim=0).clamp_min(1e-20)
    return Case(mixture, references[0], mask, masking.mel_powers(mixture))


def _gaussian_mixture(case: Case, start: Gaussians) -> GaussianMixture:
    return GaussianMixture(start, n_frames=case.mask.shape[0], n_mels=case.mask.shape[1])


def _fitted(case: Case, parameters: MaskParameters, steps: int) -> Tensor:
    fit_mask(parameters, case.mask, case.powers, steps=steps, lr=LR)
    return parameters.render().detach()


def _gain(case: Case, mask: Tensor, masking: MelMasking) -> float:
    """SI-SDR of the target over that of the mixture, dB."""
    with torch.no_grad():
        estimate = masking.split(case.mixture, mask).target
    return (si_sdr(estimate, case.target) - si_sdr(case.mixture, case.target)).item()


def _linear(case: Case, masking: MelMasking) -> float:
    """As ``_gain``, for the ideal mask on the linear frequencies of the STFT."""
    others = case.mixture - case.target
    sources = masking.stft.spectrogram(torch.stack([case.target, others]))
    estimate = masking.stft.invert(wiener_mask(sources)[0] * sources.sum(dim=0), len(case.mixture))
    return (si_sdr(estimate, case.target) - si_sdr(case.mixture, case.target)).item()


def _print_gains(name: str, gains: list[float], ideal: float | None = None) -> float:
    mean = statistics.fmean(gains)
    share = f"  {100 * mean / ideal:3.0f} % of the ideal mel mask" if ideal else ""
    print(f"{name:31s} {mean:7.2f} {statistics.median(gains):7.2f}{share}", flush=True)
    return mean


def _speed(cases: list[Case], masking: MelMasking, repetitions: int) -> None:
    """Print the seconds for 10 s, two of the mixtures end to end; dense and sparse rendering alternate."""
    pair = cases[:2]
    mask, powers = (torch.cat([getattr(case, name) for case in pair]) for name in ("mask", "powers"))
    mixture = torch.cat([case.mixture for case in pair])
    n_frames = masking.stft.n_frames(len(mixture))  # one fewer than the two clips have together
    mask, powers = mask[:n_frames], powers[:n_frames]
    case = Case(mixture, mixture, mask, powers)
    max_steps = max(STEPS)
    print(
        f"\n{len(mixture) / masking.sample_rate:.1f} s, {mask.shape[0]} frames x {mask.shape[1]} mels, "
        f"medians of {repetitions}; dense: {max_steps} / {DENSE_STEPS} times {DENSE_STEPS} steps"
    )
    for n_gaussians in COUNTS:
        seconds: defaultdict[str, list[float]] = defaultdict(list)
        for _ in range(repetitions):
            seconds["pursuit"].append(_seconds(partial(matching_pursuit, mask, n_gaussians, powers)))
            start = matching_pursuit(mask, n_gaussians, powers)
            for steps in STEPS[1:]:
                fitted = _gaussian_mixture(case, start)
                seconds[f"{steps} steps"].append(_seconds(partial(_fitted, case, fitted, steps)))
            sparse = _gaussian_mixture(case, fitted.gaussians)
            dense = Dense(fitted.gaussians, n_frames=fitted.n_frames, n_mels=fitted.n_mels)
            for name, mixture_of_gaussians in (("sparse", sparse), ("dense", dense)):
                seconds[name].append(_seconds(partial(_fitted, case, mixture_of_gaussians, DENSE_STEPS)))
        median = {name: statistics.median(values) for name, values in seconds.items()}
        stages = ", ".join(f"{name} {median[name]:.2f} s" for name in list(median)[: len(STEPS)])
        print(
            f"K = {n_gaussians:3d}: {stages}; dense {max_steps / DENSE_STEPS * median['dense']:.1f} s, "
            f"{median['dense'] / median['sparse']:.1f} times as long"
        )
    task = OptimisationTask(mixture, mask, masking, reference=mask.square() * powers)
    dgmo = DGMO(guard=False, lr=LR, parameters=gaussian_mixture)
    seconds_taken = [_seconds(lambda: dgmo.optimise(task)) for _ in range(repetitions)]
    print(f"DGMO, 18 steps, K = {COUNTS[-1]}, no tagger, all in: {statistics.median(seconds_taken):.2f} s")


def _seconds(call: Callable[[], object]) -> float:
    begin = time.process_time()
    call()
    return time.process_time() - begin
