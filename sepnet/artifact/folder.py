"""Run folders: written by a training, read by everything else.

    config.yaml          the resolved configuration of the run
    model.safetensors    the weights
    metrics.json         what was reached, and when
    provenance.json      commit, versions, machine, data fingerprint
    README.md            the model card
    checkpoints/         to continue from; not needed to separate

``load`` reads config.yaml and model.safetensors alone. It builds nothing but what sepnet itself defines, and
reads tensors alone, so that a folder from a stranger cannot run code.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors.torch import load_file, save_file
from torch import nn
from yaml import YAMLError

from sepnet import atomic
from sepnet.artifact.build import METHODS, build, shorten
from sepnet.artifact.card import model_card
from sepnet.artifact.names import ModelSource, resolve, run_folder
from sepnet.artifact.paths import CARD, CONFIG, METRICS, PROVENANCE, WEIGHTS
from sepnet.artifact.provenance import surroundings
from sepnet.commands import command
from sepnet.types import Separator, SepnetError


def save(
    separator: nn.Module,
    folder: Path,
    *,
    config: DictConfig,
    metrics: Mapping[str, Any],
    data_fingerprint: str,
) -> None:
    """Write the run folder's files (not its checkpoints), each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    resolved = config.copy()
    OmegaConf.resolve(resolved)
    provenance = {"data_fingerprint": data_fingerprint, **surroundings()}
    atomic.write_text(folder / CONFIG, OmegaConf.to_yaml(resolved))
    atomic.write_text(folder / METRICS, json.dumps(dict(metrics), indent=2) + "\n")
    atomic.write_text(folder / PROVENANCE, json.dumps(provenance, indent=2) + "\n")
    atomic.write_text(folder / CARD, model_card(folder.name, separator, resolved, metrics, provenance))
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in separator.state_dict().items()}
    with atomic.replacing(folder / WEIGHTS) as temporary:
        try:
            save_file(weights, temporary)
        except safetensors.SafetensorError as error:  # which a full disk raises
            raise OSError(str(error)) from error


def load(name: str | Path, settings: Mapping[str, Any] | None = None) -> Separator:
    """Load a separator by its name.

    Args:
        name: A run folder (its best weights), a checkpoint in one, shipped weights, a file of conf/model, or
            owner/name on the Hugging Face hub.
        settings: Other settings than those in the file of conf/model, nested as there.

    Returns:
        The separator, ready to separate.

    Raises:
        SepnetError: There is nothing of the name; the model has to be trained first; weights are missing,
            damaged or of another architecture; it is a part of a separator, such as a tagger; or there are
            ``settings`` for a model that is trained.
    """
    source = resolve(name)
    if not source.is_trained:
        return _load_untrained(source, settings or {})
    if settings:
        raise SepnetError(f"{name} keeps the settings that it was trained with: leave out set={{...}}")
    model = load_trained(source.path)
    if not isinstance(model, Separator):
        raise SepnetError(
            f"{name} is a {type(model).__name__}, which separates nothing by itself: name it as a part of a "
            "separator that is built on it"
        )
    return model


def describe(name: str | Path, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The settings of what ``load`` returns, in plain containers. Raises SepnetError as ``load``."""
    source = resolve(name)
    node = read_config(source.folder).model if source.is_trained else _untrained(source, settings or {})
    container = OmegaConf.to_container(node)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def _untrained(source: ModelSource, settings: Mapping[str, Any]) -> DictConfig:
    """The node of a file of conf/model."""
    # Read as it stands: a model's file is a whole constructor call, with no defaults list to compose.
    node = OmegaConf.merge(_read_yaml(source.path), dict(settings))
    assert isinstance(node, DictConfig)  # merged from two
    return node


def _load_untrained(source: ModelSource, settings: Mapping[str, Any]) -> Separator:
    """A model of conf/model that has no weights, or none but those of its parts."""
    separator: Separator = build(_untrained(source, settings))
    if isinstance(separator, nn.Module) and (hasattr(separator, "loss") or hasattr(separator, "fit")):
        raise SepnetError(
            f"{source.name!r} has to be trained before it can separate: {command('train')} "
            f"model={source.name}, then name its run folder"
        )
    return separator


def load_trained(path: Path) -> object:
    """What a run folder describes, a separator or a part of one, with its best weights or a checkpoint's."""
    model: object = build(read_config(run_folder(path)).model, packages=METHODS)
    if not isinstance(model, nn.Module):
        return model
    weights = read_weights(path)
    _check_weights(path if path.suffix == ".ckpt" else path / WEIGHTS, weights, model.state_dict())
    model.load_state_dict(weights)
    return model.eval()


def read_weights(path: Path) -> Mapping[str, torch.Tensor]:
    """The tensors of a run folder, or of one of its checkpoints. Raises SepnetError if it can't read them."""
    is_checkpoint = path.suffix == ".ckpt"
    file = path if is_checkpoint else path / WEIGHTS
    if not file.is_file():
        raise SepnetError(f"{file} is not there: the run has not finished its first validation")
    try:
        return _checkpoint_weights(file) if is_checkpoint else load_file(file)
    except (safetensors.SafetensorError, OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise SepnetError(f"{file} can't be read ({shorten(error)}): copy it again, or train anew") from error


def read_config(folder: Path) -> DictConfig:
    """The resolved configuration of a run. Raises SepnetError for a file that holds none."""
    config = _read_yaml(folder / CONFIG)
    if not isinstance(config.get("model"), DictConfig):
        raise SepnetError(f"{folder / CONFIG} describes no model: name the folder of a run")
    return config


def _read_yaml(path: Path) -> DictConfig:
    try:
        config = OmegaConf.load(path)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise SepnetError(f"{path} can't be read ({shorten(error)}): copy it again") from error
    if not isinstance(config, DictConfig):
        raise SepnetError(f"{path} is a list, not a configuration: copy it again")
    return config


def _checkpoint_weights(path: Path) -> Mapping[str, torch.Tensor]:
    """The separator's weights in a training checkpoint; the averaged ones where they were averaged."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise SepnetError(f"{path} is no checkpoint of a training: it holds no state_dict")
    return {name.removeprefix("separator."): tensor for name, tensor in checkpoint["state_dict"].items()}


def _check_weights(
    path: Path, weights: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]
) -> None:
    """Raises SepnetError where weights are missing, unknown or of another shape."""
    missing, extra = wanted.keys() - weights.keys(), weights.keys() - wanted.keys()
    shapes = [
        f"{name} is {tuple(weights[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if missing or extra or shapes:
        parts = [f"{len(missing)} missing ({min(missing)})"] if missing else []
        parts += [f"{len(extra)} unknown ({min(extra)})"] if extra else []
        parts += [f"{len(shapes)} of another shape ({shapes[0]})"] if shapes else []
        raise SepnetError(
            f"{path} holds weights of another architecture than its configuration describes: "
            f"{', '.join(parts)} of {len(wanted)} tensors; use the {CONFIG} that it was trained with"
        )
