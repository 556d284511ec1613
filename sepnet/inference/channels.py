"""The channel stage: which channels of a recording are separated, and how each of them hears the sources."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import scipy
import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from sepnet.types import CannotSeparate, Mixture, Separator, SepnetError

Channels = Literal["each", "all", "mean"] | Annotated[int, Ge(0), Le(4096)]
"""``each``: every channel is separated, and each source has as many; ``all``: the separator hears all
channels, and gives the sources as channel 0 hears them; ``mean``: their mean is separated; a number: that
channel."""
NAMES = ("each", "all", "mean")


def check_channels(channels: Channels, n_channels: int) -> None:
    """Refuse a choice that a recording cannot serve.

    Raises:
        SepnetError: ``channels`` is no name and no channel of the recording.
    """
    is_number = isinstance(channels, int) and not isinstance(channels, bool)
    if channels in NAMES or (is_number and 0 <= int(channels) < n_channels):
        return
    raise SepnetError(
        f"channels={channels}, but the recording has {n_channels} channels: give each, mean, all, or a "
        f"number below {n_channels}"
    )


def select_channels(mixture: Mixture, channels: Channels) -> Mixture:
    """The mixture with the channels that are separated.

    Raises:
        SepnetError: It has no such channel.
    """
    check_channels(channels, len(mixture.audio))
    if channels in ("each", "all"):
        return mixture
    audio = mixture.audio
    one = audio.mean(dim=0, keepdim=True) if channels == "mean" else audio[int(channels) :][:1]
    return replace(mixture, audio=one)


def n_output_channels(channels: Channels, n_channels: int) -> int:
    """How many channels each source has."""
    return n_channels if channels == "each" else 1


def separate_images(
    separator: Separator, mixture: Mixture, n_channels: int
) -> tuple[Float[Tensor, "source channel time"], tuple[str, ...] | None]:
    """The sources as each of the first channels hears them.

    Each channel is put first in turn, and its estimates are matched with those of channel 0.

    Args:
        separator: What separates; its estimates are images at the first channel.
        mixture: All channels.
        n_channels: How many of them, from the first on, are to have images.

    Returns:
        The images, and the sources' labels.

    Raises:
        CannotSeparate: The separator cannot, or finds other numbers of sources in two channels.
    """
    separations = []
    for channel in range(n_channels):
        turned = torch.cat([mixture.audio[channel:], mixture.audio[:channel]]) if channel else mixture.audio
        separations.append(separator.separate(replace(mixture, audio=turned)))
    first = separations[0]
    images = [first.sources]
    for number, other in enumerate(separations[1:], start=2):
        if len(other.sources) != len(first.sources):
            raise CannotSeparate(
                f"there are {len(first.sources)} sources in channel 1, but {len(other.sources)} in channel "
                f"{number}: give their number (n_sources=2), or separate the mean (channels=mean)"
            )
        errors = (other.sources[:, None] - first.sources).square().mean(dim=-1)  # (other, first)
        # For each source of channel 1 the nearest estimate, none taken twice.
        order = scipy.optimize.linear_sum_assignment(errors.T.double().numpy())[1]
        images.append(other.sources if first.labels is not None else other.sources[order])
    return torch.stack(images, dim=1), first.labels
