"""The score of a part of a separator, such as a tagger, on a fold that it was not trained on."""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from sepnet import artifact
from sepnet.data.dataset import MixtureData
from sepnet.evaluation.shipping import FoldScore
from sepnet.training.task import validation_score
from sepnet.types import SepnetError


@torch.no_grad()
def fold_score(run: Path, fold: str) -> FoldScore:
    """Score a run on the validation clips of a fold of the corpus that it was trained on.

    Args:
        run: The run's folder.
        fold: A split of its corpus.

    Returns:
        The mean score, and the number of clips that have one.

    Raises:
        SepnetError: The run was trained on the fold.
    """
    config, part = artifact.read_config(run), artifact.load_trained(run)
    node = OmegaConf.merge(config.data, {"valid": {"split": fold}})
    assert isinstance(node, DictConfig)
    data: MixtureData = artifact.build(node)
    if fold in data.train_splits:
        raise SepnetError(f"{run} was trained on {fold}: name a run that was not")
    clips = data.valid()
    found = [validation_score(part, clips[index]) for index in range(len(clips))]
    scores = [score for score in found if score is not None]
    return FoldScore(run, float(torch.stack(scores).mean()), len(scores))
