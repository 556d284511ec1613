"""What a reader of a foreign format returns, and how it reads files that a stranger wrote.

Tensors and plain values alone are read, and their sizes are bounded before memory is taken for them.
"""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sepnet.artifact.build import shorten
from sepnet.types import SepnetError

MAX_FILE_BYTES = 2**31  # of weights: 500 million parameters in float32
MAX_PICKLE_BYTES = 2**24  # of what is in a file of weights beside the tensors
MAX_SOURCES = 16
MAX_CHANNELS = 8192
MAX_LAYERS = 256
Renaming = list[tuple[str, str | None]]
"""Rules of ``rename``."""


@dataclass(frozen=True)
class PublishedModel:
    """A model of another toolkit, in sepnet's terms.

    Attributes:
        architecture: Its name, for people.
        model: The constructor call of the separator, as in conf/model.
        weights: Its tensors by sepnet's names.
        licence: Of the weights, where the files say it.
        origin: What else the files say of where the weights come from.
    """

    architecture: str
    model: dict[str, Any]
    weights: dict[str, Tensor]
    licence: str | None = None
    origin: dict[str, Any] = field(default_factory=dict)


class _NumpyType:
    """Takes the place of numpy.dtype in a pickle; its arguments are kept, and nothing is done."""

    def __init__(self, code: object = "", *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None: ...


def _numpy_number(kind: object, content: object = b"") -> float | None:
    """Take the place of what makes a number of numpy in a pickle; None unless it is a float or an int."""
    code = getattr(kind, "code", None)
    formats = {"f8": "<d", "f4": "<f", "i8": "<q", "i4": "<i"}
    if code not in formats or not isinstance(content, bytes | str):
        return None
    raw = content.encode("latin1") if isinstance(content, str) else content
    if len(raw) != struct.calcsize(formats[code]):
        return None
    number: float = struct.unpack(formats[code], raw)[0]
    return number


STAND_INS: list[Any] = [
    (_NumpyType, "numpy.dtype"),
    (_numpy_number, "numpy.core.multiarray.scalar"),
    (_numpy_number, "numpy._core.multiarray.scalar"),
    (str, "torch.torch_version.TorchVersion"),
]
"""Inert types for results and versions, which are often kept beside weights and ``weights_only`` refuses."""


def load_pickled(path: Path) -> Any:
    """Read a file that torch.save wrote: tensors in containers, and no code.

    Args:
        path: The file.

    Returns:
        What was saved.

    Raises:
        SepnetError: The file is too large, damaged, or holds anything but tensors and plain values.
    """
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise SepnetError(
            f"{path} has {size / 1e9:.1f} GB, more than the {MAX_FILE_BYTES / 1e9:.1f} GB allowed"
        )
    damaged = f"{path} can't be read as a file of torch.save: fetch it again, it is damaged or incomplete"
    try:
        if zipfile.is_zipfile(path):
            _check_archive(path, size)
        with torch.serialization.safe_globals(STAND_INS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except SepnetError:
        raise
    except pickle.UnpicklingError as error:
        match = re.search(r"GLOBAL ([\w.]+)", str(error))
        if match is None:
            raise SepnetError(f"{damaged} ({shorten(error)[:80]})") from error
        raise SepnetError(
            f"{path} holds pickled code ({match[1]}), which is never run: ask for a file of tensors alone"
        ) from error
    except Exception as error:  # a hostile pickle can raise any
        raise SepnetError(f"{damaged} ({type(error).__name__}: {shorten(error)[:80]})") from error


def take_tensors(found: object, path: Path) -> dict[str, Tensor]:
    """A state_dict, checked.

    Args:
        found: What a file holds in the place of a state_dict.
        path: The file, for the message.

    Returns:
        The tensors by name.

    Raises:
        SepnetError: It is no mapping of names to tensors, or the tensors are too large.
    """
    if not isinstance(found, Mapping) or not found:
        raise SepnetError(f"{path} holds a {type(found).__name__} in place of tensors by name")
    n_bytes = 0
    for name, tensor in found.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            raise SepnetError(f"{path} holds a {type(tensor).__name__} as {shorten(name)}, not a tensor")
        n_bytes += tensor.numel() * tensor.element_size()  # may be more than its storage has
    if n_bytes > MAX_FILE_BYTES:
        raise SepnetError(f"the tensors of {path} would take {n_bytes / 1e9:.1f} GB: refused")
    return dict(found)


def rename(tensors: Mapping[str, Tensor], rules: Renaming, path: Path) -> dict[str, Tensor]:
    """Give tensors sepnet's names.

    Args:
        tensors: By the toolkit's names.
        rules: (pattern that a whole name has to match, replacement as for ``re.sub``); None drops the tensor.
            The first that matches counts.
        path: The file, for the message.

    Returns:
        The tensors by sepnet's names.

    Raises:
        SepnetError: No rule matches a name.
    """
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        for pattern, replacement in compiled:
            if match := pattern.fullmatch(name):
                if replacement is not None:
                    renamed[match.expand(replacement)] = tensor
                break
        else:
            raise SepnetError(f"{path} holds a tensor {shorten(name)!r}, which its architecture doesn't have")
    return renamed


class Settings:
    """The settings of a foreign model, which have to be of the expected types and within bounds.

    Args:
        values: By name.
        place: Where they stand, for messages.
    """

    def __init__(self, values: object, place: str) -> None:
        if not isinstance(values, Mapping):
            raise SepnetError(f"{place} has to be a mapping, but is a {type(values).__name__}")
        self._values: dict[str, Any] = {str(name): value for name, value in values.items()}
        self.place = place

    def whole(self, name: str, default: int | None, *, most: int, least: int = 1) -> int:
        """Take a whole number; None as ``default``: it has to be there."""
        value = self._values.pop(name, None)
        value = default if value is None else value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise SepnetError(
                f"{self.place}: {name}={shorten(value)} has to be a number from {least} to {most}"
            )
        return value

    def flag(self, name: str, default: bool) -> bool:
        """Take true or false."""
        value = self._values.pop(name, default)
        if not isinstance(value, bool):
            raise SepnetError(f"{self.place}: {name}={shorten(value)} has to be true or false")
        return value

    def choice(self, name: str, default: str | bool | None, choices: Mapping[Any, str]) -> str:
        """Take one of several values, and return what it stands for."""
        value = self._values.pop(name, default)
        if not isinstance(value, str | bool | None) or value not in choices:
            known = ", ".join(str(choice) for choice in choices)
            raise SepnetError(f"{self.place}: {name}={shorten(value)} is not supported; known are {known}")
        return choices[value]

    def ignore(self, *names: str) -> None:
        """Leave out settings that matter to training alone."""
        for name in names:
            self._values.pop(name, None)

    def finish(self) -> None:
        """Raise SepnetError for settings that nobody has taken: they might change what the model computes."""
        if self._values:
            raise SepnetError(f"{self.place}: the setting {shorten(min(self._values))!r} is unknown")


def _check_archive(path: Path, size: int) -> None:
    """Refuse an archive that unpacks to more than its file, or whose pickle is too large for settings."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if sum(entry.file_size for entry in entries) > size:
        raise SepnetError(f"{path} is a compressed archive, which torch.save does not write: refused")
    for entry in entries:
        if entry.filename.endswith("data.pkl") and entry.file_size > MAX_PICKLE_BYTES:
            raise SepnetError(
                f"{path} holds {entry.file_size / 1e6:.0f} MB beside its tensors, more than "
                f"{MAX_PICKLE_BYTES / 1e6:.0f} MB: refused"
            )
