"""What of a separator goes into a file: its whole way from mixture to sources, as one module of tensors.

Each module here is a thin one around a separator's public parts. It is free of hints, of complex numbers and
of branches on what the samples are, so that it can be traced once and be right for any mixture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sepnet.dsp.consistency import make_consistent
from sepnet.dsp.features import unit_level
from sepnet.dsp.mel import to_linear, to_mel
from sepnet.query.query_mask import QueryMask, log_mels
from sepnet.separators.deep_clustering import DeepClustering
from sepnet.separators.mask_estimator.model import MaskEstimator

Estimates = Float[Tensor, "batch source time"]
Run = Callable[[Sequence[Tensor]], list[Tensor]]  # a graph, whoever runs it
TRACED_SAMPLES = 4001


def at_once(run: Run, inputs: Sequence[Tensor]) -> Tensor:
    """The sources of a graph that takes a whole clip."""
    return run(inputs)[0]


@dataclass(frozen=True)
class Graph:
    """A module to be traced, with all that is told of it in the file.

    examples: of its inputs, by name. dynamic: of each input the names of the axes that may have any length.
    outputs: names; the first are the sources, (batch, source, time). sources: a name for each.
    window_samples: of the transform. latency_seconds: None where it waits for the end of the clip.

    separate: the same by the separator itself, from a clip of each kind (time,) to (source, time), to compare
    with. drive: how such clips, (batch, time), are put through the graph. hop_samples, lag_samples: of a live
    step, what it takes at once, and how far its output lies behind.
    """

    module: nn.Module
    examples: Mapping[str, Tensor]
    dynamic: tuple[Mapping[int, str], ...]
    outputs: tuple[str, ...]
    sources: tuple[str, ...]
    sample_rate: int
    window_samples: int
    latency_seconds: float | None
    separate: Callable[..., Tensor]
    drive: Callable[[Run, Sequence[Tensor]], Tensor] = at_once
    hop_samples: int | None = None
    lag_samples: int | None = None


class MaskGraph(nn.Module):
    """A mask estimator with its level, for mixtures at the level at which they come."""

    def __init__(self, separator: MaskEstimator) -> None:
        super().__init__()
        self.separator = separator

    def forward(self, mixture: Float[Tensor, "batch time"]) -> Estimates:
        """All outputs of the network, brought back to the level of the mixture; of silence, silence."""
        whole = self.separator.level == "whole"
        signal, level = unit_level(mixture) if whole else (mixture, mixture.new_ones(1, 1))
        sources: Tensor = self.separator(signal).sources * level.unsqueeze(1)
        return audible(mixture, sources)


class HeadGraph(nn.Module):
    """The mask head of deep clustering, which gives as many sources as it was trained for."""

    def __init__(self, separator: DeepClustering) -> None:
        super().__init__()
        self.separator = separator

    def forward(self, mixture: Float[Tensor, "batch time"]) -> Estimates:
        """The sources of the head, without the clustering."""
        signal, level = unit_level(mixture)
        analysis = self.separator.filterbank.encode(signal)
        _, masks = self.separator(analysis)  # (batch, source, bin, frame)
        masked = masks.repeat(1, 1, 2, 1) * analysis.unsqueeze(1)  # (batch, source, channel, frame)
        sources = self.separator.filterbank.decode(masked, signal.shape[-1])
        return make_consistent(sources, signal) * level.unsqueeze(1)


class QueryGraph(nn.Module):
    """The query mask network: a mixture, and an example of what is wanted of it."""

    def __init__(self, separator: QueryMask) -> None:
        super().__init__()
        self.separator = separator

    def forward(
        self, mixture: Float[Tensor, "batch time"], query: Float[Tensor, "batch query_time"]
    ) -> Estimates:
        """What the query is an example of, and the rest of the mixture."""
        masking, stft = self.separator.masking, self.separator.masking.stft
        heard = self._powers(stft.encode(unit_level(query)[0]))
        there = torch.ones_like(heard[..., 0], dtype=torch.bool)  # (batch, frame)
        embedding = self.separator.encoder(log_mels(heard), there)
        signal, level = unit_level(mixture)
        analysis = stft.encode(signal)
        mask = self.separator(self._powers(analysis), embedding)  # (batch, frame, mel)
        masked = (
            to_linear(masking.effective_mask(mask), masking.shares).repeat(1, 2, 1) * analysis
        )  # (batch, channel, frame)
        target = stft.decode(masked, signal.shape[-1]) * level
        return torch.stack([target, mixture - target], dim=1)

    def _powers(self, analysis: Tensor) -> Tensor:
        """As MelMasking.powers, in real numbers."""
        real, imaginary = analysis.chunk(2, dim=1)
        return to_mel(real.square() + imaginary.square(), self.separator.masking.shares)


def audible(mixture: Float[Tensor, "batch time"], sources: Estimates) -> Estimates:
    """The sources; zeros where the whole mixture is, of which a mapping might make something."""
    sounds = mixture.abs().amax(dim=-1) > 0  # (batch,)
    return torch.where(sounds[:, None, None], sources, torch.zeros_like(sources))
