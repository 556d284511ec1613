"""The networks of speechbrain: what their settings mean in sepnet, and how their tensors are called there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sepnet.artifact.formats.published import Renaming
from sepnet.artifact.formats.settings import MAX_CHANNELS, MAX_LAYERS, MAX_NETWORK_SOURCES
from sepnet.artifact.formats.speechbrain_yaml import DUAL_PATH, MODELS, ConstructorCall, Described
from sepnet.types import SepnetError

RESEPFORMER = f"{MODELS}resepformer."
RESEPFORMER_RMS = 0.12
"""RE-SepFormer does not normalise its input, and was trained on WSJ0-2mix, whose mixtures have their peak at
0.9: this is the median RMS of 200 such mixtures of two voices of LibriSpeech."""
ACTIVATIONS: dict[str | None, str] = {name: name for name in ("sigmoid", "relu")}


@dataclass(frozen=True)
class MaskNetwork:
    """A network that makes masks, in sepnet's terms.

    Attributes:
        call: Its constructor call, as in conf/model.
        rules: How its tensors are called.
        n_sources: Number of masks.
        n_features: Channels of a mask.
        activation: What bounds the masks.
        input_rms: The RMS of the mixtures that it expects; any where it normalises its input.
        feature_major: The tensors of its last layer, by sepnet's names, if that gives the masks of all
            sources for the first feature first; sepnet's give all features of the first source first.
    """

    call: dict[str, Any]
    rules: Renaming
    n_sources: int
    n_features: int
    activation: str = "relu"
    input_rms: float = 1.0
    feature_major: frozenset[str] = frozenset()


def _sepformer(masknet: ConstructorCall, described: Described) -> MaskNetwork:
    block = (f"{DUAL_PATH}SBTransformerBlock",)
    within = described.constructed(masknet.arguments, "intra_model", block)
    across = described.constructed(masknet.arguments, "inter_model", block)
    masknet.ignore("intra_model", "inter_model", "max_length")
    n_channels = masknet.whole("out_channels", None, most=MAX_CHANNELS)
    transformers = [_transformer(each, n_channels) for each in (within, across)]
    if transformers[0] != transformers[1]:
        raise SepnetError(f"{masknet.place}: the transformers within and across chunks differ: not supported")
    masknet.only("norm", "ln")
    masknet.only("linear_layer_after_inter_intra", False, default=True)
    masknet.only("use_global_pos_enc", False)
    network = {
        "_target_": "sepnet.networks.sepformer.SepFormer",
        "_partial_": True,
        "n_channels": n_channels,
        **transformers[0],
        "chunk_frames": masknet.whole("K", 200, most=MAX_CHANNELS),
        "n_blocks": masknet.whole("num_layers", 1, most=MAX_LAYERS),
        "skip_within": masknet.flag("skip_around_intra", True),
    }
    rules: Renaming = [
        (r"norm\.(weight|bias)", r"network.bottleneck.0.\1"),
        (r"conv1d\.weight", "network.bottleneck.1.weight"),
        *OUTPUT,
    ]
    for theirs, ours in (("intra", "within"), ("inter", "across")):
        model = rf"dual_mdl\.(\d+)\.{theirs}_mdl\."
        rules += [
            *_transformer_rules(model, rf"network.{ours}.\1."),
            (rf"dual_mdl\.(\d+)\.{theirs}_norm\.(weight|bias)", rf"network.{ours}_norms.\1.\2"),
        ]
    return MaskNetwork(
        call=network,
        rules=rules,
        n_sources=masknet.whole("num_spks", 2, most=MAX_NETWORK_SOURCES),
        n_features=masknet.whole("in_channels", None, most=MAX_CHANNELS),
    )


def _resepformer(masknet: ConstructorCall, described: Described) -> MaskNetwork:
    block = (f"{RESEPFORMER}SBTransformerBlock_wnormandskip",)
    within = described.constructed(masknet.arguments, "seg_model", block)
    memory = described.constructed(masknet.arguments, "mem_model", block)
    masknet.ignore("seg_model", "mem_model", "unit", "dropout")
    n_features = masknet.whole("input_dim", None, most=MAX_CHANNELS)
    skips = [each.flag("use_skip", True) for each in (within, memory)]
    for each in (within, memory):
        each.only("use_norm", True)
        each.only("norm_type", "gln")
        each.only("causal", False)
    transformers = [_transformer(each, n_features) for each in (within, memory)]
    if transformers[0] != transformers[1]:
        raise SepnetError(f"{masknet.place}: the transformers within and across chunks differ: not supported")
    masknet.only("causal", False, default=True)
    masknet.only("mem_type", "av", default="hc")
    network = {
        "_target_": "sepnet.networks.resepformer.ReSepFormer",
        "_partial_": True,
        **transformers[0],
        "chunk_frames": masknet.whole("segment_size", 20, most=MAX_CHANNELS),
        "n_blocks": masknet.whole("layer", 3, most=MAX_LAYERS),
        "skip_within": skips[0],
        "skip_memory": skips[1],
    }
    rules: Renaming = [(r"model\.output_fc\.(0|1)\.(weight|bias)", r"network.out.\1.\2")]
    for theirs, ours in (("seg", "within"), ("mem", "memories")):
        model = rf"model\.{theirs}_model\.(\d+)\."
        rules += [
            *_transformer_rules(model, rf"network.{ours}.\1.transformer."),
            (rf"{model}norm\.(weight|bias)", rf"network.{ours}.\1.norm.\2"),
        ]
    return MaskNetwork(
        call=network,
        rules=rules,
        n_sources=masknet.whole("num_spk", 2, most=MAX_NETWORK_SOURCES),
        n_features=n_features,
        activation=masknet.choice("nonlinear", "relu", ACTIVATIONS),
        input_rms=RESEPFORMER_RMS,
        feature_major=frozenset({"network.out.1.weight", "network.out.1.bias"}),
    )


def _transformer_rules(model: str, target: str) -> Renaming:
    """The rules of a transformer, whose pattern and target have the number of its block as a group."""
    layer, ours = rf"{model}mdl\.layers\.(\d+)\.", rf"{target}layers.\2."
    return [
        (rf"{model}pos_enc\.pe", None),  # sinusoids, which are computed
        (rf"{layer}self_att\.att\.in_proj_(weight|bias)", rf"{ours}projections.\3"),
        (rf"{layer}self_att\.att\.out_proj\.(weight|bias)", rf"{ours}attention_out.\3"),
        (rf"{layer}norm1\.norm\.(weight|bias)", rf"{ours}attention_norm.\3"),
        (rf"{layer}norm2\.norm\.(weight|bias)", rf"{ours}feed_forward.0.\3"),
        (rf"{layer}pos_ffn\.ffn\.0\.(weight|bias)", rf"{ours}feed_forward.1.\3"),
        (rf"{layer}pos_ffn\.ffn\.3\.(weight|bias)", rf"{ours}feed_forward.4.\3"),
        (rf"{model}mdl\.norm\.norm\.(weight|bias)", rf"{target}norm.\2"),
    ]


def _transformer(settings: ConstructorCall, n_channels: int) -> dict[str, Any]:
    """The settings of a transformer, by sepnet's names."""
    if settings.whole("d_model", None, most=MAX_CHANNELS) != n_channels:
        raise SepnetError(f"{settings.place}: d_model differs from the {n_channels} channels of the masknet")
    settings.only("norm_before", True, default=False)
    settings.only("activation", "relu")
    settings.only("attention_type", "regularMHA")
    settings.ignore("dropout")
    call = {
        "n_layers": settings.whole("num_layers", None, most=MAX_LAYERS),
        "n_heads": settings.whole("nhead", None, most=MAX_CHANNELS),
        "n_hidden": settings.whole("d_ffn", 2048, most=4 * MAX_CHANNELS),
        "positions": settings.flag("use_positional_encoding", False),
    }
    settings.finish()
    return call


OUTPUT: Renaming = [
    (r"prelu\.weight", "network.out.activation.weight"),
    (r"conv2d\.(weight|bias)", r"network.out.sources.\1"),
    (r"output\.0\.(weight|bias)", r"network.out.value.\1"),
    (r"output_gate\.0\.(weight|bias)", r"network.out.gate.\1"),
    (r"end_conv1x1\.weight", "network.out.projection.weight"),
]
NETWORKS: dict[str, Callable[[ConstructorCall, Described], MaskNetwork]] = {
    f"{DUAL_PATH}Dual_Path_Model": _sepformer,
    f"{RESEPFORMER}ResourceEfficientSeparator": _resepformer,
}
