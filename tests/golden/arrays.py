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
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.2, 1.0)
        else:
            nn.init.normal_(parameter, std=0.5 / parameter[0].numel() ** 0.5)


def save_arrays(folder: Path, separate: Callable[[Tensor], Tensor]) -> None:
    """Write golden.npz: two lengths, alone and as a batch, each with what the network gives.

    Args:
        folder: Where to.
        separate: Gives the sources (batch, source, time) of mixtures (batch, time).
    """
    generator = torch.Generator().manual_seed(1)
    short, long = (0.1 * torch.randn(1, time, generator=generator) for time in (1003, 2500))
    batch = 0.1 * torch.randn(3, 1003, generator=generator)
    with torch.no_grad():
        arrays = {
            f"{name}_{kind}": array.numpy()
            for name, signal in (("short", short), ("long", long), ("batch", batch))
            for kind, array in (("input", signal), ("output", separate(signal)))
        }
    np.savez_compressed(folder / "golden.npz", **arrays)
