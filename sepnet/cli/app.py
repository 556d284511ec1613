"""What all command lines share: a Hydra configuration in, one clear sentence out where it can't be used."""

from __future__ import annotations

import argparse
import contextlib
import errno
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import hydra
import torch
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sepnet import settings
from sepnet.artifact import config_folder, explain_omegaconf
from sepnet.cli.help import ASKS_FOR_HELP, SUMMARIES, command_help
from sepnet.cli.overrides import check, clashes, key_of, search_path
from sepnet.cli.quoting import quoted, unquoted
from sepnet.types import SepnetError

T = TypeVar("T")
BAD_INPUT, INTERRUPTED = 2, 130
FULL = (errno.ENOSPC, errno.EDQUOT)
NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR)


def run(
    main: Callable[[DictConfig], None],
    config_name: str,
    settings_class: type[Any] | None = None,
    *,
    folder: Path | None = None,
    sweeps: bool = False,
) -> None:
    """Compose conf/<config_name>.yaml with the command line and call ``main``.

    Bad input ends the program with one sentence on standard error and the status 2, an unknown key with
    the nearest name; Ctrl-C with the status 130.

    Args:
        main: Gets the composed configuration.
        config_name: Of a file in ``folder``, without its suffix.
        settings_class: The dataclass of the settings, which says what may be typed without quotes.
        folder: Where the file is, if not in conf/; the groups that it chooses from are those of conf/.
        sweeps: Whether one command can do several jobs (``--multirun``), for which the file says where.
    """
    if sys.stdout is None:  # closed by the shell
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    if any(word in ASKS_FOR_HELP for word in sys.argv[1:]) and config_name in SUMMARIES:
        print(command_help(config_name))
        return
    with one_sentence():
        arguments = read_arguments()
        if arguments.multirun and not sweeps:
            raise SepnetError("only training does several jobs in one command: leave out --multirun (-m)")
        name = arguments.config_name or config_name
        plain_words = [word for word in arguments.overrides if clashes(key_of(word), name, folder)]
    verbatim = {} if settings_class is None else settings.verbatim_names(settings_class)
    words = {
        word: quoted(word, verbatim, sweep=arguments.multirun)
        for word in arguments.overrides
        if word not in plain_words
    }

    job_folders: list[Path] = []  # of the sweep, once for each job that has begun

    def guarded(config: DictConfig) -> None:
        if arguments.multirun:
            job_folders.append(Path(HydraConfig.get().sweep.dir))
        logging.basicConfig(level=logging.WARNING, format="%(message)s")
        logging.getLogger("sepnet").setLevel(logging.INFO)  # and not the requests that other packages report
        with one_sentence():
            for word in plain_words:
                OmegaConf.update(config, key_of(word), unquoted(word.partition("=")[2]))
            OmegaConf.set_struct(config, True)
            main(config)

    with one_sentence():
        own = None if arguments.config_dir is None else Path(arguments.config_dir)
        check(name, list(words.values()), sweep=arguments.multirun, folder=folder, own=own)
    rest = [words.get(word, word) for word in sys.argv[1:] if word not in plain_words]
    sys.argv[1:] = [*rest, *search_path(folder)]
    start = hydra.main(
        config_path=str(folder or config_folder()), config_name=config_name, version_base="1.3"
    )
    with one_sentence():
        try:
            start(guarded)()
        except SystemExit as ended:
            if len(job_folders) == 1 and ended.code == BAD_INPUT:
                _remove_sweep(job_folders[0])
            raise
        except ValueError as error:  # of its options; what ``main`` raises gets here only if Hydra is told so
            if "HYDRA_FULL_ERROR" in os.environ:
                raise
            raise SepnetError(f"the command line can't be used: {error}") from error


def _remove_sweep(folder: Path) -> None:
    """Remove what Hydra writes before the first job of a sweep, and the folders that are then empty."""
    with contextlib.suppress(OSError):
        (folder / "multirun.yaml").unlink()
        folder.rmdir()
        folder.parent.rmdir()


def read_arguments() -> argparse.Namespace:
    """Read the options of Hydra on the command line, such as ``-m``, and the words that are settings.

    Raises:
        SepnetError: There is no such option, or no such folder.
    """
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise SepnetError(f"the command line has {message}: see --help for what it may have")

    parser.error = refuse  # type: ignore[method-assign]
    arguments = parser.parse_args()
    if arguments.config_path is not None:
        raise SepnetError("--config-path is not read: name a folder with files of your own by --config-dir")
    if arguments.config_dir is not None and not Path(arguments.config_dir).is_dir():
        raise SepnetError(
            f"there is no folder {arguments.config_dir}: --config-dir names one with files like conf's"
        )
    return arguments


def parse(settings_class: type[T], config: DictConfig) -> T:
    """Make the typed settings of a composed configuration.

    Args:
        settings_class: A dataclass; see ``sepnet.settings``.
        config: The composed configuration.

    Raises:
        SepnetError: A setting is missing, unknown, or has a value that it may not have.
    """
    values = plain(config)
    settings.check_names(settings_class, values)
    return settings.parse(settings_class, values)


def plain(config: DictConfig) -> dict[str, Any]:
    """The settings as plain containers, with all references resolved.

    Args:
        config: The composed configuration.

    Raises:
        SepnetError: A setting that has to be given is not.
    """
    if missing := sorted(OmegaConf.missing_keys(config)):
        raise SepnetError(f"{missing[0]} has no value: give {missing[0]}=...")
    container: Any = OmegaConf.to_container(config, resolve=True)
    return {str(name): value for name, value in container.items() if name != "hydra"}


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """End the program with one sentence for errors that the user can mend."""
    try:
        yield
    except SepnetError as error:
        message = str(error)
        if "Original Traceback" in message:  # it comes from a worker process, with all that was on its stack
            message = message.rstrip().rpartition("SepnetError: ")[2]
    except OSError as error:
        verb = "write to" if error.errno in (*FULL, *NO_ACCESS, errno.ENAMETOOLONG) else "use"
        message = f"can't {verb} {error.filename or 'the disk'}: {error.strerror or error}; {_remedy(error)}"
    except torch.OutOfMemoryError as error:
        message = f"the GPU is full ({str(error).partition('.')[0]}): take a smaller loader.batch_size"
    except OmegaConfBaseException as error:
        message = explain_omegaconf(error)
    except KeyboardInterrupt:
        print("\nstopped; what was finished is kept", file=sys.stderr)
        sys.exit(INTERRUPTED)
    else:
        return
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(BAD_INPUT)


def _remedy(error: OSError) -> str:
    """What to do about a place that can't be read or written."""
    if error.errno == errno.ENAMETOOLONG:
        return "give a shorter name"
    if error.errno in FULL:
        return "make room and run it again"
    if error.errno in NO_ACCESS:
        return "choose a place that you may write to"
    return "choose another place"
