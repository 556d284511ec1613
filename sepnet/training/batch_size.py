"""How many mixtures fit into a GPU's memory at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import nn

from sepnet.data.dataset import Collate, MixtureData
from sepnet.types import SepnetError, Trainable

SHARE = 0.8  # of what fits: clips of the validation are longer, and memory fragments


def largest_batch(
    separator: Trainable,
    data: MixtureData,
    *,
    device: torch.device,
    precision: Callable[[], AbstractContextManager[None]],
    least: int = 4,
    most: int = 1024,
) -> int:
    """The power of two, times ``least``, that fits with room to spare, by taking steps that change nothing.

    Doubles the batch until the GPU is full. precision: the context that a step is computed in. Raises
    SepnetError where not even ``least`` fit, and on a CPU, whose memory has no such end.
    """
    if device.type == "cpu":
        raise SepnetError(
            "loader.batch_size=auto finds what fits into a GPU, and the run is on a CPU: take a number (16)"
        )
    assert isinstance(separator, nn.Module)
    home = next(separator.parameters()).device
    separator.to(device)
    mixtures, collate = data.train(), Collate(data.sample_rate)
    fits, size = 0, least
    try:
        while size <= most:
            wanted = round(size / SHARE)
            batch = collate([mixtures[0, number % least] for number in range(wanted)]).to(device)
            with precision():
                loss = separator.loss(batch)["loss"]
            loss.backward()  # type: ignore[no-untyped-call]
            fits, size = size, 2 * size
    except torch.OutOfMemoryError:
        pass
    finally:
        separator.zero_grad(set_to_none=True)
        separator.to(home)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    if most < least:
        raise SepnetError(
            f"an epoch of {data.epoch_size} mixtures has no batch of {least}: raise data.epoch_size"
        )
    if not fits:
        raise SepnetError(
            f"not even {least} mixtures of {data.mixing.seconds} s fit into the GPU: take a smaller model, "
            "or a smaller data.mixing.seconds"
        )
    return fits
