"""Models of clearvoice: a file of torch.save with the tensors of MossFormer2 under ``model``.

The settings of its networks are part of the toolkit, not of what is published; here they come from the shapes
of the tensors, except for those that no shape shows: frames of a group, and the rate, which are the same in
all separators of this format.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sepnet.artifact.formats.pickled import load_pickled, take_tensors
from sepnet.artifact.formats.published import (
    PublishedModel,
    Renaming,
    learned_filterbank,
    mask_estimator,
    rename,
)
from sepnet.artifact.formats.settings import MAX_NETWORK_SOURCES
from sepnet.types import SepnetError

TOOLKIT = "clearvoice"
WEIGHTS = "last_best_checkpoint.pt"
FILES = (WEIGHTS,)
SAMPLE_RATE = 16000
GROUP_FRAMES = 256
PREFIX = "module."  # before all names, where the network was trained on several devices


def _projection(theirs: str, ours: str) -> Renaming:
    """The rules of a norm, a layer, and a convolution."""
    return [
        (rf"{theirs}\.mdl\.0\.g", f"{ours}.project.0.gain"),
        (rf"{theirs}\.mdl\.(0|1)\.(weight|bias)", rf"{ours}.project.\2.\3"),
        (rf"{theirs}\.mdl\.3\.sequential\.1\.conv\.weight", f"{ours}.conv.weight"),
    ]


STACK = r"mask_net\.mdl\.intra_mdl\.mossformerM"
LAYERS, MEMORIES = rf"{STACK}\.layers\.(\d+)", rf"{STACK}\.fsmn\.(\d+)"
ATTENTION, MEMORY = r"network.attentions.\1", r"network.memories.\1"
RULES: Renaming = [
    (r"enc\.conv1d\.weight", "filterbank.encoder.filterbank._filters"),
    (r"dec\.weight", "filterbank.decoder.filterbank._filters"),
    (r"mask_net\.norm\.(weight|bias)", r"network.bottleneck.0.\1"),
    (r"mask_net\.conv1d_encoder\.weight", "network.bottleneck.1.weight"),
    (r"mask_net\.pos_enc\.scale", "network.position_scale"),
    (r"mask_net\.pos_enc\.inv_freq", None),  # which is computed
    (rf"{STACK}\.layers\.0\.rotary_pos_emb\.freqs", "network.frequencies"),
    (rf"{LAYERS}\.rotary_pos_emb\.freqs", None),  # the same in all layers
    *_projection(rf"{LAYERS}\.to_hidden", f"{ATTENTION}.values"),
    *_projection(rf"{LAYERS}\.to_qk", f"{ATTENTION}.keys"),
    *_projection(rf"{LAYERS}\.to_out", f"{ATTENTION}.out"),
    (rf"{LAYERS}\.qk_offset_scale\.gamma", f"{ATTENTION}.gains"),
    (rf"{LAYERS}\.qk_offset_scale\.beta", f"{ATTENTION}.offsets"),
    (rf"{MEMORIES}\.conv1\.(0|1)\.(weight|bias)", rf"{MEMORY}.narrow.\2.\3"),
    (rf"{MEMORIES}\.norm1\.(weight|bias)", rf"{MEMORY}.narrow.2.\2"),
    *_projection(rf"{MEMORIES}\.gated_fsmn\.to_u", f"{MEMORY}.remembered"),
    *_projection(rf"{MEMORIES}\.gated_fsmn\.to_v", f"{MEMORY}.gate"),
    (rf"{MEMORIES}\.gated_fsmn\.fsmn\.linear\.(weight|bias)", rf"{MEMORY}.feed_forward.0.\2"),
    (rf"{MEMORIES}\.gated_fsmn\.fsmn\.project\.weight", f"{MEMORY}.feed_forward.2.weight"),
    *(
        (rf"{MEMORIES}\.gated_fsmn\.fsmn\.conv\.{theirs}{number}\.(weight|bias)", rf"{MEMORY}.{ours}.\2")
        for number, filters in ((1, "near"), (2, "far"))
        for theirs, ours in (
            ("conv", f"{filters}.conv"),
            ("norm", f"{filters}.norm"),
            ("prelu", f"{filters}.activation"),
        )
    ),
    (rf"{MEMORIES}\.norm2\.(weight|bias)", rf"{MEMORY}.widen.0.\2"),
    (rf"{MEMORIES}\.conv2\.(weight|bias)", rf"{MEMORY}.widen.1.\2"),
    (r"mask_net\.mdl\.intra_mdl\.norm\.(weight|bias)", r"network.last_norm.\1"),
    (r"mask_net\.mdl\.intra_norm\.(weight|bias)", r"network.skip_norm.\1"),
    (r"mask_net\.prelu\.weight", "network.sources.0.weight"),
    (r"mask_net\.conv1d_out\.(weight|bias)", r"network.sources.1.\1"),
    (r"mask_net\.output\.0\.(weight|bias)", r"network.out.value.\1"),
    (r"mask_net\.output_gate\.0\.(weight|bias)", r"network.out.gate.\1"),
    (r"mask_net\.conv1_decoder\.weight", "network.out.projection.weight"),
]
POINTWISE = (".narrow.0.weight", ".widen.1.weight", ".near.conv.weight", ".far.conv.weight")
"""Tensors that have another axis, of length 1, at the end."""


def recognises(folder: Path) -> bool:
    """Whether the folder holds the file of a model of clearvoice."""
    return (folder / WEIGHTS).is_file()


def read(folder: Path) -> PublishedModel:
    """Read the model of a folder.

    Args:
        folder: Holds last_best_checkpoint.pt.

    Returns:
        The model.

    Raises:
        SepnetError: The file can't be read, or holds other tensors than those of MossFormer2.
    """
    path = folder / WEIGHTS
    package = load_pickled(path)
    if isinstance(package, Mapping) and "model" in package:
        package = package["model"]
    tensors = {name.removeprefix(PREFIX): each for name, each in take_tensors(package, path).items()}
    weights = rename(tensors, RULES, path)
    for name, tensor in weights.items():
        if name.endswith(POINTWISE) and tensor.shape[-1:] == (1,):
            weights[name] = tensor.squeeze(-1)
    size = Sizes(weights, path)
    n_filters, window = size("filterbank.encoder.filterbank._filters", 0, 2)
    n_sources = size("network.sources.1.bias", 0)[0] // size("network.out.value.bias", 0)[0]
    if not 1 <= n_sources <= MAX_NETWORK_SOURCES:
        raise SepnetError(
            f"{path} holds a network for {n_sources} sources: at most {MAX_NETWORK_SOURCES} are allowed"
        )
    return PublishedModel(
        architecture="MossFormer2",
        model=mask_estimator(
            _network(weights, size),
            n_sources=n_sources,
            sample_rate=SAMPLE_RATE,
            leaves_out_noise=False,
            activation="relu",
            filterbank=learned_filterbank(
                n_filters=n_filters, window_samples=window, hop_samples=max(window // 2, 1), rectified=True
            ),
        ),
        weights=weights,
    )


class Sizes:
    """The shapes of tensors, by name.

    Args:
        weights: The tensors.
        path: The file, for the message.
    """

    def __init__(self, weights: Mapping[str, Tensor], path: Path) -> None:
        self.weights, self.path = weights, path

    def __call__(self, name: str, *axes: int) -> list[int]:
        """The lengths of axes; raise SepnetError where the tensor or the axis is not there."""
        shape = self.weights[name].shape if name in self.weights else ()
        if len(shape) <= max(axes) or 0 in shape:
            raise SepnetError(
                f"{self.path} holds no MossFormer2: it lacks {name}, or its shape is {tuple(shape)}"
            )
        return [shape[axis] for axis in axes]


def _network(weights: Mapping[str, Tensor], size: Sizes) -> dict[str, Any]:
    """The constructor call of the network, from the shapes of its tensors."""
    n_channels = size("network.bottleneck.1.weight", 0)[0]
    n_taps = size("network.memories.0.near.conv.weight", 2)[0]
    return {
        "_target_": "sepnet.networks.mossformer2.MossFormer2",
        "_partial_": True,
        "n_channels": n_channels,
        "n_layers": sum(name.endswith(".gains") for name in weights),
        "n_keys": size("network.attentions.0.gains", 1)[0],
        "n_memory": size("network.memories.0.narrow.0.weight", 0)[0],
        "expansion": max(size("network.attentions.0.values.project.1.weight", 0)[0] // n_channels, 1),
        "group_frames": GROUP_FRAMES,
        "memory_frames": (n_taps + 1) // 2,
    }
