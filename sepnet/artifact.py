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
import inspect
import json
import os
import pickle
import platform
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import hydra
import safetensors
import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors.torch import load_file, save_file
from torch import nn
from yaml import YAMLError

from sepnet import atomic, hub
from sepnet.commands import command
from sepnet.types import Separator, SepnetError

CONFIG, WEIGHTS, METRICS, PROVENANCE, CARD = (
    "config.yaml",
    "model.safetensors",
    "metrics.json",
    "provenance.json",
    "README.md",
)
PACKAGES = ("sepnet", "torch", "torchaudio", "lightning", "torchmetrics", "numpy", "pesq")
RUNS = Path("runs")
SHIPPED = Path(__file__).resolve().parent / "weights"  # run folders that come with the package
DEFAULT = "pit-2spk-8k"  # of those, what serves who names nothing
TRUSTED = ("sepnet", "torch.optim")  # what a configuration of one's own may build
METHODS = (
    "sepnet.separators",
    "sepnet.query",
    "sepnet.networks",
    "sepnet.losses",
    "sepnet.metrics",
    "sepnet.dsp",
)
"""What a stranger's may build: these compute, and touch no file, process or network."""
HYDRA_KEYS = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")


def config_folder() -> Path:
    """Where the YAML files lie: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def build(node: DictConfig | Mapping[str, Any], *, packages: Sequence[str] = TRUSTED) -> Any:
    """Construct what a node of the configuration describes.

    Raises SepnetError for a ``_target_`` that none of ``packages`` defines, and for arguments that it
    refuses, with the nearest name of a misspelt one.
    """
    config = node if isinstance(node, DictConfig) else OmegaConf.create(dict(node))
    if "_target_" not in config:
        raise SepnetError(f"this part of the configuration says nothing to build: {_short(config)}")
    try:
        container = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise SepnetError(explain_omegaconf(error)) from error
    for described, target in [(each, _find(each, packages)) for each in _described(container)]:
        _check_arguments(described, target)
    try:
        return hydra.utils.instantiate(config)
    except hydra.errors.InstantiationException as error:
        if isinstance(error.__cause__, SepnetError):
            raise error.__cause__ from error
        raise SepnetError(f"{config._target_}: {_short(error.__cause__ or error)}") from error


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
    atomic.write_text(folder / CARD, _card(folder.name, separator, resolved, metrics, provenance))
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in separator.state_dict().items()}
    with atomic.replacing(folder / WEIGHTS) as temporary:
        try:
            save_file(weights, temporary)
        except safetensors.SafetensorError as error:  # which a full disk raises
            raise OSError(str(error)) from error


def load(name_or_folder: str | Path, settings: Mapping[str, Any] | None = None) -> Separator:
    """A separator by the name of a file in conf/model or of shipped weights, from a run folder or the hub.

    Of a run folder the best weights; one of its checkpoints can be named instead. settings: in the place of
    those in the file of conf/model, nested as there. Raises SepnetError for
    an unknown name (the nearest is offered), a model that has to be trained first, weights that are
    missing, broken or of another architecture, a trained part of a separator, such as a tagger, and
    settings of what was trained.
    """
    folder, name = locate(name_or_folder), str(name_or_folder)
    if settings and not (config_folder() / "model" / f"{name}.yaml").is_file():
        raise SepnetError(f"{name} keeps the settings that it was trained with: leave out set={{...}}")
    if folder.suffix == ".ckpt" or (folder / CONFIG).is_file():
        model = load_trained(folder)
        if not isinstance(model, Separator):
            raise SepnetError(
                f"{name_or_folder} is a {type(model).__name__}, which separates nothing by itself: "
                "name it as a part of a separator that is built on it"
            )
        return model
    models = sorted(path.stem for path in (config_folder() / "model").glob("*.yaml"))
    if name in models:
        return _load_untrained(name, settings or {})
    if folder.is_dir():
        raise SepnetError(f"{folder} is no run folder: it has no {CONFIG}")
    known = [*shipped(), *models]
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
    raise SepnetError(f"no run folder and no model is called {name!r}: {hint}")


def shipped() -> list[str]:
    """The names of the separators whose weights come with the package."""
    return [name for name in _shipped() if separates(SHIPPED / name)]


def separates(folder: Path) -> bool:
    """Whether a run folder holds a separator: a part of one, such as a tagger, has a score of its own."""
    path = folder / METRICS
    try:
        return "score" not in json.loads(path.read_text()) if path.is_file() else True
    except ValueError as error:
        raise SepnetError(f"{path} can't be read ({_short(error)}): copy it again") from error


def locate(name_or_folder: str | Path) -> Path:
    """The folder of shipped weights or of a model on the hub by their names; any other path as it is.

    Raises SepnetError where owner/name is neither here nor to be had from the hub.
    """
    path = Path(name_or_folder)
    if path.exists():
        return path
    if str(path) in _shipped():
        return SHIPPED / path
    return hub.fetch(str(path)) if hub.could_be_named(str(path)) else path


def preferred(runs: Path = RUNS) -> Path:
    """What separates where nothing is named: the newest run, or where there is none the shipped default."""
    return newest_run(runs) if _runs(runs) else SHIPPED / DEFAULT


def newest_run(runs: Path = RUNS) -> Path:
    """The run folder of a separator with the newest weights. Raises SepnetError where there is none."""
    found = _runs(runs)
    if not found:
        raise SepnetError(f"no run with weights lies under {runs.resolve()}: train one, or name a folder")
    return found[-1]


def run_folder(path: str | Path) -> Path:
    """The run folder of a run folder or of a checkpoint in it. Raises SepnetError where there is none."""
    for folder in (Path(path), *Path(path).parents[:2]):
        if (folder / CONFIG).is_file():
            return folder
    raise SepnetError(f"{path} is no run folder, and no checkpoint in one: {CONFIG} is not there")


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
        raise SepnetError(f"{file} can't be read ({_short(error)}): copy it again, or train anew") from error


def read_config(folder: Path) -> DictConfig:
    """The resolved configuration of a run. Raises SepnetError for a file that holds none."""
    config = _read_yaml(folder / CONFIG)
    if not isinstance(config.get("model"), DictConfig):
        raise SepnetError(f"{folder / CONFIG} describes no model: name the folder of a run")
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


def _read_yaml(path: Path) -> DictConfig:
    try:
        config = OmegaConf.load(path)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise SepnetError(f"{path} can't be read ({_short(error)}): copy it again") from error
    if not isinstance(config, DictConfig):
        raise SepnetError(f"{path} is a list, not a configuration: copy it again")
    return config


def describe(name_or_folder: str | Path, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The settings of what ``load`` gives, as plain containers."""
    folder, name = locate(name_or_folder), str(name_or_folder)
    trained = folder.suffix == ".ckpt" or (folder / CONFIG).is_file()
    node = read_config(run_folder(folder)).model if trained else _untrained(name, settings or {})
    container = OmegaConf.to_container(node)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def _untrained(name: str, settings: Mapping[str, Any]) -> DictConfig:
    """The node of a file of conf/model."""
    node = OmegaConf.merge(_read_yaml(config_folder() / "model" / f"{name}.yaml"), dict(settings))
    assert isinstance(node, DictConfig)  # merged from two
    return node


def _load_untrained(name: str, settings: Mapping[str, Any]) -> Separator:
    """A model of conf/model that has no weights, or none but those of its parts."""
    # Read as it stands: a model's file is a whole constructor call, with no defaults list to compose.
    separator: Separator = build(_untrained(name, settings))
    if isinstance(separator, nn.Module) and (hasattr(separator, "loss") or hasattr(separator, "fit")):
        raise SepnetError(
            f"{name!r} has to be trained before it can separate: {command('train')} model={name}, "
            "then name its run folder"
        )
    return separator


def _shipped() -> list[str]:
    """The names of all weights that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{CONFIG}"))


def _runs(runs: Path) -> list[Path]:
    """The run folders of separators that have weights, the newest last."""
    found = sorted(runs.glob(f"*/{WEIGHTS}"), key=lambda path: path.stat().st_mtime)
    return [path.parent for path in found if separates(path.parent)]


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


def _described(node: Any) -> Iterator[dict[str, Any]]:
    """Every mapping with a ``_target_`` in a container."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for value in node.values():
            yield from _described(value)
    elif isinstance(node, list):
        for value in node:
            yield from _described(value)


def _find(node: Mapping[str, Any], packages: Sequence[str]) -> Callable[..., Any]:
    """The target of a node. Raises SepnetError unless one of the packages defines it.

    Looking at the name is not enough: ``sepnet.artifact.subprocess.run`` begins well, too.
    """
    target = str(node["_target_"])
    module_name, _, attribute = target.rpartition(".")
    refusal = SepnetError(
        f"the configuration wants to build {target!r}, which none of {', '.join(packages)} defines: refused"
    )
    if not _within(module_name, packages):
        raise refusal
    try:
        found: object = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise SepnetError(f"the configuration wants to build {target!r}, which does not exist") from error
    if not callable(found) or not _within(getattr(found, "__module__", ""), packages):
        raise refusal
    return found


def _check_arguments(node: Mapping[str, Any], target: Callable[..., Any]) -> None:
    """Raises SepnetError for an argument that the target doesn't have, with the nearest that it has."""
    parameters = inspect.signature(target).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in node:
        if name not in parameters and name not in HYDRA_KEYS:
            near = difflib.get_close_matches(str(name), parameters, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(parameters) or 'none'}"
            raise SepnetError(f"{node['_target_']} has no argument {name!r}: {hint}")


def _within(module_name: str, packages: Sequence[str]) -> bool:
    return any(module_name == package or module_name.startswith(f"{package}.") for package in packages)


def explain_omegaconf(error: OmegaConfBaseException) -> str:
    """Put an error of OmegaConf into a sentence, with the remedy for a missing environment variable."""
    first_line = str(error).splitlines()[0]
    if match := re.search(r"Environment variable '(\w+)' not found", first_line):
        key = getattr(error, "full_key", None) or "the setting that it stands for"
        return (
            f"the environment variable {match[1]} is not set: say `export {match[1]}=/path/to/the/corpus`, "
            f"or set {key} (data/README.md says which corpus this is)"
        )
    return f"the settings can't be used: {first_line}"


def _short(what: object) -> str:
    return " ".join(str(what).split())[:200]


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
    name: str,
    separator: nn.Module,
    config: DictConfig,
    metrics: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> str:
    """The model card: what it is, what it learnt from, what it reached."""
    parameters = sum(p.numel() for p in separator.parameters())
    figures = {k: f"{value:.4g}" if isinstance(value, float) else value for k, value in metrics.items()}
    reached = "\n".join(f"| {key} | {value} |" for key, value in figures.items())
    usage = (
        "It separates nothing by itself: a separator that is built on it names this folder."
        if "score" in metrics
        else f"Load it with `sepnet.load({name!r})` from the folder that holds this one, or separate with\n"
        "`sepnet separate mix.wav model=PATH`."
    )
    return (
        f"# {name}\n\n{type(separator).__name__}, {parameters / 1e6:.2f} M parameters, made with sepnet.\n\n"
        f"{usage}\n\n"
        "## Data\nTraining mixtures: recipe in config.yaml, fingerprint "
        f"`{provenance['data_fingerprint']}`.\n"
        "Weights carry the licences and the attribution of the corpus that they were trained on.\n\n"
        f"## Reached on the validation set\n| measure | value |\n| --- | --- |\n{reached}\n\n"
        f"## Made with\nsepnet commit {provenance['git_commit']}, "
        f"torch {provenance['packages'].get('torch')}, "
        f"{provenance['gpu'] or provenance['cpu']}, {provenance['threads']} threads, "
        f"{provenance['written']}.\n\n"
        f"## Configuration\n```yaml\n{OmegaConf.to_yaml(config.model)}```\n"
    )
