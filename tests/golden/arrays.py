"""What both makers of golden folders do: draw weights, and save what a network gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn


def draw_parameters(module: nn.Module) -> None:
    """Draw all parameters at random, also those that begin as constants."""
    for parameter in module.parameters():
        if parameter.numel() == 0:
            continue
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.2, 1.0)
        else:
            nn.init.normal_(parameter, std=0.5 / parameter[0].numel() ** 0.5)


def save_arrays(
    folder: Path,
    separate: Callable[[Tensor], Tensor],
    *,
    lengths: tuple[int, int] = (503, 1000),
    n_channels: int = 0,
) -> None:
    """Write golden.npz: two lengths, alone and as a batch, each with what the network gives.

    Args:
        folder: Where to.
        separate: Gives the sources (batch, source, time) of mixtures (batch, time).
        lengths: In samples, of the short and of the long mixture.
        n_channels: Channels, which then stand before time in mixtures and sources; 0: there is no such axis.
    """
    generator = torch.Generator().manual_seed(1)

    def draw(n_batch: int, time: int) -> Tensor:
        shape = (n_batch, n_channels, time) if n_channels else (n_batch, time)
        return 0.1 * torch.randn(*shape, generator=generator)

    short, long, batch = draw(1, lengths[0]), draw(1, lengths[1]), draw(2, lengths[0])
    with torch.no_grad():
        arrays = {
            f"{name}_{kind}": array.numpy()
            for name, signal in (("short", short), ("long", long), ("batch", batch))
            for kind, array in (("input", signal), ("output", separate(signal)))
        }
    np.savez_compressed(folder / "golden.npz", **arrays)
