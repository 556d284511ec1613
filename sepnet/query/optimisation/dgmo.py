"""DGMO: a mask is optimised for one mixture and one query; nothing is trained.

After "DGMO: training-free audio source separation through diffusion-guided mask optimization" (Lee, Han and
Seo, Interspeech 2025), in which the log-mel powers under a mask approach a reference that a diffusion model
generates from the query. Differences: the reference is given, a frozen embedder may judge as well, and the
mask is a function of any ``ParameteriseMask``, such as a mixture of Gaussians. The loss sees

    R = mask_floor + (1 - mask_floor) M,                                                        (1)

because the log-mel powers have no gradient where a mask is 0; the result is M. The guard compares the
separated signals: it keeps the start unless the in/out score improved and the mask stayed near it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from sepnet.query.optimisation.descent import descend
from sepnet.query.optimisation.guard import Guard, GuardDecision
from sepnet.query.optimisation.mask_parameters import ParameteriseMask, free_form
from sepnet.query.optimisation.objective import LossConfig, Objective
from sepnet.query.optimisation.task import Mask, OptimisationTask
from sepnet.ranges import NonNegativeFloat, NonNegativeInt, PositiveFloat, Seconds
from sepnet.types import SepnetError


@dataclass(frozen=True)
class OptimisedMask:
    """The result of the optimisation.

    Attributes:
        mask: (frame, mel), the optimised mask where the guard accepted it, otherwise the start.
        decision: The decision of the guard, with its reason.
        losses: The loss before each step; the last one is NaN if the descent stopped early.
        terms: {name: weighted term of the loss before each step}; they sum to the loss.
        seconds: Duration of the optimisation.
    """

    mask: Mask
    decision: GuardDecision
    losses: tuple[float, ...]
    terms: Mapping[str, tuple[float, ...]]
    seconds: Seconds


@dataclass(frozen=True, kw_only=True)
class DGMO:
    """The optimiser: Adam on the parameters of a mask, then the guard.

    Attributes:
        parameters: The parameters of the mask: free values, or a mixture of Gaussians.
        opt_steps: Number of steps of Adam.
        lr: Learning rate.
        lr_decay: Whether it decreases linearly towards zero.
        lambda_reference: Weight of the log-mel distance to the reference, where the task has one.
        lambda_tv: Weight of the total variation.
        lambda_sat: Weight of the saturation, M (1 - M).
        lambda_proximity: Weight of the squared distance to the start.
        lambda_target: Weight of the dissimilarity of target and query, where the task has an embedder.
        lambda_residual: Weight of the similarity of residual and query, where the task has an embedder.
        lambda_negative: Weight of both for the negative query, with target and residual exchanged.
        mask_floor: The floor in equation (1).
        floor_db: Floor of log-mel powers, in dB below the loudest cell of the mixture.
        window_seconds: Length of the windows that are embedded.
        hop_seconds: Distance between their starts.
        max_windows: The number of windows that are embedded, those with the largest weights; None for all.
        guard: Whether the guard decides; the task then needs an in/out score.
        max_mean_change: Largest mean change of the mask that the guard accepts.
        min_score_gain: The in/out score has to rise by more than this.

    Raises:
        SepnetError: A setting is out of range.
    """

    parameters: ParameteriseMask = free_form
    opt_steps: NonNegativeInt = 18
    lr: PositiveFloat = 0.02
    lr_decay: bool = True
    lambda_reference: float = 1.0
    lambda_tv: NonNegativeFloat = 0.008
    lambda_sat: NonNegativeFloat = 0.001
    lambda_proximity: float = 1.0
    lambda_target: float = 0.5
    lambda_residual: float = 0.5
    lambda_negative: float = 0.5
    mask_floor: float = 0.08
    floor_db: float = 60.0
    window_seconds: Seconds = 1.0
    hop_seconds: Seconds = 0.5
    max_windows: int | None = 8
    guard: bool = True
    max_mean_change: float = 0.15
    min_score_gain: float = 0.0

    def __post_init__(self) -> None:
        if self.opt_steps < 0 or not self.lr > 0:
            raise SepnetError(
                f"opt_steps={self.opt_steps} must not be negative, and lr={self.lr} has to be positive"
            )
        if not 0 <= self.mask_floor < 1:
            raise SepnetError(f"mask_floor={self.mask_floor} has to be in [0, 1)")
        for name, weight in self._weights().items():
            if not weight >= 0:
                raise SepnetError(f"lambda_{name}={weight} must not be negative")
        if not min(self.window_seconds, self.hop_seconds) > 0 or (
            self.max_windows is not None and self.max_windows < 1
        ):
            raise SepnetError(
                f"window_seconds={self.window_seconds} and hop_seconds={self.hop_seconds} have to be "
                f"positive, and max_windows={self.max_windows} 1 or more"
            )

    def optimise(self, task: OptimisationTask) -> OptimisedMask:
        """Optimise one mask.

        Args:
            task: The mixture, the mask to start from, and the aims.

        Returns:
            The mask, and how the optimisation went.

        Raises:
            SepnetError: Shapes do not fit together, or the guard is on and the task has no in/out score.
        """
        if self.guard and task.in_out_score is None:
            raise SepnetError("the guard needs an in/out score: give the task one, or set guard=false")
        begin = time.perf_counter()
        with torch.inference_mode(False):
            objective = Objective(task, self._loss_config(task.masking.sample_rate))
            with torch.enable_grad():
                parameters = self.parameters(objective.start, objective.powers)
            losses = descend(parameters, objective, steps=self.opt_steps, lr=self.lr, lr_decay=self.lr_decay)
            with torch.no_grad():
                mask = parameters.render()
        guard = Guard(
            enabled=self.guard, max_mean_change=self.max_mean_change, min_score_gain=self.min_score_gain
        )
        decision = guard.decide(task, mask, losses)
        return OptimisedMask(
            mask=mask if decision.accepted else task.start,
            decision=decision,
            losses=losses,
            terms={name: tuple(values) for name, values in objective.curves.items()},
            seconds=time.perf_counter() - begin,
        )

    def _weights(self) -> dict[str, float]:
        return {
            "reference": self.lambda_reference,
            "tv": self.lambda_tv,
            "sat": self.lambda_sat,
            "proximity": self.lambda_proximity,
            "target": self.lambda_target,
            "residual": self.lambda_residual,
            "negative": self.lambda_negative,
        }

    def _loss_config(self, sample_rate: int) -> LossConfig:
        return LossConfig(
            weights=self._weights(),
            mask_floor=self.mask_floor,
            floor_db=self.floor_db,
            window_samples=max(1, round(self.window_seconds * sample_rate)),
            hop_samples=max(1, round(self.hop_seconds * sample_rate)),
            max_windows=self.max_windows,
        )
