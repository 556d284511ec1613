"""Models of asteroid: a file of torch.save with model_name, model_args and state_dict.

M. Pariente et al., "Asteroid: the PyTorch-based audio source separation toolkit for researchers", Interspeech
2020. Its networks compute masks of the coefficients of learned filters, so that each is a ``MaskEstimator``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sepnet.artifact.formats.pickled import load_pickled, take_tensors
from sepnet.artifact.formats.published import PublishedModel, Renaming, mask_estimator, rename
from sepnet.artifact.formats.settings import (
    MAX_CHANNELS,
    MAX_LAYERS,
    MAX_SAMPLE_RATE,
    MAX_SOURCES,
    Settings,
)
from sepnet.types import SepnetError

TOOLKIT = "asteroid"
WEIGHTS = "pytorch_model.bin"
FILES = (WEIGHTS,)
KEYS = ("model_name", "model_args", "state_dict")
ACTIVATIONS: dict[str | None, str] = {name: name for name in ("sigmoid", "relu", "softmax")}
ENCODER_ACTIVATIONS: dict[str | None, str] = {None: "", "linear": "", "relu": "relu"}
FILTERBANKS: dict[str | None, str] = {"free": "", "FreeFB": ""}

NORM = re.compile(r"network\.(bottleneck\.0|blocks\.\d+\.body\.[25])\.(weight|bias)")


def _norm(theirs: str, ours: str) -> Renaming:
    """The rules of a norm, whose gain and offset asteroid calls gamma and beta."""
    return [(rf"{theirs}\.gamma", f"{ours}.weight"), (rf"{theirs}\.beta", f"{ours}.bias")]


FILTERS: Renaming = [(r"(encoder|decoder)\.filterbank\._filters", r"filterbank.\1.filterbank._filters")]
BOTTLENECK: Renaming = [
    *_norm(r"masker\.bottleneck\.0", "network.bottleneck.0"),
    (r"masker\.bottleneck\.1\.(weight|bias)", r"network.bottleneck.1.\1"),
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
    model = _separator(settings, network, task, training.get("sample_rate"))
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


def _separator(settings: Settings, network: dict[str, Any], task: str, trained_at: object) -> dict[str, Any]:
    """The constructor call around a network."""
    n_sources = settings.whole("n_src", None, most=MAX_SOURCES)
    n_filters = settings.whole("n_filters", None, most=MAX_CHANNELS)
    window = settings.whole("kernel_size", 16, most=MAX_CHANNELS)
    hop = settings.whole("stride", max(window // 2, 1), most=window)
    default_rate = trained_at if isinstance(trained_at, int | float) else None
    settings.choice("fb_name", "free", FILTERBANKS)
    for width in ("in_chan", "out_chan"):
        if settings.whole(width, n_filters, most=MAX_CHANNELS) != n_filters:
            raise SepnetError(f"{settings.place}: {width} differs from n_filters={n_filters}: not supported")
    return mask_estimator(
        network,
        n_sources=n_sources,
        sample_rate=settings.whole("sample_rate", default_rate, most=MAX_SAMPLE_RATE),
        leaves_out_noise=any(word in task for word in ("noisy", "enh")),
        activation=settings.choice("mask_act", "sigmoid", ACTIVATIONS),
        n_filters=n_filters,
        window_samples=window,
        hop_samples=hop,
        rectified=settings.choice("encoder_activation", None, ENCODER_ACTIVATIONS) == "relu",
    )


def _conv_tasnet(settings: Settings) -> tuple[dict[str, Any], Renaming]:
    n_skip = settings.whole("skip_chan", 128, most=MAX_CHANNELS, least=0)
    n_blocks = settings.whole("n_blocks", 8, most=16)
    n_repeats = settings.whole("n_repeats", 3, most=MAX_LAYERS)
    causal = settings.flag("causal", False)
    settings.only("norm_type", "cgLN" if causal else "gLN", default="gLN")
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
        *BOTTLENECK,
        *_norm(r"masker\.TCN\.(\d+)\.shared_block\.([25])", r"network.blocks.\1.body.\2"),
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
    settings.only("norm_type", "gLN")
    settings.only("bidirectional", True)
    settings.ignore("dropout")
    return {"chunk_frames": chunk, "n_blocks": settings.whole("n_repeats", 6, most=MAX_LAYERS)}


def _gated_output(has_projection: bool) -> Renaming:
    rules: Renaming = [
        (r"masker\.first_out\.0\.weight", "network.out.activation.weight"),
        (r"masker\.first_out\.1\.(weight|bias)", r"network.out.sources.\1"),
        (r"masker\.net_out\.0\.(weight|bias)", r"network.out.value.\1"),
        (r"masker\.net_gate\.0\.(weight|bias)", r"network.out.gate.\1"),
    ]
    if has_projection:
        rules.append((r"masker\.mask_net\.weight", "network.out.projection.weight"))
    return rules


def _dprnn(settings: Settings) -> tuple[dict[str, Any], Renaming]:
    settings.only("rnn_type", "LSTM")
    settings.only("use_mulcat", False)
    settings.whole("num_layers", 1, most=1)
    network = {
        "_target_": "sepnet.networks.dprnn.GatedDPRNN",
        "_partial_": True,
        "n_channels": settings.whole("bn_chan", 128, most=MAX_CHANNELS),
        "n_hidden": settings.whole("hid_size", 128, most=MAX_CHANNELS),
        **_dual_path(settings),
    }
    rules: Renaming = [
        *BOTTLENECK,
        *_gated_output(has_projection=True),
    ]
    for theirs, ours in (("intra", "within"), ("inter", "across")):
        block, target = rf"masker\.net\.(\d+)\.{theirs}_", rf"network.{ours}.\1."
        rules += [
            (rf"{block}RNN\.rnn\.(\w+)", rf"{target}lstm.\2"),
            (rf"{block}linear\.(weight|bias)", rf"{target}linear.\2"),
            *_norm(rf"{block}norm", f"{target}norm"),
        ]
    return network, rules


def _dptnet(settings: Settings) -> tuple[dict[str, Any], Renaming]:
    settings.only("ff_activation", "relu")
    network = {
        "_target_": "sepnet.networks.dptnet.DPTNet",
        "_partial_": True,
        "n_hidden": settings.whole("ff_hid", 256, most=MAX_CHANNELS),
        "n_heads": settings.whole("n_heads", 4, most=MAX_CHANNELS),
        **_dual_path(settings),
    }
    rules: Renaming = [
        *_norm(r"masker\.in_norm", "network.norm"),
        *_gated_output(has_projection=False),
    ]
    for number, ours in ((0, "within"), (1, "across")):
        layer, target = rf"masker\.layers\.(\d+)\.{number}\.", rf"network.{ours}.\1."
        rules += [
            (rf"{layer}mha\.in_proj_(weight|bias)", rf"{target}projections.\2"),
            (rf"{layer}mha\.out_proj\.(weight|bias)", rf"{target}attention_out.\2"),
            (rf"{layer}recurrent\.(\w+)", rf"{target}lstm.\2"),
            (rf"{layer}linear\.(weight|bias)", rf"{target}linear.\2"),
            *_norm(rf"{layer}norm_mha", f"{target}attention_norm"),
            *_norm(rf"{layer}norm_ff", f"{target}norm"),
        ]
    return network, rules


NETWORKS: dict[str, Callable[[Settings], tuple[dict[str, Any], Renaming]]] = {
    "ConvTasNet": _conv_tasnet,
    "DPRNNTasNet": _dprnn,
    "DPTNet": _dptnet,
}


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
