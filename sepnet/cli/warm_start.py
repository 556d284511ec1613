"""The configuration of a training that begins from existing weights."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from sepnet import artifact
from sepnet.cli.overrides import key_of

DEFAULT = "pit"  # the model of conf/train.yaml


def adopt_model(config: DictConfig, overrides: list[str], *, chosen: str | None = None) -> DictConfig:
    """Replace the default model of a configuration by the model of ``config.ckpt``.

    A model that ``model=...`` names is kept, and so is one that an experiment names, other than the default.
    ``model.x=...`` (``+model.x=...`` where the default model has no x) changes the adopted model.

    Args:
        config: The composed configuration.
        overrides: Those of the command line.
        chosen: The file of conf/model that the configuration was composed with.

    Returns:
        The configuration, or a copy with the other model.

    Raises:
        SepnetError: ``config.ckpt`` names no model.
    """
    if any(word.startswith("model=") for word in overrides) or chosen not in (None, DEFAULT):
        return config
    folder = artifact.resolve(config.ckpt).folder
    changes = OmegaConf.create()
    for key in (key_of(word) for word in overrides if not word.startswith("~")):
        if key.startswith("model."):
            OmegaConf.update(changes, key, OmegaConf.select(config, key))  # as Hydra has read it
    adopted = config.copy()
    OmegaConf.set_struct(adopted, False)
    adopted.model = OmegaConf.merge(artifact.read_config(folder).model, changes.get("model", {}))
    OmegaConf.set_struct(adopted, True)
    return adopted
