"""A run folder explains itself, and loads safely.

    config.yaml          the resolved configuration of the run
    model.safetensors    the weights
    metrics.json         what was reached, and when
    provenance.json      commit, versions, machine, data fingerprint
    README.md            the model card
    checkpoints/         to go on from; not needed to separate

``load`` reads config.yaml and model.safetensors alone. It builds nothing but what sepnet itself
defines, and reads tensors alone, so a folder from a stranger can't run code.
"""

from __future__ import annotations

import difflib
import importlib
import json
import os
import pickle
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import hydra
import safetensors
import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file, save_file
from torch import nn

from sepnet.types import Separator, SepnetError

CONFIG, WEIGHTS, METRICS, PROVENANCE, CARD = (
    "config.yaml",
    "model.safetensors",
    "metrics.json",
    "provenance.json",
    "README.md",
)
PACKAGES = ("sepnet", "torch", "torchaudio", "lightning", "torchmetrics", "numpy", "pesq", "pystoi")
RUNS = Path("runs")


def config_folder() -> Path:
    """Where the YAML files lie: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def build(node: DictConfig | Mapping[str, Any]) -> Any:
    """Construct what a node of the configuration describes.

    Raises SepnetError for a ``_target_`` that sepnet (or torch.optim) does not define, and for arguments
    that it refuses, with the nearest name of a misspelt one.
    """
    config = node if isinstance(node, DictConfig) else OmegaConf.create(dict(node))
    for target in _targets(OmegaConf.to_container(config, resolve=True)):
        _check_target(target)
    try:
        return hydra.utils.instantiate(config)
    except hydra.errors.InstantiationException as error:
        if isinstance(error.__cause__, SepnetError):
            raise error.__cause__ from error
        raise SepnetError(f"{config.get('_target_', 'the configuration')}: {_reason(error)}") from error


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
    resolved = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    provenance = {"data_fingerprint": data_fingerprint, **surroundings()}
    _write(folder / CONFIG, OmegaConf.to_yaml(resolved))
    _write(folder / METRICS, json.dumps(dict(metrics), indent=2) + "\n")
    _write(folder / PROVENANCE, json.dumps(provenance, indent=2) + "\n")
    _write(folder / CARD, _card(folder.name, separator, resolved, metrics, provenance))
    draft = folder / f".{WEIGHTS}.draft"
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in separator.state_dict().items()}, draft)
    draft.replace(folder / WEIGHTS)


def load(name_or_folder: str | Path) -> Separator:
    """A separator by the name of a file in conf/model, from a run folder or one of its checkpoints.

    Raises SepnetError for an unknown name (the nearest is offered), a model that has to be trained
    first, and weights that are missing, broken or of another architecture.
    """
    folder = Path(name_or_folder)
    if folder.suffix == ".ckpt":
        return _load_weights(run_folder(folder), folder, _checkpoint_weights)
    if (folder / CONFIG).is_file():
        return _load_weights(folder, folder / WEIGHTS, load_file)
    if folder.is_dir():
        raise SepnetError(f"{folder} is no run folder: it has no {CONFIG}")
    name = str(name_or_folder)
    models = sorted(path.stem for path in (config_folder() / "model").glob("*.yaml"))
    if name not in models:
        near = difflib.get_close_matches(name, models, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(models)}"
        raise SepnetError(f"no run folder and no model is called {name!r}: {hint}")
    # Read as it stands: a model's file is a whole constructor call, with no defaults list to compose.
    separator: Separator = build(read_config(config_folder() / "model" / f"{name}.yaml"))
    if isinstance(separator, nn.Module):
        raise SepnetError(
            f"{name!r} has to be trained before it can separate: python scripts/train.py model={name}, "
            "then name its run folder"
        )
    return separator


def newest_run(runs: Path = RUNS) -> Path:
    """The run folder with the newest weights. Raises SepnetError where there is none."""
    found = sorted(runs.glob(f"*/{WEIGHTS}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise SepnetError(f"no run with weights lies under {runs.resolve()}: train one, or name a folder")
    return found[-1].parent


def run_folder(path: str | Path) -> Path:
    """The run folder of a run folder or of a checkpoint in it. Raises SepnetError where there is none."""
    for folder in (Path(path), *Path(path).parents[:2]):
        if (folder / CONFIG).is_file():
            return folder
    raise SepnetError(f"{path} is no run folder, and no checkpoint in one: {CONFIG} is not there")


def read_config(path: Path) -> DictConfig:
    """The resolved configuration of a run folder, or any YAML file."""
    config = OmegaConf.load(path / CONFIG if path.is_dir() else path)
    assert isinstance(config, DictConfig)
    return config


def surroundings() -> dict[str, Any]:
    """The software and the hardware of this moment."""
    cuda = torch.cuda.is_available()
    return {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": _commit(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if cuda else None,
    }


def _load_weights(folder: Path, path: Path, read: Callable[[Path], dict[str, torch.Tensor]]) -> Separator:
    """The separator that a run folder describes, with the weights of a file in it."""
    separator: Separator = build(read_config(folder).model)
    if not isinstance(separator, nn.Module):
        return separator
    if not path.is_file():
        raise SepnetError(f"{path} is not there: the run has not finished its first validation")
    try:
        weights = read(path)
    except (safetensors.SafetensorError, OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise SepnetError(f"{path} can't be read ({' '.join(str(error).split())[:200]}): copy it again, or train anew") from error
    _check_weights(path, weights, separator.state_dict())
    separator.load_state_dict(weights)
    return separator.eval()


def _checkpoint_weights(path: Path) -> dict[str, torch.Tensor]:
    """The separator's weights in a training checkpoint; the averaged ones where they were averaged."""
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return {name.removeprefix("separator."): tensor for name, tensor in state.items()}


def _check_weights(path: Path, weights: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> None:
    """Raises SepnetError where weights are missing, unknown or of another shape."""
    missing, extra = wanted.keys() - weights.keys(), weights.keys() - wanted.keys()
    shapes = [
        f"{name} is {tuple(weights[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if missing or extra or shapes:
        parts = [f"{len(names)} {what} ({min(names)})" for what, names in (("missing", missing), ("unknown", extra)) if names]
        parts += [f"{len(shapes)} of another shape ({shapes[0]})"] if shapes else []
        raise SepnetError(
            f"{path} holds weights of another architecture than its configuration describes: {', '.join(parts)} "
            f"of {len(wanted)} tensors; use the {CONFIG} that it was trained with"
        )


def _targets(node: Any) -> Iterator[str]:
    """Every ``_target_`` in a container."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield str(node["_target_"])
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)


def _check_target(target: str) -> None:
    """Raises SepnetError unless sepnet or torch.optim defines the target.

    Looking at the name is not enough: ``sepnet.artifact.subprocess.run`` begins well, too.
    """
    module_name, _, attribute = target.rpartition(".")
    if not (module_name.startswith("sepnet.") or module_name == "torch.optim"):
        raise SepnetError(f"the configuration wants to build {target!r}, which sepnet does not define: refused")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise SepnetError(f"the configuration wants to build {target!r}, which does not exist") from error
    if not getattr(found, "__module__", "").startswith(("sepnet.", "torch.optim")):
        raise SepnetError(f"the configuration wants to build {target!r}, which sepnet does not define: refused")


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error
    return " ".join(str(cause).split())


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text)
    draft.replace(path)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of sepnet's own checkout, with ``+changes`` if it was edited since; None if installed."""
    root = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        # An installed package can lie inside the repository of something else.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return None
        edited = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if edited else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def _card(
    name: str, separator: nn.Module, config: DictConfig, metrics: Mapping[str, Any], provenance: Mapping[str, Any]
) -> str:
    """The model card: what it is, what it learnt from, what it reached."""
    parameters = sum(p.numel() for p in separator.parameters())
    reached = "\n".join(f"| {key} | {value:.4g} |" if isinstance(value, float) else f"| {key} | {value} |" for key, value in metrics.items())
    return (
        f"# {name}\n\n{type(separator).__name__}, {parameters / 1e6:.2f} M parameters, made with sepnet.\n\n"
        f"Load it with `sepnet.load({name!r})` from the folder that holds this one, or separate with\n"
        f"`python scripts/separate.py model=PATH mix.wav`.\n\n"
        f"## Data\nTraining mixtures: fingerprint `{provenance['data_fingerprint']}`, recipe in config.yaml.\n"
        "Weights carry the licences and the attribution of the corpus that they were trained on.\n\n"
        f"## Reached on the validation set\n| measure | value |\n| --- | --- |\n{reached}\n\n"
        f"## Made with\nsepnet commit {provenance['git_commit']}, torch {provenance['packages'].get('torch')}, "
        f"{provenance['gpu'] or provenance['cpu']}, {provenance['threads']} threads, {provenance['written']}.\n\n"
        f"## Configuration\n```yaml\n{OmegaConf.to_yaml(config.model)}```\n"
    )
