"""Foreign folders as run folders: converted once for each content, and kept.

What is kept lies under ``sepnet`` in the Hugging Face home (HF_HOME, by default ~/.cache/huggingface), named
by the digest of the files that it was made from.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType

import torch
from huggingface_hub import constants
from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]
from omegaconf import OmegaConf
from safetensors.torch import save as serialize
from torch import Tensor, nn

from sepnet import atomic, paths
from sepnet.artifact.build import METHODS, build
from sepnet.artifact.formats import asteroid, clearvoice, look2hear, speechbrain
from sepnet.artifact.formats.plain_yaml import read_card
from sepnet.artifact.formats.published import PublishedModel
from sepnet.artifact.provenance import describe_environment
from sepnet.types import SepnetError

READERS: tuple[ModuleType, ...] = (asteroid, speechbrain, clearvoice, look2hear)
FILES = tuple(name for reader in READERS for name in reader.FILES)
VERSION = 2  # of what the conversion writes: raised when that changes
SHA256 = re.compile("[0-9a-f]{64}")


def is_published(folder: Path) -> bool:
    """Whether a reader knows the format of a folder."""
    return any(reader.recognises(folder) for reader in READERS)


def wanted() -> str:
    """What the readers look for, for messages."""
    return ", or ".join(f"{' and '.join(reader.FILES)} ({reader.TOOLKIT})" for reader in READERS)


def converted(folder: Path, name: str) -> Path:
    """The run folder of a foreign folder, written unless it is there.

    Args:
        folder: One that ``is_published``.
        name: What the model is called, for its card and its provenance.

    Returns:
        The run folder.

    Raises:
        SepnetError: The files can't be read, or describe a network that sepnet does not have.
    """
    reader = next(reader for reader in READERS if reader.recognises(folder))
    files = [folder / each for each in (*reader.FILES, paths.CARD) if (folder / each).is_file()]
    digests = {
        file.name: _digest(file.resolve(), file.stat().st_size, file.stat().st_mtime_ns) for file in files
    }
    key = hashlib.sha256(json.dumps([VERSION, reader.TOOLKIT, digests]).encode()).hexdigest()[:24]
    target = Path(constants.HF_HOME) / "sepnet" / key
    if (target / paths.CONFIG).is_file():
        return target
    _verify(files, digests)
    target.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(target.with_suffix(".lock")):  # of two processes the second finds it done
        if (target / paths.CONFIG).is_file():
            return target
        model: PublishedModel = reader.read(folder)
        licence = _licence(folder) or model.licence or "unknown"
        _check(model, folder)
        origin = {
            "name": name,
            "toolkit": reader.TOOLKIT,
            "licence": licence,
            **model.origin,
            "files": digests,
        }
        _write(target, model, origin)
        print(f"{name}: {model.architecture} of {reader.TOOLKIT}, licence: {licence}", file=sys.stderr)
    return target


def _verify(files: Sequence[Path], digests: Mapping[str, str]) -> None:
    """Refuse a file that is not what the hub announced; its cache names large files by their SHA-256."""
    for file in files:
        announced = file.resolve().name
        if SHA256.fullmatch(announced) and announced != digests[file.name]:
            raise SepnetError(
                f"{file.name} is damaged: its SHA-256 is not the one that the hub announced; remove "
                f"{file.resolve()} and fetch it again"
            )


def _check(model: PublishedModel, folder: Path) -> None:
    """Refuse tensors that are not those of the architecture; takes no memory for the network."""
    with torch.device("meta"):
        network = build(model.model, packages=METHODS)
    assert isinstance(network, nn.Module)
    expected = network.state_dict()
    if odd := sorted(expected.keys() ^ model.weights.keys()):
        what = "lacks" if odd[0] in expected else "has beyond its settings"
        raise SepnetError(
            f"{folder} does not hold the weights of the {model.architecture} that its settings describe: it "
            f"{what} {odd[0]} ({len(odd)} such of {len(expected)} tensors)"
        )
    for name, tensor in expected.items():
        if model.weights[name].shape != tensor.shape:
            raise SepnetError(
                f"{folder} does not hold the weights of the {model.architecture} that its settings describe: "
                f"{name} is {tuple(model.weights[name].shape)}, not {tuple(tensor.shape)}"
            )
        if model.weights[name].is_floating_point() != tensor.is_floating_point():
            raise SepnetError(
                f"{folder} does not hold the weights of the {model.architecture} that its settings describe: "
                f"{name} holds numbers of the type {model.weights[name].dtype}, not {tensor.dtype}"
            )


def _write(target: Path, model: PublishedModel, origin: dict[str, object]) -> None:
    config = OmegaConf.create({"model": model.model})
    weights = {name: _plain(tensor) for name, tensor in model.weights.items()}
    parameters = sum(tensor.numel() for tensor in weights.values())
    with atomic.replacing_folder(target) as folder:
        (folder / paths.WEIGHTS).write_bytes(serialize(weights))
        provenance = {"published": origin, **describe_environment()}
        (folder / paths.PROVENANCE).write_text(json.dumps(provenance, indent=2) + "\n")
        (folder / paths.CARD).write_text(
            f"# {origin['name']}\n\n{model.architecture}, {parameters / 1e6:.2f} M parameters, trained with "
            f"{origin['toolkit']} and converted by sepnet; nothing was changed in its weights.\n\n"
            f"Licence of the weights: {origin['licence']}\n\n"
            f"## Configuration\n```yaml\n{OmegaConf.to_yaml(config.model)}```\n"
        )
        (folder / paths.CONFIG).write_text(OmegaConf.to_yaml(config))


def _plain(tensor: Tensor) -> Tensor:
    detached = tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
    return detached.contiguous().clone()


def _licence(folder: Path) -> str | None:
    """What the card of a model on the hub gives as its licence."""
    licence = read_card(folder).get("license")
    return str(licence)[:200] if licence else None


@cache
def _digest(path: Path, _size: int, _mtime_ns: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
