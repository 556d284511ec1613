"""DGMO: a mask that starts somewhere is optimised for one mixture and one query, with nothing trained.

After "DGMO: training-free audio source separation through diffusion-guided mask optimization" (Lee, Han and
Seo, Interspeech 2025), which draws a mask's log-mel to a reference that a diffusion model makes of the query.
It departs from it: the reference is given, a frozen tagger may judge as well, and the mask is a mixture of
Gaussians, or any ``ParametersOf``. What the loss hears is

    H = mask_floor + (1 - mask_floor) M,                                                        (1)

since where a mask is 0 a log-mel has no gradient; what is returned is M. The guard looks at the signals that
come out: it keeps the start unless the in/out score got better and the mask stayed near.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.query.applying import MelMasking
from sepnet.query.descent import descend
from sepnet.query.objective import Hearing, Objective, Task
from sepnet.query.parameters import ParametersOf, gaussian_mixture
from sepnet.types import SepnetError

Mask = Float[Tensor, "frame mel"]


@dataclass(frozen=True)
class Verdict:
    """What the guard says. change: mean |optimised - start|; in/out scores, NaN where they were not asked."""

    taken: bool
    reason: str
    change: float
    score_before: float = math.nan
    score_after: float = math.nan


@dataclass(frozen=True)
class Optimised:
    """What came of it.

    mask: (frame, mel), the optimised one if taken, else the start; ``verdict`` says why, with the numbers.
    losses: the loss before each step; terms: each weighted term of it by name: they sum to the loss. Both end
    with a NaN where the descent broke off.
    """

    mask: Mask
    verdict: Verdict
    losses: tuple[float, ...]
    terms: Mapping[str, tuple[float, ...]]
    seconds: float

    @property
    def taken(self) -> bool:
        """Whether the mask is the optimised one."""
        return self.verdict.taken

    @property
    def reason(self) -> str:
        """Why it was taken, or was not."""
        return self.verdict.reason


class DGMO:
    """The optimiser: ``opt_steps`` of Adam at ``lr``, falling to zero where ``decay``.

    masking: how masks are applied. parameters: what the mask is a function of. lambda_*: the weights of the
    terms: distance of the log-mel to the reference, total variation, saturation, proximity to the start, the
    target's embedding towards the query's, the residual's away from it, the negative query. Those of the
    reference and of the embeddings count only where the task gives what they need.
    mask_floor: of (1). floor_db: of log-mels, under the loudest cell of the mixture.
    window_seconds, hop_seconds: of what the tagger hears; most_windows: so many of the largest weights.
    guard: needs the task's score; most_change: the largest mean change of the mask that it lets pass;
    least_gain: of the in/out score. Raises SepnetError for settings that make no sense.
    """

    def __init__(
        self,
        *,
        masking: MelMasking | None = None,
        parameters: ParametersOf = gaussian_mixture,
        opt_steps: int = 18,
        lr: float = 0.28,
        decay: bool = True,
        lambda_reference: float = 1.0,
        lambda_tv: float = 0.008,
        lambda_sat: float = 0.001,
        lambda_proximity: float = 1.0,
        lambda_target: float = 0.5,
        lambda_residual: float = 0.5,
        lambda_negative: float = 0.5,
        mask_floor: float = 0.08,
        floor_db: float = 60.0,
        window_seconds: float = 1.0,
        hop_seconds: float = 0.5,
        most_windows: int | None = 8,
        guard: bool = True,
        most_change: float = 0.15,
        least_gain: float = 0.0,
    ) -> None:
        if opt_steps < 0 or not lr > 0:
            raise SepnetError(f"opt_steps={opt_steps} and lr={lr}: no negative steps, and a positive rate")
        if not 0 <= mask_floor < 1:
            raise SepnetError(f"mask_floor={mask_floor}: it lies in [0, 1)")
        self.weights = {
            "reference": lambda_reference,
            "tv": lambda_tv,
            "sat": lambda_sat,
            "proximity": lambda_proximity,
            "target": lambda_target,
            "residual": lambda_residual,
            "negative": lambda_negative,
        }
        for name, weight in self.weights.items():
            if not weight >= 0:
                raise SepnetError(f"lambda_{name}={weight}: a term of the loss has no negative weight")
        self.masking, self.parameters = masking or MelMasking(), parameters
        self.opt_steps, self.lr, self.decay = opt_steps, lr, decay
        rate = self.masking.sample_rate
        length, hop = round(window_seconds * rate), round(hop_seconds * rate)
        if length < 1 or hop < 1 or (most_windows is not None and most_windows < 1):
            raise SepnetError(
                f"window_seconds={window_seconds}, hop_seconds={hop_seconds}, most_windows={most_windows}: "
                "the tagger hears at least one window of at least one sample"
            )
        self.hearing = Hearing(mask_floor, floor_db, length, hop, most_windows)
        self.guard, self.most_change, self.least_gain = guard, most_change, least_gain

    def optimise(self, task: Task) -> Optimised:
        """Optimise one mask. Raises SepnetError for shapes that don't fit, or a guard without a score."""
        if self.guard and task.score is None:
            raise SepnetError("the guard has no in/out score to go by: give the task one, or set guard=false")
        begin = time.perf_counter()
        with torch.inference_mode(False):
            objective = Objective(task, self.masking, self.hearing, self.weights)
            with torch.enable_grad():
                parameters = self.parameters(objective.start, objective.powers)
            losses = descend(parameters, objective, steps=self.opt_steps, lr=self.lr, decay=self.decay)
            with torch.no_grad():
                mask = parameters.render()
        verdict = self.judge(task, mask, losses)
        return Optimised(
            mask=mask if verdict.taken else task.start,
            verdict=verdict,
            losses=losses,
            terms={name: tuple(values) for name, values in objective.curves.items()},
            seconds=time.perf_counter() - begin,
        )

    @torch.no_grad()
    def judge(self, task: Task, mask: Mask, losses: tuple[float, ...]) -> Verdict:
        """The guard. Without it all is taken, but for a mask or loss that is not finite."""
        change = (mask - task.start).abs().mean().item()
        if not math.isfinite(change + sum(losses)):
            return Verdict(False, f"the loss was not finite before step {len(losses)}", change)
        if not self.guard:
            return Verdict(True, "taken unseen: the guard is off", change)
        if change > self.most_change:
            reason = f"the mask went {change:.3f} from its start on average, beyond {self.most_change:g}"
            return Verdict(False, reason, change)
        assert task.score is not None  # seen to by optimise
        parted = [self.masking.part(task.mixture, each) for each in (task.start, mask)]
        before, after = (float(task.score(part.target, part.residual)) for part in parted)
        taken = after - before > self.least_gain
        said = "the in/out score rose" if taken else "the in/out score did not improve enough: it went"
        reason = f"{said} from {before:.3f} to {after:.3f}"
        return Verdict(taken, reason, change, before, after)
