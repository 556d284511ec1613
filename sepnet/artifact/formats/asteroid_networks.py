"""The networks of asteroid: what their settings mean in sepnet, and how their tensors are called there."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from sepnet.artifact.formats.published import Renaming, learned_filterbank
from sepnet.artifact.formats.settings import MAX_CHANNELS, MAX_LAYERS, Settings
from sepnet.networks.sudormrf import MAX_SCALES
from sepnet.types import SepnetError

ENCODER_ACTIVATIONS: dict[str | None, str] = {None: "", "linear": "", "relu": "relu"}


def _norm(theirs: str, ours: str) -> Renaming:
    """The rules of a norm, whose gain and offset asteroid calls gamma and beta."""
    return [(rf"{theirs}\.gamma", f"{ours}.weight"), (rf"{theirs}\.beta", f"{ours}.bias")]


BOTTLENECK: Renaming = [
    *_norm(r"masker\.bottleneck\.0", "network.bottleneck.0"),
    (r"masker\.bottleneck\.1\.(weight|bias)", r"network.bottleneck.1.\1"),
]


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


def _sudormrf(settings: Settings) -> tuple[dict[str, Any], Renaming]:
    block = r"masker\.sm\.(\d+)\."
    return _sudormrf_network(settings, improved=False), [
        (r"masker\.ln\.(weight|bias)", r"network.bottleneck.0.\1"),
        (r"masker\.l1\.(weight|bias)", r"network.bottleneck.1.\1"),
        *_sudormrf_block(block),
        (rf"{block}conv_1x1_exp\.conv\.(weight|bias)", r"network.blocks.\1.contract.\2"),
        (rf"{block}conv_1x1_exp\.norm\.(weight|bias)", r"network.blocks.\1.contract_norm.\2"),
        (rf"{block}module_act\.norm\.(weight|bias)", r"network.blocks.\1.after.0.\2"),
        (rf"{block}module_act\.act\.weight", r"network.blocks.\1.after.1.weight"),
        (r"masker\.reshape_before_masks\.(weight|bias)", r"network.out.expand.\1"),
        (r"masker\.m\.(weight|bias)", r"network.out.masks.\1"),
    ]


def _sudormrf_improved(settings: Settings) -> tuple[dict[str, Any], Renaming]:
    block = r"masker\.sm\.(\d+)\."
    return _sudormrf_network(settings, improved=True), [
        *_norm(r"masker\.ln", "network.bottleneck.0"),
        (r"masker\.bottleneck\.(weight|bias)", r"network.bottleneck.1.\1"),
        *_sudormrf_block(block),
        (rf"{block}res_conv\.(weight|bias)", r"network.blocks.\1.contract.\2"),
        (r"masker\.mask_net\.(0|1)\.(weight|bias)", r"network.out.\1.\2"),
    ]


def _sudormrf_network(settings: Settings, *, improved: bool) -> dict[str, Any]:
    return {
        "_target_": "sepnet.networks.sudormrf.SuDoRMRF",
        "_partial_": True,
        "n_channels": settings.whole("bn_chan", 128, most=MAX_CHANNELS),
        "n_blocks": settings.whole("num_blocks", 16, most=MAX_LAYERS),
        "n_scales": settings.whole("upsampling_depth", 4, most=MAX_SCALES),
        "improved": improved,
    }


def _sudormrf_block(block: str) -> Renaming:
    """What both forms of a block have; their norms' weights are called weight and bias, or gamma and beta."""
    rules: Renaming = [
        (rf"{block}proj_1x1\.conv\.(weight|bias)", r"network.blocks.\1.expand.0.\2"),
        (rf"{block}proj_1x1\.act\.weight", r"network.blocks.\1.expand.2.weight"),
        (rf"{block}spp_dw\.(\d+)\.conv\.(weight|bias)", r"network.blocks.\1.scales.\2.0.\3"),
        (rf"{block}final_norm\.act\.weight", r"network.blocks.\1.merge.1.weight"),
    ]
    for theirs, ours in (("weight", "weight"), ("gamma", "weight"), ("bias", "bias"), ("beta", "bias")):
        rules += [
            (rf"{block}proj_1x1\.norm\.{theirs}", rf"network.blocks.\1.expand.1.{ours}"),
            (rf"{block}spp_dw\.(\d+)\.norm\.{theirs}", rf"network.blocks.\1.scales.\2.1.{ours}"),
            (rf"{block}final_norm\.norm\.{theirs}", rf"network.blocks.\1.merge.0.{ours}"),
        ]
    return rules


def _filters_within(settings: Settings, n_filters: int, _: dict[str, Any]) -> dict[str, Any]:
    """Filters within the signal, as most networks have them."""
    window = settings.whole("kernel_size", 16, most=MAX_CHANNELS)
    return learned_filterbank(
        n_filters=n_filters,
        window_samples=window,
        hop_samples=settings.whole("stride", max(window // 2, 1), most=window),
        rectified=settings.choice("encoder_activation", None, ENCODER_ACTIVATIONS) == "relu",
    )


def _centred_filters(
    settings: Settings, n_filters: int, network: dict[str, Any], *, rectified: bool
) -> dict[str, Any]:
    """Filters around multiples of the hop, which SuDoRM-RF has whatever its settings say of an activation."""
    window = settings.whole("kernel_size", 21, most=MAX_CHANNELS, least=2)
    hop = settings.whole("stride", window // 2, most=window)
    if hop != window // 2:
        raise SepnetError(f"{settings.place}: the stride {hop} is not half of kernel_size={window}")
    activation = settings.choice("encoder_activation", None, ENCODER_ACTIVATIONS)
    if activation == "relu" and not rectified:
        raise SepnetError(f"{settings.place}: encoder_activation=relu is not supported")
    return {
        "_target_": "sepnet.dsp.filterbank.CentredFilterbank",
        "n_filters": n_filters,
        "window_samples": window,
        "rectified": rectified,
        "multiple_samples": math.lcm(hop, 2 ** network["n_scales"]),
    }


NETWORKS: dict[str, Callable[[Settings], tuple[dict[str, Any], Renaming]]] = {
    "ConvTasNet": _conv_tasnet,
    "DPRNNTasNet": _dprnn,
    "DPTNet": _dptnet,
    "SuDORMRFNet": _sudormrf,
    "SuDORMRFImprovedNet": _sudormrf_improved,
}
FILTERBANKS: dict[str, Callable[[Settings, int, dict[str, Any]], dict[str, Any]]] = {
    **dict.fromkeys(NETWORKS, _filters_within),
    "SuDORMRFNet": partial(_centred_filters, rectified=True),
    "SuDORMRFImprovedNet": partial(_centred_filters, rectified=False),
}
