"""Build objects from a configuration, restricted to trusted packages."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType
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
"""Packages that a stranger's configuration may call: they compute, and use no file, process or network."""
HYDRA_KEYS = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")


def build(node: DictConfig | Mapping[str, Any], *, packages: Sequence[str] = TRUSTED) -> Any:
    """Construct the object that a node of the configuration describes.

    Args:
        node: A constructor call: ``_target_`` and its arguments, which may be such nodes, too.
        packages: The packages that may define a ``_target_``.

    Returns:
        The object.

    Raises:
        SepnetError: None of ``packages`` defines a ``_target_``, or an argument is refused or unknown (the
            message offers the nearest name).

    Example:
        >>> build({"_target_": "sepnet.separators.identity.Identity"}).info.n_sources
    """
    config = node if isinstance(node, DictConfig) else OmegaConf.create(dict(node))
    if "_target_" not in config:
        raise SepnetError(
            f"this part of the configuration has no _target_, so there is nothing to build: {shorten(config)}"
        )
    try:
        container = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise SepnetError(explain_omegaconf(error)) from error
    # All targets are looked up before the first argument is checked.
    for call, target in [(call, _find_target(call, packages)) for call in _constructor_calls(container)]:
        _check_arguments(call, target)
    try:
        return hydra.utils.instantiate(config)
    except hydra.errors.InstantiationException as error:
        if isinstance(error.__cause__, SepnetError):
            raise error.__cause__ from error
        raise SepnetError(f"{config._target_}: {shorten(error.__cause__ or error)}") from error


def explain_omegaconf(error: OmegaConfBaseException) -> str:
    """Put an error of OmegaConf into a sentence, with the remedy for a missing environment variable.

    Args:
        error: Raised while a configuration was composed or resolved.

    Returns:
        A message for the user.
    """
    first_line = str(error).splitlines()[0]
    if match := re.search(r"Environment variable '(\w+)' not found", first_line):
        key = error.full_key or "the setting that uses it"
        return (
            f"the environment variable {match[1]} is not set: run `export {match[1]}=/path/to/the/corpus`, "
            f"or set {key} (data/README.md says which corpus this is)"
        )
    return f"the settings can't be used: {first_line}"


def _constructor_calls(node: Any) -> Iterator[dict[str, Any]]:
    """Every mapping with a ``_target_`` in a container."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for value in node.values():
            yield from _constructor_calls(value)
    elif isinstance(node, list):
        for value in node:
            yield from _constructor_calls(value)


def _find_target(node: Mapping[str, Any], packages: Sequence[str]) -> Callable[..., Any]:
    """Find the target of a constructor call. Raises SepnetError unless one of the packages defines it.

    The name alone does not tell: ``sepnet.artifact.provenance.subprocess.run`` begins with a trusted package.
    """
    name = str(node["_target_"])
    module_name, _, attribute = name.rpartition(".")
    refusal = SepnetError(
        f"the configuration wants to build {name!r}, which none of {', '.join(packages)} defines: refused"
    )
    if not _within(module_name, packages):
        raise refusal
    try:
        target: object = vars(importlib.import_module(module_name))[attribute]
    except (ImportError, KeyError) as error:
        raise SepnetError(f"the configuration wants to build {name!r}, which does not exist") from error
    if not isinstance(target, type | FunctionType) or not _within(target.__module__, packages):
        raise refusal
    return target


def _check_arguments(node: Mapping[str, Any], target: Callable[..., Any]) -> None:
    """Raise SepnetError for an argument that the target lacks; the message offers the nearest name."""
    parameters = inspect.signature(target).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in node:
        if name not in parameters and name not in HYDRA_KEYS:
            nearest = difflib.get_close_matches(str(name), parameters, 1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"it has {', '.join(parameters) or 'none'}"
            raise SepnetError(f"{node['_target_']} has no argument {name!r}: {hint}")


def _within(module_name: str, packages: Sequence[str]) -> bool:
    return any(module_name == package or module_name.startswith(f"{package}.") for package in packages)


def shorten(message: object) -> str:
    """Put a text or an error on one line of at most 200 characters."""
    return " ".join(str(message).split())[:200]
