"""The input of the optimisation: one mixture, one mask to start from, and the aims of the optimisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from sepnet.query.mel_masking import MelMasking

Mask = Float[Tensor, "frame mel"]
EmbedWindows = Callable[[Float[Tensor, "window sample"]], Float[Tensor, "window embedding"]]
InOutScore = Callable[[Float[Tensor, " time"], Float[Tensor, " time"]], float]
"""From target and residual: by how much the target is more similar to the query than the residual is."""


@dataclass(frozen=True)
class OptimisationTask:
    """One mask to optimise.

    Attributes:
        mixture: (time,).
        start: The mask to start from, (frame, mel) in [0, 1].
        masking: The transform of the mask.
        reference: Mel powers (frame, mel) that the target should have; None: there is no such aim.
        reference_weights: Weight of each cell (frame, mel) in that aim; None: all are equal.
        embed: A frozen embedder of windows (window, sample) of the mixture's rate; None: no embeddings.
        query: Embedding of the sound to extract.
        negative: Embedding of a sound to leave in the residual.
        window_weights: Weight of each window that is embedded; None: the power of the mixture in it.
        in_out_score: The score that the guard compares.
    """

    mixture: Float[Tensor, " time"]
    start: Mask
    masking: MelMasking
    reference: Tensor | None = None
    reference_weights: Tensor | None = None
    embed: EmbedWindows | None = None
    query: Float[Tensor, " embedding"] | None = None
    negative: Float[Tensor, " embedding"] | None = None
    window_weights: Float[Tensor, " window"] | None = None
    in_out_score: InOutScore | None = None
