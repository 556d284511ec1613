"""Models of asteroid: a file of torch.save with model_name, model_args and state_dict.

M. Pariente et al., "Asteroid: the PyTorch-based audio source separation toolkit for researchers", Interspeech
2020. Its networks compute masks of the coefficients of learned filters, so that each is a ``MaskEstimator``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sepnet.artifact.formats.asteroid_networks import FILTERBANKS, NETWORKS
from sepnet.artifact.formats.pickled import load_pickled, take_tensors
from sepnet.artifact.formats.published import PublishedModel, Renaming, mask_estimator, rename
from sepnet.artifact.formats.settings import MAX_CHANNELS, MAX_NETWORK_SOURCES, MAX_SAMPLE_RATE, Settings
from sepnet.types import SepnetError

TOOLKIT = "asteroid"
WEIGHTS = "pytorch_model.bin"
FILES = (WEIGHTS,)
KEYS = ("model_name", "model_args", "state_dict")
ACTIVATIONS: dict[str | None, str] = {name: name for name in ("sigmoid", "relu", "softmax")}
FILTERBANK_NAMES: dict[str | None, str] = {"free": "", "FreeFB": ""}
NORM = re.compile(r"network\.(bottleneck\.0|blocks\.\d+\.body\.[25])\.(weight|bias)")
FILTERS: Renaming = [
    (r"(encoder|decoder)\.filterbank\._filters", r"filterbank.\1.filterbank._filters"),
    (r"encoder\.encoder\.filterbank\._filters", None),  # the same again, in SuDoRM-RF
]


def recognises(folder: Path) -> bool:
    """Whether the folder holds the file of an asteroid model."""
    return (folder / WEIGHTS).is_file()


def read(folder: Path) -> PublishedModel:
    """Read the model of a folder.

    Args:
        folder: Holds pytorch_model.bin.

    Returns:
        The model.

    Raises:
        SepnetError: The file can't be read, or holds a network or a setting that sepnet does not have.
    """
    path = folder / WEIGHTS
    package = load_pickled(path)
    if not isinstance(package, Mapping) or not all(key in package for key in KEYS):
        found = ", ".join(sorted(map(str, package))[:5]) if isinstance(package, Mapping) else type(package)
        raise SepnetError(f"{path} holds {found}, not {', '.join(KEYS)} as a model of asteroid does")
    name = package["model_name"]
    if not isinstance(name, str) or name not in NETWORKS:
        raise SepnetError(
            f"{path} holds asteroid's {str(name)[:40]}, which sepnet does not have: it reads "
            f"{', '.join(NETWORKS)}"
        )
    settings = Settings(package["model_args"], f"{path}, model_args of {name}")
    infos = _mapping(package.get("infos"))
    training = _mapping(_mapping(infos.get("training_config")).get("data"))
    task = _text(package.get("task")) or _text(training.get("task"))
    network, rules = NETWORKS[name](settings)
    model = _separator(name, settings, network, task, training.get("sample_rate"))
    settings.finish()
    weights = rename(take_tensors(package["state_dict"], path), [*FILTERS, *rules], path)
    if network.get("causal"):  # whose norms keep their weights as (channel, 1)
        weights = {
            key: tensor.reshape(-1, 1) if NORM.fullmatch(key) else tensor for key, tensor in weights.items()
        }
    return PublishedModel(
        architecture=name,
        model=model,
        weights=weights,
        licence=_licence(package.get("licenses"), infos),
        origin={key: package[key] for key in ("dataset", "task") if _text(package.get(key))},
    )


def _separator(
    name: str, settings: Settings, network: dict[str, Any], task: str, trained_at: object
) -> dict[str, Any]:
    """The constructor call around a network."""
    n_sources = settings.whole("n_src", None, most=MAX_NETWORK_SOURCES)
    n_filters = settings.whole("n_filters", None, most=MAX_CHANNELS)
    default_rate = trained_at if isinstance(trained_at, int | float) else None
    settings.choice("fb_name", "free", FILTERBANK_NAMES)
    for width in ("in_chan", "out_chan"):
        if settings.whole(width, n_filters, most=MAX_CHANNELS) != n_filters:
            raise SepnetError(f"{settings.place}: {width} differs from n_filters={n_filters}: not supported")
    return mask_estimator(
        network,
        n_sources=n_sources,
        sample_rate=settings.whole("sample_rate", default_rate, most=MAX_SAMPLE_RATE),
        leaves_out_noise=any(word in task for word in ("noisy", "enh")),
        activation=settings.choice("mask_act", "sigmoid", ACTIVATIONS),
        filterbank=FILTERBANKS[name](settings, n_filters, network),
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _licence(licences: object, infos: Mapping[str, Any]) -> str | None:
    """The note on the licence of the weights; without one, the licences of the data that they derive from."""
    note = infos.get("license_note")
    if isinstance(note, str):
        return note[:2000]
    if not isinstance(licences, list):
        return None
    names = filter(None, (_text(_mapping(each).get("license")) for each in licences))
    joined = ", ".join(dict.fromkeys(names))
    return f"derived from data under {joined}"[:2000] if joined else None
