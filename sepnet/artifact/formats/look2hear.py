"""Models of look2hear, as the hub's mixin for PyTorch writes them: config.json, and tensors in safetensors.

The settings are the arguments of the network. Of its networks TIGER is read (M. Xu et al., ICLR 2025).
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sepnet.artifact.build import shorten
from sepnet.artifact.formats.plain_yaml import MAX_BYTES
from sepnet.artifact.formats.published import PublishedModel, Renaming, mask_estimator, rename
from sepnet.artifact.formats.settings import (
    MAX_CHANNELS,
    MAX_LAYERS,
    MAX_NETWORK_SOURCES,
    MAX_SAMPLE_RATE,
    Settings,
)
from sepnet.types import SepnetError

TOOLKIT = "look2hear"
SETTINGS, WEIGHTS = "config.json", "model.safetensors"
FILES = (SETTINGS, WEIGHTS)
KEYS = frozenset({"att_n_head", "num_blocks", "upsampling_depth", "win"})  # which tell TIGER from others
PARTS = (("local_embedding", "fine"), ("global_embedding", "value"), ("global_act", "gate"))
HEAD = re.compile(r"(.+)\.head(\d+)\.(.+)")


def _path(theirs: str, ours: str) -> Renaming:
    """The rules of a block along one of the axes."""
    their, our = rf"separator\.{theirs}_path", f"network.{ours}"
    scales, heads = f"{our}.multi_scale", f"{our}.attention"
    injections = [
        (
            rf"{their}\.0\.{group}\.(\d+)\.{part}\.{layer}\.(weight|bias)",
            rf"{scales}.{our_group}.\1.{our_part}.{number}.\2",
        )
        for group, our_group in (("loc_glo_fus", "injections"), ("last_layer", "combinations"))
        for part, our_part in PARTS
        for layer, number in (("conv", 0), ("norm", 1))
    ]
    projections = [
        (rf"{their}\.1\.{place}\.{part}", rf"{heads}.{our_place}.{our_part}")
        for place, our_place in (
            (r"Queries\.(\d+)", r"queries.head\1"),
            (r"Keys\.(\d+)", r"keys.head\1"),
            (r"Values\.(\d+)", r"values.head\1"),
            ("attn_concat_proj()", r"out.head0\1"),
        )
        for part, our_part in (
            (r"conv\.(weight|bias)", r"linear.\2"),
            (r"act\.weight()", r"slope\2"),
            (r"norm\.gamma()", r"norm.gain\2"),
            (r"norm\.beta()", r"norm.offset\2"),
        )
    ]
    return [
        (rf"{their}\.0\.proj_1x1\.conv\.(weight|bias)", rf"{scales}.project.0.\1"),
        (rf"{their}\.0\.proj_1x1\.norm\.(weight|bias)", rf"{scales}.project.1.\1"),
        (rf"{their}\.0\.proj_1x1\.act\.weight", f"{scales}.project.2.weight"),
        (rf"{their}\.0\.spp_dw\.(\d+)\.conv\.(weight|bias)", rf"{scales}.scales.\1.0.\2"),
        (rf"{their}\.0\.spp_dw\.(\d+)\.norm\.(weight|bias)", rf"{scales}.scales.\1.1.\2"),
        (rf"{their}\.0\.globalatt\.fc1\.conv\.weight", f"{scales}.mean.0.weight"),
        (rf"{their}\.0\.globalatt\.fc1\.norm\.(weight|bias)", rf"{scales}.mean.1.\1"),
        (rf"{their}\.0\.globalatt\.dwconv\.(weight|bias)", rf"{scales}.mean.2.\1"),
        (rf"{their}\.0\.globalatt\.fc2\.conv\.weight", f"{scales}.mean.5.weight"),
        (rf"{their}\.0\.globalatt\.fc2\.norm\.(weight|bias)", rf"{scales}.mean.6.\1"),
        (rf"{their}\.0\.res_conv\.(weight|bias)", rf"{scales}.out.\1"),
        (rf"{their}\.2\.gamma", f"{our}.norm.gain"),
        (rf"{their}\.2\.beta", f"{our}.norm.offset"),
        *injections,
        *projections,
    ]


RULES: Renaming = [
    (r"BN\.(\d+)\.(0|1)\.(weight|bias)", r"network.inlets.\1.\2.\3"),
    (r"mask\.(\d+)\.(0|1)\.(weight|bias)", r"network.outlets.\1.\2.\3"),
    (r"separator\.concat_block\.(0|1)\.(weight|bias)", r"network.again.\1.\2"),
    *_path("freq", "along_bands"),
    *_path("frame", "along_frames"),
]


def recognises(folder: Path) -> bool:
    """Whether the folder holds the files of TIGER."""
    if not all((folder / name).is_file() for name in FILES):
        return False
    try:
        settings = _read_settings(folder / SETTINGS)
    except SepnetError:  # of something else, then
        return False
    return isinstance(settings, dict) and settings.keys() >= KEYS


def read(folder: Path) -> PublishedModel:
    """Read the model of a folder.

    Args:
        folder: Holds config.json and model.safetensors.

    Returns:
        The model.

    Raises:
        SepnetError: A file can't be read, or holds other tensors or settings than those of TIGER.
    """
    settings = Settings(_read_settings(folder / SETTINGS), str(folder / SETTINGS))
    settings.ignore("att_kernel_size", "att_stride")  # which the network does not use
    sample_rate = settings.whole("sample_rate", 44100, most=MAX_SAMPLE_RATE)
    n_scales = settings.whole("upsampling_depth", 4, most=MAX_LAYERS, least=2)
    network = {
        "_target_": "sepnet.networks.tiger.Tiger",
        "_partial_": True,
        "sample_rate": sample_rate,
        "n_channels": settings.whole("out_channels", 128, most=MAX_CHANNELS),
        "n_hidden": settings.whole("in_channels", 512, most=MAX_CHANNELS),
        "n_scales": n_scales,
        "n_heads": settings.whole("att_n_head", 4, most=MAX_CHANNELS),
        "n_keys": settings.whole("att_hid_chan", 4, most=MAX_CHANNELS),
        "n_repeats": settings.whole("num_blocks", 16, most=MAX_LAYERS),
    }
    filterbank = {
        "_target_": "sepnet.dsp.mirrored_stft.MirroredSTFT",
        "window_samples": settings.whole("win", 2048, most=MAX_CHANNELS),
        "hop_samples": settings.whole("stride", 512, most=MAX_CHANNELS),
    }
    model = mask_estimator(
        network,
        n_sources=settings.whole("num_sources", 2, most=MAX_NETWORK_SOURCES),
        sample_rate=sample_rate,
        leaves_out_noise=False,  # the masks sum to 1
        activation="complex_unbounded",
        filterbank=filterbank,
    )
    settings.finish()
    path = folder / WEIGHTS
    weights = _join_heads(rename(_read_tensors(path), RULES, path), path)
    if n_scales > 2:  # the last injection counts for nothing
        unused = f".injections.{n_scales - 1}."
        weights = {name: tensor for name, tensor in weights.items() if unused not in name}
    return PublishedModel(architecture="TIGER", model=model, weights=weights)


def _read_settings(path: Path) -> object:
    if path.stat().st_size > MAX_BYTES:
        raise SepnetError(f"{path} has {path.stat().st_size / 1e6:.1f} MB, too much for settings: refused")
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise SepnetError(f"{path} can't be read as JSON ({shorten(error)[:80]}): fetch it again") from error


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise SepnetError(
            f"{path} can't be read as safetensors ({shorten(error)[:80]}): fetch it again, it is damaged or "
            "incomplete"
        ) from error


def _join_heads(weights: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """One tensor for all heads of an attention, and vectors of channels without an axis of the batch."""
    joined, heads = dict[str, Tensor](), defaultdict[str, dict[int, Tensor]](dict)
    for name, tensor in weights.items():
        if tensor.ndim == 4 and name.endswith((".gain", ".offset")):
            tensor = tensor[0]
        if match := HEAD.fullmatch(name):
            tensor = tensor[:, None, None] if match[3] == "slope" else tensor
            heads[f"{match[1]}.{match[3]}"][int(match[2])] = tensor
        else:
            joined[name] = tensor
    for name, parts in heads.items():
        try:
            join = torch.cat if ".linear." in name else torch.stack
            joined[name] = join([parts[number] for number in range(len(parts))])
        except (KeyError, RuntimeError, IndexError) as error:
            raise SepnetError(f"{path} does not hold the same tensors for all heads of {name}") from error
    return joined
