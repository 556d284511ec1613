"""Construction from a configuration, restricted to what may be trusted."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sepnet.types import SepnetError

TRUSTED = ("sepnet", "torch.optim")
"""Packages whose classes and functions a user's own configuration may call."""
METHODS = (
    "sepnet.separators", "sepnet.query", "sepnet.networks", "sepnet.losses", "sepnet.metrics", "sepnet.dsp",
)  # fmt: skip
"""Packages that a stranger's configuration may call: these compute, and touch no file, process or network."""
HYDRA_KEYS = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")


def build(node: DictConfig | Mapping[str, Any], *, packages: Sequence[str] = TRUSTED) -> Any:
    """Construct what a node of the configuration describes.

    Raises SepnetError for a ``_target_`` that none of ``packages`` defines, and for arguments that it
    refuses, with the nearest name of a misspelt one.
    """
    config = node if isinstance(node, DictConfig) else OmegaConf.create(dict(node))
    if "_target_" not in config:
        raise SepnetError(f"this part of the configuration says nothing to build: {shorten(config)}")
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
        raise SepnetError(f"{config._target_}: {shorten(error.__cause__ or error)}") from error


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


def shorten(what: object) -> str:
    """A text or an error as one short line."""
    return " ".join(str(what).split())[:200]
