"""Music into stems, by a network of the package demucs (the extra ``sepnet[music]``; ``model=demucs``).

S. Rouard, F. Massa, A. Defossez, "Hybrid transformers for music source separation", ICASSP 2023; and the
networks before it, A. Defossez, "Hybrid spectrogram and waveform source separation", MDX workshop 2021.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sepnet.ranges import Fraction
from sepnet.separators.checks import require_rate
from sepnet.types import CannotSeparate, Mixture, Separation, SeparatorInfo

LEVEL_FLOOR = 1e-8  # added to the standard deviation that a song is divided by, as the package does
MIN_MEAN_LEVEL = 0.01  # of the mean of the channels, compared with the channels, to be the level of a song


class Demucs(nn.Module):
    """Gives the stems of stereo music; mono is given to the network as both of its channels.

    As the package's own ``Separator`` with ``shifts=0``: the song is brought to mean 0 and variance 1, and
    separated in segments that overlap. It departs from that where the channels cancel each other out in their
    mean, whose level the package takes for that of the song.

    Args:
        model: A network of the package, or a bag of several, with ``sources``, ``samplerate`` and two
            ``audio_channels``.
        overlap: Share of a segment that overlaps with the next.
    """

    def __init__(self, model: nn.Module, *, overlap: Fraction = 0.25) -> None:
        super().__init__()
        network: Any = model.eval()
        self.model, self.overlap = network, overlap
        self.labels: tuple[str, ...] = tuple(network.sources)
        self.sample_rate = int(network.samplerate)

    @property
    def info(self) -> SeparatorInfo:
        """Its stems, in their order."""
        return SeparatorInfo(n_sources=len(self.labels), sample_rate=self.sample_rate, labels=self.labels)

    @torch.no_grad()
    def separate(self, mixture: Mixture) -> Separation:
        """Separate one mixture.

        Raises:
            CannotSeparate: The mixture is at another sample rate, or has more than two channels.
        """
        require_rate(mixture, self.sample_rate, made="the network was")
        audio = mixture.audio
        if len(audio) > 2:
            raise CannotSeparate(
                f"Demucs separates mono and stereo, but the mixture has {len(audio)} channels: give one "
                "(channels=0) or their mean (channels=mean)"
            )
        if not audio.any():
            return Separation(audio.new_zeros(len(self.labels), audio.shape[1]), self.labels)
        return Separation(self.stems(audio.expand(2, -1))[:, 0].clone(), self.labels)

    def stems(self, song: Float[Tensor, "2 time"]) -> Float[Tensor, "source 2 time"]:
        """The stems of a stereo song."""
        from demucs.apply import apply_model

        mean_channel = song.mean(dim=0)
        mean = mean_channel.mean()
        level = (mean_channel - mean).square().sum().div(max(len(mean_channel) - 1, 1)).sqrt()
        level = level.maximum(MIN_MEAN_LEVEL * song.std(correction=0)) + LEVEL_FLOOR
        device = next(self.model.parameters()).device
        normalised = ((song - mean) / level).unsqueeze(0)
        stems = apply_model(self.model, normalised, shifts=0, overlap=self.overlap, device=device)[0]
        result: Tensor = stems.to(song) * level + mean
        return result
