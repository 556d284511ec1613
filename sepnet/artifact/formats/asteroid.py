"""Models of asteroid: a file of torch.save with model_name, model_args and state_dict.

M. Pariente et al., "Asteroid: the PyTorch-based audio source separation toolkit for researchers", Interspeech
2020. Its networks compute masks of the coefficients of learned filters, so that each is a ``MaskEstimator``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sepnet.artifact.formats.published import (
    MAX_CHANNELS,
    MAX_LAYERS,
    MAX_SOURCES,
    PublishedModel,
    Renaming,
    Settings,
    load_pickled,
    rename,
    take_tensors,
)
from sepnet.types import SepnetError

TOOLKIT = "asteroid"
WEIGHTS = "pytorch_model.bin"
FILES = (WEIGHTS,)
KEYS = ("model_name", "model_args", "state_dict")
ACTIVATIONS: dict[str | None, str] = {name: name for name in ("sigmoid", "relu", "softmax")}
ENCODER_ACTIVATIONS: dict[str | None, str] = {None: "", "linear": "", "relu": "relu"}
FILTERBANKS: dict[str | None, str] = {"free": "", "FreeFB": ""}

FILTERS: Renaming = [(r"(encoder|decoder)\.filterbank\._filters", r"filterbank.\1.filterbank._filters")]

NORM = re.compile(r"network\.(bottleneck\.0|blocks\.\d+\.body\.[25])\.(weight|bias)")


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
    if name not in NETWORKS:
        raise SepnetError(
            f"{path} holds asteroid's {str(name)[:40]}, which sepnet does not have: it reads "
            f"{', '.join(NETWORKS)}"
        )
    settings = Settings(package["model_args"], f"{path}, model_args of {name}")
    infos = _mapping(package.get("infos"))
    task = str(package.get("task") or _training(infos).get("task") or "")
    network, rules = NETWORKS[name](settings)
    model = _separator(settings, network, task, _training(infos).get("sample_rate"))
    settings.finish()
    weights = rename(take_tensors(package["state_dict"], path), [*FILTERS, *rules], path)
    if network.get("causal"):  # whose norms keep their weights as (channel, 1)
        weights = {
            key: _as_column(tensor) if NORM.fullmatch(key) else tensor for key, tensor in weights.items()
        }
    return PublishedModel(
        architecture=name,
        model=model,
        weights=weights,
        licence=_licence(package.get("licenses"), infos),
        origin={key: str(package[key]) for key in ("dataset", "task") if package.get(key)},
    )


def _separator(settings: Settings, network: dict[str, Any], task: str, trained_at: object) -> dict[str, Any]:
    """The constructor call around a network."""
    n_sources = settings.whole("n_src", None, most=MAX_SOURCES)
    n_filters = settings.whole("n_filters", None, most=MAX_CHANNELS)
    window = settings.whole("kernel_size", 16, most=MAX_CHANNELS)
    hop = settings.whole("stride", max(window // 2, 1), most=window)
    default_rate = int(trained_at) if isinstance(trained_at, int | float) else None
    settings.choice("fb_name", "free", FILTERBANKS)
    for width in ("in_chan", "out_chan"):
        if settings.whole(width, n_filters, most=MAX_CHANNELS) != n_filters:
            raise SepnetError(f"{settings.place}: {width} differs from n_filters={n_filters}: not supported")
    return {
        "_target_": "sepnet.separators.mask_estimator.model.MaskEstimator",
        "n_sources": n_sources,
        "sample_rate": settings.whole("sample_rate", default_rate, most=768_000),
        "features": "coefficients",
        "activation": settings.choice("mask_act", "sigmoid", ACTIVATIONS),
        "consistent": False,
        "scale": "least_squares",
        # Where the mixtures of its training had noise in them, the network leaves it out.
        "covers_mixture": n_sources > 1 and not any(word in task for word in ("noisy", "enh")),
        "level": "whole",
        "filterbank": {
            "_target_": "sepnet.dsp.filterbank.LearnedFilterbank",
            "n_filters": n_filters,
            "window_samples": window,
            "hop_samples": hop,
            "rectified": settings.choice("encoder_activation", None, ENCODER_ACTIVATIONS) == "relu",
            "padded": False,
        },
        "network": network,
        "objective": {
            "_target_": "sepnet.separators.mask_estimator.objectives.WaveformObjective",
            "metric": {"_target_": "sepnet.metrics.si_sdr", "_partial_": True},
        },
    }


def _conv_tasnet(settings: Settings) -> tuple[dict[str, Any], Renaming]:
    n_skip = settings.whole("skip_chan", 128, most=MAX_CHANNELS, least=0)
    n_blocks = settings.whole("n_blocks", 8, most=16)
    n_repeats = settings.whole("n_repeats", 3, most=MAX_LAYERS)
    causal = settings.flag("causal", False)
    settings.choice("norm_type", "gLN", {"cgLN": ""} if causal else {"gLN": ""})
    network = {
        "_target_": "sepnet.networks.tcn.TCN",
        "_partial_": True,
        "n_channels": settings.whole("bn_chan", 128, most=MAX_CHANNELS),
        "n_hidden": settings.whole("hid_chan", 512, most=MAX_CHANNELS),
        "kernel": settings.whole("conv_kernel_size", 3, most=MAX_CHANNELS),
        "n_blocks": n_blocks,
        "n_repeats": n_repeats,
        "separable": True,
        "causal": causal,
        "n_skip": n_skip,
    }
    rules: Renaming = []
    if n_skip:  # the masks come from the skip connections, and the last residual is added to nothing
        rules.append((rf"masker\.TCN\.{n_blocks * n_repeats - 1}\.res_conv\.(weight|bias)", None))
    return network, [
        *rules,
        (r"masker\.bottleneck\.0\.gamma", "network.bottleneck.0.weight"),
        (r"masker\.bottleneck\.0\.beta", "network.bottleneck.0.bias"),
        (r"masker\.bottleneck\.1\.(weight|bias)", r"network.bottleneck.1.\1"),
        (r"masker\.TCN\.(\d+)\.shared_block\.([25])\.gamma", r"network.blocks.\1.body.\2.weight"),
        (r"masker\.TCN\.(\d+)\.shared_block\.([25])\.beta", r"network.blocks.\1.body.\2.bias"),
        (
            r"masker\.TCN\.(\d+)\.shared_block\.(0|1|3|4)\.(?:0\.)?(weight|bias)",
            r"network.blocks.\1.body.\2.\3",
        ),
        (r"masker\.TCN\.(\d+)\.res_conv\.(weight|bias)", r"network.blocks.\1.residual.\2"),
        (r"masker\.TCN\.(\d+)\.skip_conv\.(weight|bias)", r"network.blocks.\1.skip.\2"),
        (r"masker\.mask_net\.(0|1)\.(weight|bias)", r"network.out.\1.\2"),
    ]


def _dual_path(settings: Settings) -> dict[str, Any]:
    """What DPRNN and DPTNet have in common."""
    chunk = settings.whole("chunk_size", 100, most=MAX_CHANNELS)
    if settings.whole("hop_size", chunk // 2, most=MAX_CHANNELS) != chunk // 2:
        raise SepnetError(f"{settings.place}: hop_size is not half the chunk_size {chunk}: not supported")
    settings.choice("norm_type", "gLN", {"gLN": ""})
    settings.choice("bidirectional", True, {True: ""})
    settings.ignore("dropout")
    return {"chunk_frames": chunk, "n_blocks": settings.whole("n_repeats", 6, most=MAX_LAYERS)}


def _gated_output(has_projection: bool) -> Renaming:
    rules: Renaming = [
        (r"masker\.first_out\.0\.weight", "network.out.activation.weight"),
        (r"masker\.first_out\.1\.(weight|bias)", r"network.out.sources.\1"),
        (r"masker\.net_out\.0\.(weight|bias)", r"network.out.value.\1"),
        (r"masker\.net_gate\.0\.(weight|bias)", r"network.out.gate.\1"),
    ]
    return (
        [*rules, (r"masker\.mask_net\.weight", "network.out.projection.weight")] if has_projection else rules
    )


def _dprnn(settings: Settings) -> tuple[dict[str, Any], Renaming]:
    settings.choice("rnn_type", "LSTM", {"LSTM": ""})
    settings.choice("use_mulcat", False, {False: ""})
    settings.whole("num_layers", 1, most=1)
    network = {
        "_target_": "sepnet.networks.dprnn.GatedDPRNN",
        "_partial_": True,
        "n_channels": settings.whole("bn_chan", 128, most=MAX_CHANNELS),
        "n_hidden": settings.whole("hid_size", 128, most=MAX_CHANNELS),
        **_dual_path(settings),
    }
    rules: Renaming = [
        (r"masker\.bottleneck\.0\.gamma", "network.bottleneck.0.weight"),
        (r"masker\.bottleneck\.0\.beta", "network.bottleneck.0.bias"),
        (r"masker\.bottleneck\.1\.(weight|bias)", r"network.bottleneck.1.\1"),
        *_gated_output(has_projection=True),
    ]
    for theirs, ours in (("intra", "within"), ("inter", "across")):
        block, target = rf"masker\.net\.(\d+)\.{theirs}_", rf"network.{ours}.\1."
        rules += [
            (rf"{block}RNN\.rnn\.(\w+)", rf"{target}lstm.\2"),
            (rf"{block}linear\.(weight|bias)", rf"{target}linear.\2"),
            (rf"{block}norm\.gamma", f"{target}norm.weight"),
            (rf"{block}norm\.beta", f"{target}norm.bias"),
        ]
    return network, rules


def _dptnet(settings: Settings) -> tuple[dict[str, Any], Renaming]:
    settings.choice("ff_activation", "relu", {"relu": ""})
    network = {
        "_target_": "sepnet.networks.dptnet.DPTNet",
        "_partial_": True,
        "n_hidden": settings.whole("ff_hid", 256, most=MAX_CHANNELS),
        "n_heads": settings.whole("n_heads", 4, most=MAX_CHANNELS),
        **_dual_path(settings),
    }
    rules: Renaming = [
        (r"masker\.in_norm\.gamma", "network.norm.weight"),
        (r"masker\.in_norm\.beta", "network.norm.bias"),
        *_gated_output(has_projection=False),
    ]
    for number, ours in ((0, "within"), (1, "across")):
        layer, target = rf"masker\.layers\.(\d+)\.{number}\.", rf"network.{ours}.\1."
        rules += [
            (rf"{layer}mha\.in_proj_(weight|bias)", rf"{target}projections.\2"),
            (rf"{layer}mha\.out_proj\.(weight|bias)", rf"{target}attention_out.\2"),
            (rf"{layer}recurrent\.(\w+)", rf"{target}lstm.\2"),
            (rf"{layer}linear\.(weight|bias)", rf"{target}linear.\2"),
            (rf"{layer}norm_mha\.gamma", f"{target}attention_norm.weight"),
            (rf"{layer}norm_mha\.beta", f"{target}attention_norm.bias"),
            (rf"{layer}norm_ff\.gamma", f"{target}norm.weight"),
            (rf"{layer}norm_ff\.beta", f"{target}norm.bias"),
        ]
    return network, rules


NETWORKS: dict[str, Callable[[Settings], tuple[dict[str, Any], Renaming]]] = {
    "ConvTasNet": _conv_tasnet,
    "DPRNNTasNet": _dprnn,
    "DPTNet": _dptnet,
}


def _as_column(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, 1)


def _training(infos: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the training configuration says of the data."""
    return _mapping(_mapping(infos.get("training_config")).get("data"))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _licence(licences: object, infos: Mapping[str, Any]) -> str | None:
    """The licences of the data, and the note on the weights' own, where they are there."""
    note = infos.get("license_note")
    if isinstance(note, str):
        return note[:2000]
    if not isinstance(licences, list):
        return None
    names = [
        str(each.get("license")) for each in licences if isinstance(each, Mapping) and each.get("license")
    ]
    return f"derived from data under {', '.join(dict.fromkeys(names))}"[:2000] if names else None
