"""Run folders: written by a training, read by all other commands.

    config.yaml          the resolved configuration of the run
    model.safetensors    the weights
    metrics.json         scores on the validation set, and at which step
    provenance.json      commit, versions, machine, data fingerprint
    README.md            the model card
    checkpoints/         the state of the training, to continue it; not needed to separate

``load`` reads only config.yaml and model.safetensors. It builds only what sepnet itself defines, and from the
weights it reads only tensors, so that a folder from a stranger cannot run code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import nn
from yaml import YAMLError

from sepnet import atomic
from sepnet.artifact.build import METHODS, build, shorten
from sepnet.artifact.card import model_card
from sepnet.artifact.formats.pickled import take_tensors
from sepnet.artifact.names import ModelSource, resolve, run_folder
from sepnet.artifact.provenance import describe_environment
from sepnet.commands import command
from sepnet.paths import CARD, CONFIG, METRICS, PROVENANCE, WEIGHTS
from sepnet.stored import unreadable
from sepnet.types import FittedSeparator, Separator, SepnetError, Trainable


def save(
    separator: nn.Module,
    folder: Path,
    *,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    data_fingerprint: str,
    name: str | None = None,
) -> None:
    """Write the files of a run folder except its checkpoints, each one whole or not at all.

    Args:
        separator: The trained module.
        folder: The run folder; it is made if it does not exist.
        config: The configuration of the run; interpolations are resolved.
        metrics: The scores and the step at which they were reached, in plain containers.
        data_fingerprint: Identifies the training mixtures.
        name: That of the run, for its card; None: the name of the folder.

    Raises:
        SepnetError: A file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    resolved = config.copy() if isinstance(config, DictConfig) else OmegaConf.create(dict(config))
    OmegaConf.resolve(resolved)
    provenance = {"data_fingerprint": data_fingerprint, **describe_environment()}
    atomic.write_text(folder / CONFIG, OmegaConf.to_yaml(resolved))
    atomic.write_text(folder / METRICS, json.dumps(dict(metrics), indent=2) + "\n")
    atomic.write_text(folder / PROVENANCE, json.dumps(provenance, indent=2) + "\n")
    atomic.write_text(
        folder / CARD, model_card(name or folder.name, separator, resolved, metrics, provenance)
    )
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in separator.state_dict().items()}
    write_weights(folder / WEIGHTS, weights)


def write_weights(path: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Write the file of the weights of a run folder, whole or not at all.

    Args:
        path: The file.
        weights: Contiguous tensors by name, on the CPU.

    Raises:
        SepnetError: The file cannot be written.
    """
    with atomic.replacing(path) as temporary:
        temporary.write_bytes(serialize(dict(weights)))  # save_file would make it readable to the owner alone


def load(name: str | Path | ModelSource, settings: Mapping[str, Any] | None = None) -> Separator:
    """Load a separator by its name.

    Args:
        name: A run folder (its best weights), a checkpoint in one, shipped weights, a file of conf/model, or
            owner/name on the Hugging Face hub; or what ``resolve`` returned for one of these.
        settings: Replace settings in the file of conf/model, nested as they are there.

    Returns:
        The separator, ready to separate.

    Raises:
        SepnetError: Nothing has this name; the model has to be trained first; weights are missing, damaged or
            of another architecture; the model is a part of a separator, such as a tagger; or ``settings`` are
            given for a trained model.

    Example:
        >>> load("pit-2spk-8k").info.sample_rate
        8000
    """
    source = name if isinstance(name, ModelSource) else resolve(name)
    if not source.is_trained:
        return _load_untrained(source, {} if settings is None else settings)
    if settings:
        raise SepnetError(f"{source.name} keeps the settings that it was trained with: leave out set={{...}}")
    model = load_trained(source.path)
    if not isinstance(model, Separator):
        raise SepnetError(
            f"{source.name} is a {type(model).__name__}, which separates nothing by itself: name a separator "
            "that uses it"
        )
    return model


def describe(name: str | Path | ModelSource, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read the settings of a model without loading it.

    Args:
        name: As for ``load``.
        settings: As for ``load``.

    Returns:
        The constructor call of the separator, as nested plain containers.

    Raises:
        SepnetError: Nothing has this name, or its settings cannot be read.
    """
    source = name if isinstance(name, ModelSource) else resolve(name)
    node = read_config(source.folder).model if source.is_trained else _untrained(source, settings or {})
    container = OmegaConf.to_container(node)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def _untrained(source: ModelSource, settings: Mapping[str, Any]) -> DictConfig:
    """The settings in a file of conf/model."""
    # Hydra is not needed: such a file is one complete constructor call, without a defaults list to compose.
    if not isinstance(settings, Mapping) or not all(isinstance(name, str) and name for name in settings):
        raise SepnetError(
            f"the settings of {source.name} are {settings!r:.80}: give a mapping of their names"
        )
    try:
        node = OmegaConf.merge(_read_yaml(source.path), dict(settings))
    except OmegaConfBaseException as error:
        raise SepnetError(f"the settings of {source.name} can't be used ({shorten(error)})") from error
    assert isinstance(node, DictConfig)
    return node


def _load_untrained(source: ModelSource, settings: Mapping[str, Any]) -> Separator:
    """Build a model of conf/model. Raises SepnetError for one that needs a training first."""
    separator: Separator = build(_untrained(source, settings), key=source.name)
    if isinstance(separator, nn.Module) and isinstance(separator, Trainable | FittedSeparator):
        raise SepnetError(
            f"{source.name!r} has to be trained before it can separate: {command('train')} "
            f"model={source.name}, then name its run folder"
        )
    return separator


def load_trained(path: Path) -> object:
    """Load what a training made: a separator, or a part of one such as a tagger.

    Args:
        path: A run folder, whose best weights are taken, or a checkpoint in one.

    Returns:
        The module in evaluation mode.

    Raises:
        SepnetError: The settings or the weights are missing or damaged, or do not belong together.
    """
    model: object = build(read_config(run_folder(path)).model, packages=METHODS)
    if not isinstance(model, nn.Module):
        return model
    weights = read_weights(path)
    _check_weights(path if path.suffix == ".ckpt" else path / WEIGHTS, weights, model.state_dict())
    model.load_state_dict(weights)
    return model.eval()


def read_weights(path: Path) -> Mapping[str, torch.Tensor]:
    """Read weights.

    Args:
        path: A run folder, whose best weights are taken, or a checkpoint in one.

    Returns:
        The tensors by their names in the separator.

    Raises:
        SepnetError: There are no weights yet, or they cannot be read.
    """
    is_checkpoint = path.suffix == ".ckpt"
    file = path if is_checkpoint else path / WEIGHTS
    if not file.is_file():
        raise SepnetError(f"{file} is not there: the run has not finished its first validation")
    try:
        if is_checkpoint:
            weights = read_checkpoint(file).weights
            return {name.removeprefix("separator."): tensor for name, tensor in weights.items()}
        return load_file(file)
    except (safetensors.SafetensorError, OSError) as error:
        raise unreadable(file, error) from error


@dataclass(frozen=True)
class Checkpoint:
    """What a training keeps to go on from.

    Attributes:
        weights: Those of the task, by their names; averaged where the training averages.
        n_steps: How many it has done.
    """

    weights: Mapping[str, torch.Tensor]
    n_steps: int


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of a training, without running code from it.

    Args:
        path: The file.

    Raises:
        SepnetError: It cannot be read, or is no checkpoint of a training.
    """
    try:
        found = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # any can come from a damaged pickle
        raise unreadable(path, f"{type(error).__name__}: {error}") from error
    content = found if isinstance(found, dict) else {}
    n_steps = content.get("global_step")
    if "state_dict" not in content or not isinstance(n_steps, int):
        raise SepnetError(f"{path} is no checkpoint of a training: it holds no state_dict and global_step")
    return Checkpoint(take_tensors(content["state_dict"], path), n_steps)


def read_config(folder: Path) -> DictConfig:
    """Read the configuration of a run.

    Args:
        folder: The run folder.

    Returns:
        The resolved configuration; its node ``model`` describes the separator.

    Raises:
        SepnetError: The file cannot be read, or does not describe a model.
    """
    config = _read_yaml(folder / CONFIG)
    if not isinstance(config.get("model"), DictConfig):
        raise SepnetError(f"{folder / CONFIG} describes no model: name the folder of a run")
    return config


def read_settings(folder: Path) -> dict[str, Any]:
    """The resolved configuration of a run in plain containers.

    Args:
        folder: A run folder.

    Raises:
        SepnetError: Its file holds no configuration.
    """
    try:
        container = OmegaConf.to_container(read_config(folder), resolve=True)
    except OmegaConfBaseException as error:
        raise unreadable(folder / CONFIG, error) from error
    assert isinstance(container, dict)
    return {str(name): value for name, value in container.items()}


def _read_yaml(path: Path) -> DictConfig:
    try:
        config = OmegaConf.load(path)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise unreadable(path, error) from error
    if not isinstance(config, DictConfig):
        raise SepnetError(f"{path} is a list, not a configuration: copy it again")
    return config


def _check_weights(
    path: Path, weights: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> None:
    """Raise SepnetError if weights are missing, unknown, of another shape, or not finite."""
    missing, extra = expected.keys() - weights.keys(), weights.keys() - expected.keys()
    shapes = [
        f"{name} is {tuple(weights[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if missing or extra or shapes:
        parts = [f"{len(missing)} missing ({min(missing)})"] if missing else []
        parts += [f"{len(extra)} unknown ({min(extra)})"] if extra else []
        parts += [f"{len(shapes)} of another shape ({shapes[0]})"] if shapes else []
        raise SepnetError(
            f"{path} holds weights of another architecture than its configuration describes: "
            f"{', '.join(parts)} of {len(expected)} tensors; use the {CONFIG} that it was trained with"
        )
    if broken := sorted(name for name, tensor in weights.items() if not bool(tensor.isfinite().all())):
        raise SepnetError(
            f"{path} holds values that are NaN or infinite in {len(broken)} of {len(weights)} tensors "
            f"({broken[0]}), so that it can separate nothing: take an earlier checkpoint, or train anew"
        )
