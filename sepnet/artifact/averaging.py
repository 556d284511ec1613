"""The average of several trainings of one model, often better than each: a model soup.

M. Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy without
increasing inference time", ICML 2022. It needs runs that began from common weights, such as one that begins
where the other ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sepnet.artifact.folder import load_trained, read_settings, save
from sepnet.artifact.names import ModelSource, resolve, run_folder
from sepnet.types import SepnetError


def average(
    shares: Mapping[str | Path, float], target: str | Path, metrics: Mapping[str, Any] | None = None
) -> Path:
    """Write a run folder whose weights are the weighted mean of those of several runs.

    Args:
        shares: {run folder, or checkpoint in one: its share}; the shares sum to 1. The settings are those of
            the last.
        target: The folder to write, as training would.
        metrics: What is known of the average, as training writes it for a run.

    Returns:
        ``target``.

    Raises:
        SepnetError: The shares don't sum to 1, or a model has other weights than the last.

    Example:
        >>> average({"runs/first": 0.4, "runs/second/checkpoints/last.ckpt": 0.6}, "runs/both")
    """
    if not shares or abs(sum(shares.values()) - 1) > 1e-6:
        raise SepnetError(f"the shares sum to {sum(shares.values()):g}: give shares that sum to 1")
    sources = {resolve(name): share for name, share in shares.items()}
    models = {source: load_trained(source.path) for source in sources}
    *_, (last, model) = models.items()
    assert isinstance(model, nn.Module)
    weights = _weights(model)
    for source, other in models.items():
        found = {name: tensor.shape for name, tensor in _weights(other).items()}
        if found != {name: tensor.shape for name, tensor in weights.items()}:
            raise SepnetError(f"{source.name} has other weights than {last.name}: average runs of one model")
    averaged = {
        name: sum(share * _weights(models[source])[name].double() for source, share in sources.items())
        if tensor.is_floating_point()
        else tensor
        for name, tensor in weights.items()
    }
    model.load_state_dict(
        {name: torch.as_tensor(value).to(weights[name]) for name, value in averaged.items()}
    )
    folder = Path(target)
    provenance = last.provenance()
    save(
        model,
        folder,
        config=read_settings(run_folder(last.path)),
        metrics={**(metrics or {}), "shares": {_shown(source): share for source, share in sources.items()}},
        data_fingerprint=str(provenance.get("data_fingerprint", "")),
    )
    return folder


def _weights(model: Any) -> dict[str, torch.Tensor]:
    return dict(model.state_dict())


def _shown(source: ModelSource) -> str:
    return source.path.name if source.path.suffix != ".ckpt" else f"{source.folder.name}, {source.path.name}"
