"""The guard: whether an optimised mask replaces the one that the optimisation started from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from sepnet.query.optimisation.task import Mask, OptimisationTask


@dataclass(frozen=True)
class GuardDecision:
    """Whether an optimised mask is used, and the numbers that decided it.

    Attributes:
        accepted: Whether the optimised mask replaces the start.
        reason: One sentence.
        mean_change: Mean of |optimised mask - start|.
        score_before: In/out score of the start; NaN if it was not computed.
        score_after: In/out score of the optimised mask; NaN if it was not computed.
    """

    accepted: bool
    reason: str
    mean_change: float
    score_before: float = math.nan
    score_after: float = math.nan


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Conditions for an optimised mask.

    Attributes:
        enabled: If not, every mask with a finite loss is accepted.
        max_mean_change: Largest mean of |optimised mask - start|.
        min_score_gain: The in/out score has to rise by more than this.
    """

    enabled: bool
    max_mean_change: float
    min_score_gain: float

    @torch.no_grad()
    def decide(self, task: OptimisationTask, mask: Mask, losses: tuple[float, ...]) -> GuardDecision:
        """Decide about a mask.

        Args:
            task: The task; it has an ``in_out_score``, unless the guard is disabled.
            mask: The optimised mask, (frame, mel).
            losses: The loss before each step of the optimisation.

        Returns:
            The decision, with its reason.
        """
        change = (mask - task.start).abs().mean().item()
        if not math.isfinite(change + sum(losses)):
            return GuardDecision(False, f"the loss was not finite before step {len(losses)}", change)
        if not self.enabled:
            return GuardDecision(True, "accepted without a comparison: the guard is off", change)
        if change > self.max_mean_change:
            reason = (
                f"the mask differs from its start by {change:.3f} on average, more than "
                f"{self.max_mean_change:g}"
            )
            return GuardDecision(False, reason, change)
        assert task.in_out_score is not None  # checked by DGMO.optimise
        splits = [task.masking.split(task.mixture, candidate) for candidate in (task.start, mask)]
        before, after = (float(task.in_out_score(split.target, split.residual)) for split in splits)
        accepted = after - before > self.min_score_gain
        result = "rose" if accepted else "did not improve enough: it went"
        reason = f"the in/out score {result} from {before:.3f} to {after:.3f}"
        return GuardDecision(accepted, reason, change, before, after)
