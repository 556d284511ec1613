"""The modules that are traced: the whole computation from mixture to sources, with tensors only.

Each is a thin module around the public parts of a separator. It has no hints, no complex numbers and no
branches that depend on the samples, so that a graph that is traced once is correct for any mixture.
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
Run = Callable[[Sequence[Tensor]], list[Tensor]]
"""A graph as a function of its inputs, whichever program runs it."""
TRACED_SAMPLES = 4001  # of the example that is traced


def run_once(run: Run, inputs: Sequence[Tensor]) -> Tensor:
    """Return the sources of a graph that takes whole clips."""
    return run(inputs)[0]


@dataclass(frozen=True)
class Graph:
    """A module to be traced, with the description that goes into the file.

    Attributes:
        module: The module.
        examples: An example of each input, by name.
        dynamic: For each input, the names of the axes that may have any length.
        outputs: Names of the outputs; the first is the sources, (batch, source, time).
        sources: A name for each source.
        sample_rate: In Hz.
        window_samples: The window of the transform.
        latency_seconds: The latency; None if the whole clip is needed.
        separate: The separator itself, for comparison: from a clip (time,) for each input to (source, time).
        apply: Runs the graph on clips (batch, time).
        hop_samples: The length of the input of a live step; None for other graphs.
        lag_samples: The number of samples by which the output of a live step lags behind its input; None for
            other graphs.
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
    apply: Callable[[Run, Sequence[Tensor]], Tensor] = run_once
    hop_samples: int | None = None
    lag_samples: int | None = None


class MaskGraph(nn.Module):
    """A mask estimator with its level normalisation, for mixtures of any level."""

    def __init__(self, separator: MaskEstimator) -> None:
        super().__init__()
        self.separator = separator

    def forward(self, mixture: Float[Tensor, "batch time"]) -> Estimates:
        """Separate into all outputs of the network, at the level of the mixture."""
        by_clip = self.separator.level == "whole"
        signal, level = mixture, mixture.new_ones(1, 1)
        if by_clip:
            signal, level = self.separator.to_input_level(mixture)
        sources = self.separator.at_level_of(signal) * level.unsqueeze(1)
        return silent_where_mixture_is(mixture, sources)


class HeadGraph(nn.Module):
    """The mask head of deep clustering, with the number of sources that it was trained for."""

    def __init__(self, separator: DeepClustering) -> None:
        super().__init__()
        self.separator = separator

    def forward(self, mixture: Float[Tensor, "batch time"]) -> Estimates:
        """Separate by the masks of the head, without clustering."""
        signal, level = unit_level(mixture)
        analysis = self.separator.filterbank.encode(signal)
        _, masks = self.separator(analysis)  # (batch, source, bin, frame)
        masked = masks.repeat(1, 1, 2, 1) * analysis.unsqueeze(1)  # (batch, source, channel, frame)
        sources = self.separator.filterbank.decode(masked, signal.shape[-1])
        return make_consistent(sources, signal) * level.unsqueeze(1)


class QueryGraph(nn.Module):
    """The query mask network, whose second input is an example of the sound to extract."""

    def __init__(self, separator: QueryMask) -> None:
        super().__init__()
        self.separator = separator

    def forward(
        self, mixture: Float[Tensor, "batch time"], query: Float[Tensor, "batch query_time"]
    ) -> Estimates:
        """Split the mixture into the sound of the query and the residual."""
        masking, stft = self.separator.masking, self.separator.masking.stft
        query_powers = self._powers(stft.encode(unit_level(query)[0]))
        is_valid = torch.ones_like(query_powers[..., 0], dtype=torch.bool)  # (batch, frame)
        embedding = self.separator.encoder(log_mels(query_powers), is_valid)
        signal, level = unit_level(mixture)
        analysis = stft.encode(signal)
        mask = self.separator(self._powers(analysis), embedding)  # (batch, frame, mel)
        masked = (
            to_linear(masking.effective_mask(mask), masking.shares).repeat(1, 2, 1) * analysis
        )  # (batch, channel, frame)
        target = stft.decode(masked, signal.shape[-1]) * level
        return torch.stack([target, mixture - target], dim=1)

    def _powers(self, analysis: Tensor) -> Tensor:
        """As ``MelMasking.mel_powers``, in real numbers."""
        real, imaginary = analysis.chunk(2, dim=1)
        return to_mel(real.square() + imaginary.square(), self.separator.masking.shares)


def silent_where_mixture_is(mixture: Float[Tensor, "batch time"], sources: Estimates) -> Estimates:
    """Set the sources of silent mixtures to zero, for networks that map silence to sound.

    Args:
        mixture: (batch, time).
        sources: (batch, source, time).

    Returns:
        (batch, source, time).
    """
    is_audible = mixture.abs().amax(dim=-1) > 0  # (batch,)
    return torch.where(is_audible[:, None, None], sources, torch.zeros_like(sources))
