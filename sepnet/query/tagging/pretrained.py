"""Read the network of a tagger by name or folder: one of transformers, or one that sepnet has trained.

Weights are read from safetensors only, and no code beside them is run. A folder of sepnet is the run folder
of ``sepnet train model=ast_tagger``; ``sepnet/weights`` contains one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sepnet.paths import CONFIG, WEIGHTS, expand_home
from sepnet.query.tagging.ast_network import AUDIOSET_MEAN, AUDIOSET_STD, AstNetwork
from sepnet.types import SepnetError

TAGGER_TARGET = "sepnet.query.tagging.tagger.Tagger"
AST_MODEL_TYPE = "audio-spectrogram-transformer"
PUBLIC_TAGGER = "MIT/ast-finetuned-audioset-10-10-0.4593"


def read_sepnet_tagger(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a tagger that sepnet has trained.

    Args:
        folder: A folder with config.yaml and model.safetensors.

    Returns:
        The arguments of ``Tagger``, and its weights by name.

    Raises:
        SepnetError: The folder contains something else, or one of its files is missing or damaged.
    """
    try:
        model = dict(yaml.safe_load((folder / CONFIG).read_text())["model"])
    except (OSError, yaml.YAMLError, TypeError, KeyError, ValueError) as error:
        raise SepnetError(f"{folder / CONFIG} does not describe a model: copy it again") from error
    if model.pop("_target_", None) != TAGGER_TARGET or model.get("pretrained") is not None:
        raise SepnetError(f"{folder} is not a tagger that sepnet trained: name one, or {PUBLIC_TAGGER}")
    if not (folder / WEIGHTS).is_file():
        raise SepnetError(f"{folder} has no {WEIGHTS}: copy it again, or train a tagger (model=ast_tagger)")
    try:
        return model, load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise SepnetError(f"{folder / WEIGHTS} cannot be read ({_one_line(error)}): copy it again") from error


def read_public_tagger(name: str) -> AstNetwork:
    """Read a tagger of transformers.

    Args:
        name: A folder, or a name on the hub, from which it is downloaded once.

    Returns:
        The network with its labels and the normalisation of its features.

    Raises:
        SepnetError: The tagger cannot be found, has no weights, lacks some of them, or is of another
            architecture.
    """
    from transformers import ASTForAudioClassification  # takes seconds to import

    folder = expand_home(name)
    if folder.is_dir():
        _check_folder(folder)
    try:
        loaded: Any = ASTForAudioClassification.from_pretrained(
            str(folder) if folder.is_dir() else name,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise SepnetError(
            f"no tagger can be read from {name!r} ({_one_line(error)}): name a folder with config.json and "
            f"{WEIGHTS}, one that sepnet ships, or with a connection one on the hub such as {PUBLIC_TAGGER}"
        ) from error
    network, info = loaded
    if missing := sorted(info["missing_keys"]):
        raise SepnetError(
            f"{name!r} lacks {len(missing)} of the weights of a tagger ({missing[0]}): name one with a "
            f"classifier, such as {PUBLIC_TAGGER}"
        )
    config, features = network.config, _feature_settings(folder)
    return AstNetwork(
        network=network,
        labels=tuple(str(config.id2label[k]) for k in range(config.num_labels)),
        n_mels=config.num_mel_bins,
        mean=features.get("mean", AUDIOSET_MEAN),
        std=features.get("std", AUDIOSET_STD),
    )


def _check_folder(folder: Path) -> None:
    try:
        model_type = json.loads((folder / "config.json").read_text()).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise SepnetError(f"{folder} is no tagger: it has no config.json that can be read") from error
    if model_type != AST_MODEL_TYPE:
        raise SepnetError(
            f"{folder} holds a network of the type {model_type!r}, but a tagger is an {AST_MODEL_TYPE}"
        )
    if not any(folder.glob("*.safetensors")):
        raise SepnetError(f"{folder} has no {WEIGHTS}: copy it again, with its weights as safetensors")


def _feature_settings(folder: Path) -> dict[str, Any]:
    """The settings of the feature extractor, where the folder has them."""
    path = folder / "preprocessor_config.json"
    try:
        return dict(json.loads(path.read_text())) if path.is_file() else {}
    except (OSError, ValueError, TypeError) as error:
        raise SepnetError(f"{path} cannot be read: copy it again") from error


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:160]
