"""Find the largest batch that fits into the memory of a GPU."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import nn

from sepnet.data.dataset import Collate, MixtureData
from sepnet.types import SepnetError, Trainable

MEMORY_SHARE = 0.8  # of the memory: validation clips are longer than training clips, and memory fragments


def largest_batch(
    separator: Trainable,
    data: MixtureData,
    *,
    device: torch.device,
    precision: Callable[[], AbstractContextManager[None]],
    min_size: int = 4,
    max_size: int = 1024,
) -> int:
    """Find the largest batch that fits, by doubling it until the GPU is full.

    Losses and gradients are computed, but no weights are changed.

    Args:
        separator: The model to train.
        data: The data; its first training mixtures are repeated to fill the batches.
        device: The GPU.
        precision: Makes the context in which a training step is computed.
        min_size: The smallest batch that is tried.
        max_size: The largest batch that is tried.

    Returns:
        ``min_size`` times a power of two; 1 / ``MEMORY_SHARE`` times as many mixtures fit as well.

    Raises:
        SepnetError: The device is a CPU, ``max_size`` is below ``min_size``, or not even ``min_size``
            mixtures fit.
    """
    if device.type == "cpu":
        raise SepnetError(
            "loader.batch_size=auto fills the memory of a GPU, but the run is on a CPU: give a number, "
            "such as 16"
        )
    assert isinstance(separator, nn.Module)
    previous_device = next(separator.parameters()).device
    separator.to(device)
    mixtures, collate = data.train(), Collate(data.sample_rate)
    largest, size = 0, min_size
    try:
        while size <= max_size:
            n_mixtures = round(size / MEMORY_SHARE)
            batch = collate([mixtures[0, index % min_size] for index in range(n_mixtures)]).to(device)
            with precision():
                loss = separator.loss(batch)["loss"]
            loss.backward()  # type: ignore[no-untyped-call]
            largest, size = size, 2 * size
    except torch.OutOfMemoryError:
        pass
    finally:
        separator.zero_grad(set_to_none=True)
        separator.to(previous_device)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    if max_size < min_size:
        raise SepnetError(
            f"an epoch of {data.epoch_size} mixtures has no batch of {min_size}: raise data.epoch_size"
        )
    if not largest:
        raise SepnetError(
            f"not even {min_size} mixtures of {data.mixing.seconds} s fit into the GPU: take a smaller "
            "model, or a smaller data.mixing.seconds"
        )
    return largest
