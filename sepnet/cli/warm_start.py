"""The configuration of a training that begins from existing weights."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from sepnet import artifact
from sepnet.cli.overrides import key_of

DEFAULT = "pit"  # the model of conf/train.yaml


def adopt_model(config: DictConfig, overrides: list[str], *, chosen: str | None = None) -> DictConfig:
    """Replace the default model of a configuration by the model of ``config.ckpt``.

    A training that goes on in a named run takes the model of that run. A model that ``model=...`` names is
    kept, and so is one that an experiment names, other than the default. ``model.x=...`` changes the adopted
    model, and so does an experiment by each setting that is not the default model's.

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
    source = config.resume if isinstance(config.resume, str) else config.ckpt
    model = artifact.read_config(artifact.resolve(source).folder).model
    default = OmegaConf.load(artifact.config_folder() / "model" / f"{DEFAULT}.yaml")
    adopted = config.copy()
    OmegaConf.set_struct(adopted, False)
    adopted.model = _changed(*(OmegaConf.to_container(node) for node in (model, default, config.model)))
    for key in (key_of(word) for word in overrides if not word.startswith("~")):
        if key.startswith("model."):  # also where its value is the default one
            OmegaConf.update(adopted, key, OmegaConf.select(config, key))
    OmegaConf.set_struct(adopted, True)
    return adopted


def _changed(model: Any, default: Any, chosen: Any) -> Any:
    """Settings with the changes by which others differ from the default, mapping by mapping."""
    if not all(isinstance(node, dict) for node in (model, default, chosen)):
        return model if chosen == default else chosen
    kept = {name: value for name, value in model.items() if name in chosen or name not in default}
    return kept | {
        name: _changed(model.get(name), default.get(name), value)
        for name, value in chosen.items()
        if name not in default or default[name] != value
    }
