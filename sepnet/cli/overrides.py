"""Checks of the overrides of a command line, which Hydra would refuse at length, or not notice."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from sepnet.artifact import config_folder
from sepnet.settings import nearest
from sepnet.types import SepnetError


def check(
    config_name: str,
    overrides: list[str],
    *,
    sweep: bool = False,
    folder: Path | None = None,
    own: Path | None = None,
) -> None:
    """Check overrides that Hydra would refuse, or not notice, and explain what is wrong with them.

    Args:
        config_name: Of a file in ``folder``, without its suffix.
        overrides: Of the command line.
        sweep: Whether commas separate the values of several jobs.
        folder: As for ``run``.
        own: A folder with more options of the groups, as ``--config-dir`` names it.

    Raises:
        SepnetError: An override can't be used.
    """
    for override in overrides:
        if "=" not in override and not override.startswith("~"):
            raise SepnetError(f"{override[:80]!r} is no setting: write name=value")
    if "hydra/launcher=slurm" in overrides and shutil.which("srun") is None:
        raise SepnetError(
            "hydra/launcher=slurm wants a SLURM cluster, but there is no srun here: leave it out"
        )
    groups = _groups(config_name, folder, own)
    _check_choices(overrides, config_name, folder, groups)

    def compose(words: list[str]) -> DictConfig:
        return hydra.compose(config_name, overrides=[*search_path(folder, own), *words])

    with hydra.initialize_config_dir(str(folder or config_folder()), version_base="1.3"):
        try:
            for job in _jobs(overrides) if sweep else [overrides]:
                config = compose(job)
                settings = [word for word in job if key_of(word) not in groups]
                _check_added(config, settings)
                if settings:
                    chosen = [word for word in job if key_of(word) in groups]
                    _check_switches(config, settings, compose(chosen))
        except HydraException as error:
            raise SepnetError(_explain(error, compose, overrides, groups)) from error
        except yaml.MarkedYAMLError as error:
            raise SepnetError(f"{error.problem_mark}: {error.problem}".strip()) from error
        except (
            AssertionError,
            AttributeError,
            KeyError,
            OSError,
            TypeError,
            ValueError,
            RecursionError,
        ) as error:
            if isinstance(error, SepnetError):
                raise
            # Hydra's own, of words that its grammar takes and nothing in it expects.
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise SepnetError(f"the settings can't be used ({reason}): look at {_last(overrides)}") from error


def _last(overrides: list[str]) -> str:
    return repr(overrides[-1])[:80] if overrides else "the files in conf/"


def _jobs(overrides: list[str]) -> Iterator[list[str]]:
    """For a sweep, jobs in which each value of each override occurs."""
    values = []
    for override in OverridesParser.create().parse_overrides(overrides):
        if override.is_discrete_sweep():
            key = override.get_key_element()
            values.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            values.append([str(override.input_line)])
    first = [group[0] for group in values]
    yield first
    for place, group in enumerate(values):
        for value in group[1:]:
            yield [*first[:place], value, *first[place + 1 :]]


def _check_added(config: DictConfig, overrides: list[str]) -> None:
    """Raises SepnetError for an added key (``+name=value``) that nobody would look at.

    Those of a constructor call are left to the constructor, and those of the trainer to it.
    """
    for override in overrides:
        key = key_of(override)
        if not override.startswith("+") or key.startswith(("hydra.", "trainer.")):
            continue
        parent = key
        node: Any = None
        while not isinstance(node, DictConfig) and parent:
            parent = parent.rpartition(".")[0]
            node = OmegaConf.select(config, parent) if parent else config
        if "_target_" not in node:
            known = {f"{parent}.{name}".lstrip(".") for name in node} - {key}
            raise SepnetError(f"there is no setting {key[:80]!r}{nearest(key, known)}")


def _check_switches(config: DictConfig, overrides: list[str], before: DictConfig) -> None:
    """Raises SepnetError where what is true or false is given another value, which would count as true."""
    for override in overrides:
        key = key_of(override)
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(before, parent) if parent else before
        if isinstance(node, DictConfig) and name in set(node) and OmegaConf.is_interpolation(node, name):
            continue  # it may stand for an environment variable that is not set
        if isinstance(OmegaConf.select(before, key), bool) and not isinstance(
            OmegaConf.select(config, key), bool
        ):
            raise SepnetError(f"{override} is neither: say {key}=true or {key}=false")


def key_of(override: str) -> str:
    """The dotted name that an override sets."""
    return override.lstrip("+~").partition("=")[0]


def _explain(
    error: HydraException,
    compose: Callable[[list[str]], DictConfig],
    overrides: list[str],
    groups: dict[str, list[str]],
) -> str:
    """What is wrong with the overrides, in a sentence."""
    pairs = [(key_of(override), override.partition("=")[2]) for override in overrides]
    for key, value in pairs:
        options = groups.get(key, [])
        for option in value.split(","):
            if options and option not in (*options, "null"):
                return f"{key} has no option {option!r}{nearest(option, options)}"
    chosen = [f"{key}={value}" for key, value in pairs if key in groups and "," not in value]
    config = compose(chosen)
    known = {*_keys(OmegaConf.to_container(config, resolve=False)), *groups}
    for override, (key, _) in zip(overrides, pairs, strict=True):
        if key not in known and not override.startswith("+") and key.partition(".")[0] != "hydra":
            return f"there is no setting {key[:80]!r}{nearest(key, known)}"
    return f"the settings can't be used: {str(error).splitlines()[0]}"


def search_path(folder: Path | None, own: Path | None = None) -> list[str]:
    """The override by which Hydra also looks into ``own``, and into conf/ where ``folder`` is another one."""
    places = [*([] if folder is None else [config_folder()]), *([] if own is None else [own.absolute()])]
    return [f"hydra.searchpath={[f'file://{place}' for place in places]}"] if places else []


def _check_choices(
    overrides: list[str], config_name: str, folder: Path | None, groups: dict[str, list[str]]
) -> None:
    """Raise SepnetError where nothing is chosen from a group that something has to be chosen from."""
    needed = {name for entry in _defaults(config_name, folder) for name, chosen in entry.items() if chosen}
    for word in overrides:
        key, value = key_of(word), word.partition("=")[2]
        if key not in groups:
            continue
        options = groups[key]
        listed = ", ".join(options[:-1]) + f" or {options[-1]}"
        if key in needed and (value in ("null", "") or word.startswith("~")):
            raise SepnetError(f"{key} is null: give {listed}")
        if value.startswith(("[", "{")):
            raise SepnetError(f"{key} is {value[:80]}: give one of {listed}")


def _defaults(config_name: str, folder: Path | None) -> list[dict[str, Any]]:
    """The choices of the defaults list of a configuration."""
    entries = _content(config_name, folder).get("defaults", [])
    return [entry for entry in entries if isinstance(entry, dict)]


def _content(config_name: str, folder: Path | None) -> dict[str, Any]:
    """What the file of a configuration holds itself."""
    file = (folder or config_folder()) / f"{config_name}.yaml"
    if not file.is_file():
        raise SepnetError(
            f"there is no configuration {config_name} in {file.parent}: leave out --config-name"
        )
    content: dict[str, Any] = yaml.safe_load(file.read_text())
    return content


def _groups(config_name: str, folder: Path | None = None, own: Path | None = None) -> dict[str, list[str]]:
    """The groups that a configuration chooses from, with their options."""
    names = {name for entry in _defaults(config_name, folder) for name in entry} & _folders()
    places = [config_folder(), *([] if own is None else [own])]
    return {
        name: sorted(path.stem for place in places for path in (place / name).glob("*.yaml"))
        for name in names
    }


def _folders() -> set[str]:
    """The folders in conf, such as model and hydra/launcher."""
    root = config_folder()
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_dir()}


def clashes(key: str, config_name: str, folder: Path | None = None) -> bool:
    """Whether a plain setting has the name of a folder in conf: Hydra takes it for a choice from there."""
    return key in _folders() & set(_content(config_name, folder)) - set(_groups(config_name, folder))


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a container."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield f"{prefix}{name}"
            yield from _keys(value, f"{prefix}{name}.")
