"""Construction from a configuration, restricted to what may be trusted."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sepnet.settings import check_arguments
from sepnet.types import SepnetError

TRUSTED = ("sepnet", "torch.optim")
"""Packages whose classes and functions a user's own configuration may call."""
METHODS = (
    "sepnet.separators", "sepnet.query", "sepnet.networks", "sepnet.losses", "sepnet.metrics", "sepnet.dsp",
)  # fmt: skip
"""Packages that a stranger's configuration may call: these compute, and touch no file, process or network."""
HYDRA_KEYS = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")


def build(
    node: DictConfig | Mapping[str, Any], *, packages: Sequence[str] = TRUSTED, key: str | None = None
) -> Any:
    """Construct what a node of the configuration describes.

    Args:
        node: A mapping with a ``_target_`` and its arguments.
        packages: Those that may define a ``_target_``.
        key: The dotted name of the node, for messages; None: what it builds.

    Returns:
        The object.

    Raises:
        SepnetError: A ``_target_`` is in none of the packages, has no such argument, or refuses its value.
    """
    config = node if isinstance(node, DictConfig) else OmegaConf.create(dict(node))
    if "_target_" not in config:
        raise SepnetError(f"{key or 'the configuration'} has no _target_ to build: {shorten(config)}")
    key = key or str(config._target_).rpartition(".")[2]
    try:
        container = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise SepnetError(explain_omegaconf(error)) from error
    nodes = [(name, each, _find(each, packages, name)) for name, each in _described(container, key)]
    for name, described, target in nodes:
        _check_keywords(described, name)
        arguments = {argument: value for argument, value in described.items() if argument not in HYDRA_KEYS}
        checked = check_arguments(target, arguments, f"{name}.")
        described.update({name: str(value) for name, value in checked.items() if isinstance(value, Path)})
    try:
        return hydra.utils.instantiate(OmegaConf.create(container))
    except hydra.errors.InstantiationException as error:
        if isinstance(error.__cause__, SepnetError):
            raise error.__cause__ from error
        raise SepnetError(f"{key}: {config._target_}: {shorten(error.__cause__ or error)}") from error


def explain_omegaconf(error: OmegaConfBaseException) -> str:
    """Put an error of OmegaConf into a sentence, with the remedy for what is missing."""
    first_line = str(error).splitlines()[0]
    if match := re.search(r"Environment variable '(\w+)' not found", first_line):
        key = getattr(error, "full_key", None) or "the setting that it stands for"
        return (
            f"the environment variable {match[1]} is not set: run `export {match[1]}=/path/to/the/corpus`, "
            f"or set {key} (data/README.md says which corpus this is)"
        )
    if match := re.search(r"Missing mandatory value: ([\w.]+)", first_line):
        return f"{match[1]} has no value: give {match[1]}=..."
    return f"the settings can't be used: {first_line}"


def _described(node: Any, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping with a ``_target_`` in a container, with its dotted name."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield key, node
        for name, value in node.items():
            yield from _described(value, f"{key}.{name}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _described(value, f"{key}[{number}]")


def _find(node: Mapping[str, Any], packages: Sequence[str], key: str) -> Callable[..., Any]:
    """The target of a node. Raises SepnetError unless one of the packages defines it.

    The name alone does not tell: ``sepnet.artifact.provenance.subprocess.run`` begins with a trusted package.
    """
    target = str(node["_target_"])
    module_name, _, attribute = target.rpartition(".")
    refusal = SepnetError(
        f"{key}._target_ is {target!r}, which none of {', '.join(packages)} defines: refused"
    )
    if not _within(module_name, packages):
        raise refusal
    try:
        candidate: object = vars(importlib.import_module(module_name))[attribute]
    except (ImportError, KeyError) as error:
        raise SepnetError(f"{key}._target_ is {target!r}, which does not exist") from error
    if not isinstance(candidate, type | FunctionType) or not _within(candidate.__module__, packages):
        raise refusal
    return candidate


def _check_keywords(node: Mapping[str, Any], key: str) -> None:
    """Raise SepnetError for values of Hydra's own keywords that it would not understand."""
    for name in ("_partial_", "_recursive_"):
        if not isinstance(node.get(name, False), bool):
            raise SepnetError(f"{key}.{name} is {node[name]!r}: give true or false")
    for name in ("_args_", "_convert_"):
        if name in node:
            raise SepnetError(f"{key}.{name} can't be set: name each argument")


def _within(module_name: str, packages: Sequence[str]) -> bool:
    return any(module_name == package or module_name.startswith(f"{package}.") for package in packages)


def shorten(what: object) -> str:
    """A text or an error as one short line."""
    return " ".join(str(what).split())[:200]
