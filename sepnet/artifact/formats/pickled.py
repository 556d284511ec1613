"""The safe reading of files of torch.save that a stranger wrote.

Tensors and plain values alone are read, and their sizes are bounded before memory is taken for them.
"""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sepnet.artifact.build import shorten
from sepnet.types import SepnetError

MAX_FILE_BYTES = 2**31  # of weights: 500 million parameters in float32
MAX_PICKLE_BYTES = 2**24  # of what is in a file of weights beside the tensors


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
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise SepnetError(f"{path} holds a {type(tensor).__name__} as {shorten(name)}, not a tensor")
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_complex() or tensor.is_quantized:
            raise SepnetError(
                f"{path} holds a tensor {shorten(name)} that is not of real numbers, one by one"
            )
        n_bytes += tensor.numel() * tensor.element_size()  # may be more than its storage has
    if n_bytes > MAX_FILE_BYTES:
        raise SepnetError(f"the tensors of {path} would take {n_bytes / 1e9:.1f} GB: refused")
    return dict(found)


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
