"""Opens an Audio Spectrogram Transformer, of transformers or one that sepnet has trained, by name or folder.

Weights are read from safetensors alone, and no code that lies beside them is run. sepnet's own folders are
those that scripts/train.py model=ast_tagger writes; ``sepnet/weights`` holds one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sepnet.query.body import MEAN, STD, Body
from sepnet.types import SepnetError

SHIPPED = Path(__file__).resolve().parents[1] / "weights"
CONFIG, WEIGHTS = "config.yaml", "model.safetensors"
TARGET = "sepnet.query.tagger.Tagger"
ARCHITECTURE = "audio-spectrogram-transformer"
PUBLIC = "MIT/ast-finetuned-audioset-10-10-0.4593"


def own_folder(name: str) -> Path | None:
    """The folder that sepnet has written under this name or path; None where there is none."""
    for folder in (Path(name).expanduser(), SHIPPED / name):
        if (folder / CONFIG).is_file():
            return folder
    return None


def read_own(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The arguments of the Tagger in a folder of sepnet, and its weights. Raises SepnetError for others."""
    try:
        model = dict(yaml.safe_load((folder / CONFIG).read_text())["model"])
    except (yaml.YAMLError, TypeError, KeyError, ValueError) as error:
        raise SepnetError(f"{folder / CONFIG} describes no model: copy it again") from error
    if model.pop("_target_", None) != TARGET or model.get("pretrained") is not None:
        raise SepnetError(f"{folder} is not a tagger that sepnet trained: name one, or {PUBLIC}")
    if not (folder / WEIGHTS).is_file():
        raise SepnetError(f"{folder} has no {WEIGHTS}: copy it again, or train a tagger (model=ast_tagger)")
    try:
        return model, load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise SepnetError(f"{folder / WEIGHTS} can't be read ({_short(error)}): copy it again") from error


def read_public(name: str) -> Body:
    """One of transformers': a folder, or a name on the hub, which is fetched once.

    Raises SepnetError where it is not to be had, has no weights, or is another architecture.
    """
    from transformers import ASTForAudioClassification  # loads for seconds: only who asks pays

    folder = Path(name).expanduser()
    if folder.is_dir():
        _check_folder(folder)
    try:
        opened: Any = ASTForAudioClassification.from_pretrained(
            str(folder) if folder.is_dir() else name,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise SepnetError(
            f"no tagger is to be had by the name {name!r} ({_short(error)}): name a folder with config.json "
            f"and {WEIGHTS}, one that sepnet ships, or with a connection one on the hub such as {PUBLIC}"
        ) from error
    network, told = opened
    if lost := sorted(told["missing_keys"]):
        raise SepnetError(
            f"{name!r} lacks {len(lost)} of the weights of a tagger ({lost[0]}): name one with a classifier, "
            f"such as {PUBLIC}"
        )
    config, features = network.config, _features(folder)
    labels = tuple(str(config.id2label[k]) for k in range(config.num_labels))
    return Body(network, labels, config.num_mel_bins, features.get("mean", MEAN), features.get("std", STD))


def _check_folder(folder: Path) -> None:
    """Raises SepnetError for a folder that is no network, or another architecture, or has no weights."""
    try:
        kind = json.loads((folder / "config.json").read_text()).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise SepnetError(f"{folder} is no tagger: it has no config.json that can be read") from error
    if kind != ARCHITECTURE:
        raise SepnetError(f"{folder} holds a network of the kind {kind!r}, but a tagger is an {ARCHITECTURE}")
    if not any(folder.glob("*.safetensors")):
        raise SepnetError(f"{folder} has no {WEIGHTS}: copy it again, with its weights as safetensors")


def _features(folder: Path) -> dict[str, Any]:
    """What the folder says of the features, where it does."""
    path = folder / "preprocessor_config.json"
    try:
        return dict(json.loads(path.read_text())) if path.is_file() else {}
    except ValueError as error:
        raise SepnetError(f"{path} can't be read: copy it again") from error


def _short(what: object) -> str:
    return " ".join(str(what).split())[:160]
