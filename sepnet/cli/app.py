"""What all command lines share: a Hydra configuration in, one clear sentence out where it can't be."""

from __future__ import annotations

import difflib
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from sepnet.artifact import config_folder
from sepnet.types import SepnetError

BAD_INPUT, INTERRUPTED = 2, 130


def run(main: Callable[[DictConfig], None], config_name: str) -> None:
    """Compose conf/<config_name>.yaml with the command line and call ``main``.

    Bad input ends the program with one sentence on standard error and the status 2, an unknown key with
    the nearest name; Ctrl-C with the status 130.
    """

    def guarded(config: DictConfig) -> None:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        try:
            OmegaConf.set_struct(config, True)
            main(config)
        except SepnetError as error:
            sys.exit(_say(error))
        except OSError as error:
            if error.errno != 28:  # ENOSPC
                raise
            sys.exit(_say(f"the disk is full ({error.filename or 'while writing'}): free some space and run it again"))
        except KeyboardInterrupt:
            print("\nstopped; what was finished is kept", file=sys.stderr)
            sys.exit(INTERRUPTED)

    overrides = [word for word in sys.argv[1:] if not word.startswith("-")]
    try:
        _check(config_name, overrides)
    except SepnetError as error:
        sys.exit(_say(error))
    hydra.main(config_path=str(config_folder()), config_name=config_name, version_base="1.3")(guarded)()


def _say(error: object) -> int:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return BAD_INPUT


def _check(config_name: str, overrides: list[str]) -> None:
    """Raises SepnetError for overrides that Hydra would refuse, in words that help."""
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        for override in overrides:
            if "=" not in override and not override.startswith("~"):
                raise SepnetError(f"{override!r} is no setting: write name=value")
        try:
            hydra.compose(config_name, overrides=overrides)
        except HydraException as error:
            known = {*_keys(OmegaConf.to_container(hydra.compose(config_name), resolve=False)), *_groups()}
            raise SepnetError(_explain(error, overrides, known)) from error


def _explain(error: HydraException, overrides: list[str], known: set[str]) -> str:
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        options = _groups().get(key)
        if options is not None and value and value not in options and value.partition("@")[0] not in options:
            near = difflib.get_close_matches(value, options, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(options)}"
            return f"{key} has no option {value!r}: {hint}"
        if key not in known and not override.startswith("+") and key.split(".")[0] != "hydra":
            tail = {name.rpartition(".")[2]: name for name in sorted(known)}
            near = difflib.get_close_matches(key, sorted(known), 1) or [
                tail[name] for name in difflib.get_close_matches(key.rpartition(".")[2], sorted(tail), 1)
            ]
            if not _exists(key, known):
                hint = f"did you mean {near[0]!r}?" if near else "see the files in conf/"
                return f"there is no setting {key!r}: {hint}"
    return f"the settings can't be used: {str(error).splitlines()[0]}"


def _exists(key: str, known: set[str]) -> bool:
    return any(name == key or name.startswith(f"{key}.") for name in known)


def _groups() -> dict[str, list[str]]:
    """The options of each configuration group."""
    return {
        folder.name: sorted(path.stem for path in folder.glob("*.yaml"))
        for folder in config_folder().iterdir()
        if folder.is_dir()
    }


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a container."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield f"{prefix}{name}"
            yield from _keys(value, f"{prefix}{name}.")
