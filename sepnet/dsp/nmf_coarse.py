"""A start of a factorisation on means of neighbouring frames, which cost a fraction of all frames.

All three divergences d are Bregman divergences. Of m frames x_n with the same model v, therefore,

    sum_n d(x_n | v) = m d(mean x | v) + what does not depend on v                                     (1)

So the factorisation of the means of each m frames is that of all frames with the activations held equal
within each m frames: its updates do not raise the original objective either, at 1 / m of the cost. The
windows of a spectrogram overlap, so neighbouring frames are alike and little is lost. The coarsest level
comes first: N. Gillis, F. Glineur, "A multilevel approach for nonnegative matrix factorization", Journal of
Computational and Applied Mathematics 236(7), 2012.

It is used for Itakura-Saito, where it saves up to half of the work. With Kullback-Leibler it as often ends in
a worse minimum as it saves work, and least squares need few iterations without.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d

from sepnet.dsp.nmf_guard import GuardedUpdates
from sepnet.dsp.nmf_updates import Problem

LEVELS = {8: 30, 4: 20, 2: 10}
"""The number of frames in a mean: the number of iterations."""
MIN_MEANS = 2  # for each component: of fewer, components would become single means


@torch.no_grad()
def start_coarsely(problem: Problem, solver: Callable[[Problem], GuardedUpdates]) -> None:
    """Improve the factors of a problem in place, on means of its frames; no objective rises.

    Args:
        problem: Not cut into parts. A level is left out where there are too few means for the components;
            where all spectra are fixed, frames do not depend on each other and nothing is done.
        solver: Makes the updates of a problem.
    """
    levels = [m for m in LEVELS if problem.n_frames >= MIN_MEANS * m * problem.n_components]
    if not levels or problem.n_fixed == problem.n_components:
        return
    W, H, before = problem.W.clone(), problem.H.clone(), problem.objective()
    for m in levels:
        coarse = Problem(
            _means(problem.X, m),
            problem.dictionary,
            _means(problem.H, m),
            problem.divergence,
            0.0,
            problem.n_fixed,
        )
        updates = solver(coarse)
        for _ in range(LEVELS[m]):
            updates.iterate()
        updates.settle()
        problem.W.copy_(coarse.W)
        repeated = coarse.activations.repeat_interleave(m, dim=2)[..., : problem.n_frames]
        problem.H.copy_(repeated.where(H > 0, 0.0))  # zeros stay zero
    has_risen = ~(problem.objective() <= before)[:, None, None]
    problem.W.copy_(torch.where(has_risen, W, problem.W))
    problem.H.copy_(torch.where(has_risen, H, problem.H))


def _means(rows: Tensor, m: int) -> Tensor:
    """Means of each m frames; of the rest, too."""
    return avg_pool1d(rows, m, ceil_mode=True, count_include_pad=False)
