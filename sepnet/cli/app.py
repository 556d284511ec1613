"""What all command lines share: a Hydra configuration in, one clear sentence out where it can't be."""

from __future__ import annotations

import contextlib
import difflib
import errno
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import hydra
import torch
import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sepnet.artifact import config_folder, explain_omegaconf
from sepnet.cli.help import SUMMARIES, command_help
from sepnet.types import SepnetError

BAD_INPUT, INTERRUPTED = 2, 130
NOT_THERE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR)  # no place to write to


def run(main: Callable[[DictConfig], None], config_name: str, *, folder: Path | None = None) -> None:
    """Compose conf/<config_name>.yaml with the command line and call ``main``.

    Bad input ends the program with one sentence on standard error and the status 2, an unknown key with
    the nearest name; Ctrl-C with the status 130.

    Args:
        main: Gets the composed configuration.
        config_name: Of a file in ``folder``, without its suffix.
        folder: Where the file is, if not in conf/; the groups that it chooses from are those of conf/.
    """

    if sys.stdout is None:  # closed by the shell
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    if not {"-h", "--help"}.isdisjoint(sys.argv[1:]) and config_name in SUMMARIES:
        print(command_help(config_name))
        return
    arguments = get_args_parser().parse_args()
    name = arguments.config_name or config_name
    plain = [word for word in arguments.overrides if _clashes(_key(word), name, folder)]

    def guarded(config: DictConfig) -> None:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        with one_sentence():
            for word in plain:
                value = word.partition("=")[2]
                OmegaConf.update(config, _key(word), None if value == "null" else value)
            OmegaConf.set_struct(config, True)
            main(config)

    with one_sentence():
        overrides = [word for word in arguments.overrides if word not in plain]
        check(name, overrides, sweep=arguments.multirun, folder=folder)
    sys.argv[1:] = [*(word for word in sys.argv[1:] if word not in plain), *_search_path(folder)]
    hydra.main(config_path=str(folder or config_folder()), config_name=config_name, version_base="1.3")(
        guarded
    )()


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """End the program with one sentence for errors that whoever called it can mend."""
    try:
        yield
    except SepnetError as error:
        told = str(error)
        if "Original Traceback" in told:  # it comes from a worker process, with all that was on its stack
            told = told.rstrip().rpartition("SepnetError: ")[2]
    except OSError as error:
        # Writers below say no more than that not all could be written.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, *NOT_THERE):
            raise
        place = error.filename or "the disk"
        if error.errno == errno.ENAMETOOLONG:
            remedy = "give a shorter name"
        elif error.errno in NOT_THERE:
            remedy = "choose a place that you may write to"
        else:
            remedy = "make room and run it again"
        told = f"can't write to {place}: {error.strerror}; {remedy}"
    except torch.OutOfMemoryError as error:
        told = f"the GPU is full ({str(error).partition('.')[0]}): take a smaller loader.batch_size"
    except OmegaConfBaseException as error:
        told = explain_omegaconf(error)
    except KeyboardInterrupt:
        print("\nstopped; what was finished is kept", file=sys.stderr)
        sys.exit(INTERRUPTED)
    else:
        return
    print(f"error: {' '.join(told.split())}", file=sys.stderr)
    sys.exit(BAD_INPUT)


def require_all(config: DictConfig) -> None:
    """Raises SepnetError for settings that have to be given and are not."""
    if missing := sorted(OmegaConf.missing_keys(config)):
        raise SepnetError(f"{missing[0]} has no value: say {missing[0]}=...")


def check(config_name: str, overrides: list[str], *, sweep: bool = False, folder: Path | None = None) -> None:
    """Check overrides that Hydra would refuse, or not notice, and explain what is wrong with them.

    Args:
        config_name: Of a file in ``folder``, without its suffix.
        overrides: Of the command line.
        sweep: Whether commas separate the values of several jobs.
        folder: As for ``run``.

    Raises:
        SepnetError: An override can't be used.
    """
    for override in overrides:
        if "=" not in override and not override.startswith("~"):
            raise SepnetError(f"{override!r} is no setting: write name=value")
    if "hydra/launcher=slurm" in overrides and shutil.which("srun") is None:
        raise SepnetError(
            "hydra/launcher=slurm wants a SLURM cluster, but there is no srun here: leave it out"
        )
    groups = _groups(config_name, folder)

    def compose(words: list[str]) -> DictConfig:
        return hydra.compose(config_name, overrides=[*_search_path(folder), *words])

    with hydra.initialize_config_dir(str(folder or config_folder()), version_base="1.3"):
        try:
            for job in _jobs(overrides) if sweep else [overrides]:
                config = compose(job)
                settings = [word for word in job if _key(word) not in groups]
                _check_added(config, settings)
                if settings:
                    chosen = [word for word in job if _key(word) in groups]
                    _check_switches(config, settings, compose(chosen))
        except HydraException as error:
            raise SepnetError(_explain(error, compose, overrides, groups)) from error
        except yaml.MarkedYAMLError as error:
            raise SepnetError(f"{error.problem_mark}: {error.problem}".strip()) from error


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence that says that there is no ``name``: what may have been meant.

    Names may be dotted: one with the same last part comes first.
    """
    names = sorted(known)
    tails = {one.rpartition(".")[2]: one for one in names}
    tail = name.rpartition(".")[2]
    near = [tails[tail]] if tail in tails else difflib.get_close_matches(name, names, 1)
    near = near or [tails[one] for one in difflib.get_close_matches(tail, sorted(tails), 1)]
    if near:
        return f": did you mean {near[0]!r}?"
    return f": there are {', '.join(names)}" if len(names) <= 12 else ": see the files in conf/"


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
        key = _key(override)
        if not override.startswith("+") or key.startswith(("hydra.", "trainer.")):
            continue
        parent = key
        node: Any = None
        while not isinstance(node, DictConfig) and parent:
            parent = parent.rpartition(".")[0]
            node = OmegaConf.select(config, parent) if parent else config
        if "_target_" not in node:
            known = {f"{parent}.{name}".lstrip(".") for name in node} - {key}
            raise SepnetError(f"there is no setting {key!r}{nearest(key, known)}")


def _check_switches(config: DictConfig, overrides: list[str], before: DictConfig) -> None:
    """Raises SepnetError where what is true or false is given another value, which would count as true."""
    for override in overrides:
        key = _key(override)
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(before, parent) if parent else before
        if isinstance(node, DictConfig) and name in set(node) and OmegaConf.is_interpolation(node, name):
            continue  # it may stand for an environment variable that is not set
        if isinstance(OmegaConf.select(before, key), bool) and not isinstance(
            OmegaConf.select(config, key), bool
        ):
            raise SepnetError(f"{override} is neither: say {key}=true or {key}=false")


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _explain(
    error: HydraException,
    compose: Callable[[list[str]], DictConfig],
    overrides: list[str],
    groups: dict[str, list[str]],
) -> str:
    """What is wrong with the overrides, in a sentence."""
    pairs = [(_key(override), override.partition("=")[2]) for override in overrides]
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
            return f"there is no setting {key!r}{nearest(key, known)}"
    return f"the settings can't be used: {str(error).splitlines()[0]}"


def _search_path(folder: Path | None) -> list[str]:
    """The override by which Hydra also looks in conf/, for a configuration of another folder."""
    return [] if folder is None else [f"hydra.searchpath=['file://{config_folder()}']"]


def _groups(config_name: str, folder: Path | None = None) -> dict[str, list[str]]:
    """The groups that a configuration chooses from, with their options."""
    file = (folder or config_folder()) / f"{config_name}.yaml"
    defaults = yaml.safe_load(file.read_text()).get("defaults", [])
    names = {name for entry in defaults if isinstance(entry, dict) for name in entry}
    return {
        name: sorted(path.stem for path in (config_folder() / name).glob("*.yaml"))
        for name in names
        if (config_folder() / name).is_dir()
    }


def _clashes(key: str, config_name: str, folder: Path | None = None) -> bool:
    """Whether a plain setting has the name of a folder in conf: Hydra takes it for a choice from there."""
    ours = not key.startswith("hydra/")
    return ours and (config_folder() / key).is_dir() and key not in _groups(config_name, folder)


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a container."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield f"{prefix}{name}"
            yield from _keys(value, f"{prefix}{name}.")


def mapping(node: Any, name: str) -> dict[str, Any]:
    """The settings of a model that a command was given, as a dictionary.

    Raises:
        SepnetError: ``node`` is no mapping.
    """
    if not isinstance(node, DictConfig | None):
        raise SepnetError(f"{name}={node} names no setting: write {name}={{preset: selective}}")
    return {} if node is None else {str(key): value for key, value in node.items()}
