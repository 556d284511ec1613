"""Weights of a part of a separator, such as a tagger, go into the package with their score fold by fold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sepnet import artifact
from sepnet.data.dataset import MixtureData
from sepnet.training.task import validation_score
from sepnet.types import Scored, SepnetError

CARD = """---
library_name: sepnet
license: mit
tags: [audio]
---

# {name}

{kind}, {parameters:.2f} M parameters in half precision, made with sepnet. It separates nothing by itself: a
separator that is built on it opens it by this name.

## Learnt from

{data}

## How

`{recipe}`, which took {metrics[hours_of_audio]:.1f} hours of audio in {metrics[step]} steps, on
{made[cpu]} in {made[threads]} thread(s) (sepnet {made[git_commit]}, torch {made[packages][torch]}).
Nothing was chosen by a validation within the run: the weights are those of its end.

## What it reaches

Each fold is judged by a run that has not heard it; the weights here are those of `{run}`.

{table}

## Where it fails

{limits}

## Licence

{licence}

## Configuration

```yaml
{model}```
"""


def ship_part(folder: Path, described: DictConfig, *, most_bytes: int) -> None:
    """Copy the run folder of a part into the package, with a card that has its score for each fold.

    described: a file of conf/weights with ``folds``. Raises SepnetError for a run without weights, one of a
    separator, weights that are too large, and a fold that its run has learnt from.
    """
    run = Path(described.run)
    halves, config = halved(run, most_bytes), artifact.read_config(run)
    part = artifact.load_trained(run)
    if not isinstance(part, Scored) or not isinstance(part, nn.Module):
        raise SepnetError(f"{run} is a separator: ship it with an evaluation, not with folds")
    metrics = json.loads((run / artifact.METRICS).read_text())
    rows = {fold: (Path(which), *fold_score(Path(which), fold)) for fold, which in described.folds.items()}
    lines = [
        f"| {fold} | {score:.1%} | {count} | {which.name} |" for fold, (which, score, count) in rows.items()
    ]
    card = CARD.format(
        name=folder.name,
        kind=type(part).__name__,
        parameters=sum(p.numel() for p in part.parameters()) / 1e6,
        table="\n".join([f"| Fold | {part.score_name} | Clips | Run |", "|:--|--:|--:|:--|", *lines]),
        metrics=metrics,
        made=json.loads((run / artifact.PROVENANCE).read_text()),
        model=OmegaConf.to_yaml(config.model),
        run=run.name,
        **{key: described[key] for key in ("data", "limits", "licence", "recipe")},
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_file(halves, folder / artifact.WEIGHTS)
    OmegaConf.save(without_paths(config), folder / artifact.CONFIG)
    shutil.copyfile(run / artifact.PROVENANCE, folder / artifact.PROVENANCE)
    told = {**metrics, "folds": {fold: score for fold, (_, score, _) in rows.items()}}
    (folder / artifact.METRICS).write_text(json.dumps(told, indent=2) + "\n")
    (folder / artifact.CARD).write_text(card)


@torch.no_grad()
def fold_score(run: Path, fold: str) -> tuple[float, int]:
    """The mean score of a run on the validation clips of a fold, and their number.

    The corpus is that of the run itself. Raises SepnetError where the run has learnt from the fold.
    """
    config, part = artifact.read_config(run), artifact.load_trained(run)
    node = OmegaConf.merge(config.data, {"valid": {"split": fold}})
    assert isinstance(node, DictConfig)
    data: MixtureData = artifact.build(node)
    if fold in data.train_splits:
        raise SepnetError(f"{run} has learnt from {fold}: name a run that has not heard it")
    clips = data.valid()
    found = [validation_score(part, clips[index]) for index in range(len(clips))]
    scores = [score for score in found if score is not None]
    return float(torch.stack(scores).mean()), len(scores)


def halved(run: Path, most_bytes: int) -> dict[str, Tensor]:
    """The weights of a run in half precision. Raises SepnetError where there are none, or too many."""
    source = run / artifact.WEIGHTS
    if not source.is_file():
        raise SepnetError(f"there is no {source}: name the folder of a finished run")
    halves = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in load_file(source).items()
    }
    size = sum(tensor.nbytes for tensor in halves.values())
    if size > most_bytes:
        raise SepnetError(
            f"{source} is {size / 1e6:.1f} MB in half precision: at most {most_bytes / 1e6:g} MB ship"
        )
    return halves


def without_paths(config: DictConfig) -> DictConfig:
    """Without the places of the machine that it was made on: they are to be given anew."""

    def cleaned(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: cleaned(value) for key, value in node.items()}
        if isinstance(node, list):
            return [cleaned(value) for value in node]
        return "???" if isinstance(node, str) and Path(node).is_absolute() else node

    without: DictConfig = OmegaConf.create(cleaned(OmegaConf.to_container(config)))
    return without
