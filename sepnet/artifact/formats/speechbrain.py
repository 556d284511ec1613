"""Models of speechbrain: hyperparams.yaml, and a file of torch.save for each of encoder, masknet and decoder.

M. Ravanelli et al., "SpeechBrain: a general-purpose speech toolkit", arXiv 2106.04624. The YAML says with
tags (``!new:speechbrain.lobes.models.dual_path.Encoder``) what is to be constructed; here it is data that is
compared with what sepnet has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sepnet.artifact.build import shorten
from sepnet.artifact.formats.pickled import load_pickled, take_tensors
from sepnet.artifact.formats.plain_yaml import MAX_BYTES, Tagged, read_card, read_plain_yaml
from sepnet.artifact.formats.published import PublishedModel, Renaming, mask_estimator, rename
from sepnet.artifact.formats.settings import (
    MAX_CHANNELS,
    MAX_LAYERS,
    MAX_SAMPLE_RATE,
    MAX_SOURCES,
    Settings,
)
from sepnet.types import SepnetError

TOOLKIT = "speechbrain"
SETTINGS = "hyperparams.yaml"
PARTS = ("encoder", "masknet", "decoder")
FILES = (SETTINGS, *(f"{part}.ckpt" for part in PARTS))
DUAL_PATH = "speechbrain.lobes.models.dual_path."
MAX_REFERENCES = 20  # from a setting to the value that it refers to


def recognises(folder: Path) -> bool:
    """Whether the folder holds the files of a separator of speechbrain."""
    return all((folder / name).is_file() for name in FILES)


def read(folder: Path) -> PublishedModel:
    """Read the model of a folder.

    Args:
        folder: Holds ``FILES``.

    Returns:
        The model.

    Raises:
        SepnetError: A file can't be read, or describes a network or a setting that sepnet does not have.
    """
    path = folder / SETTINGS
    if path.stat().st_size > MAX_BYTES:
        raise SepnetError(f"{path} has {path.stat().st_size / 1e6:.1f} MB, too much for settings: refused")
    values = read_plain_yaml(path.read_text(errors="replace"), path)
    described = Described(values, path)
    modules = described.mapping("modules")
    encoder, decoder = (
        described.constructed(modules, part, (DUAL_PATH + part.title(),)) for part in ("encoder", "decoder")
    )
    masknet = described.constructed(modules, "masknet", tuple(NETWORKS))
    n_filters = encoder.whole("out_channels", 64, most=MAX_CHANNELS)
    window = encoder.whole("kernel_size", 2, most=MAX_CHANNELS)
    _check_decoder(decoder, n_filters, window)
    encoder.whole("in_channels", 1, most=1)
    encoder.finish()
    n_sources = masknet.whole("num_spks", 2, most=MAX_SOURCES)
    if masknet.whole("in_channels", n_filters, most=MAX_CHANNELS) != n_filters:
        raise SepnetError(f"{path}: masknet and encoder have different numbers of channels")
    network, rules = NETWORKS[masknet.target](masknet, described)
    masknet.finish()
    weights = {}
    for part, part_rules in (("encoder", ENCODER), ("masknet", rules), ("decoder", DECODER)):
        file = folder / f"{part}.ckpt"
        weights.update(rename(take_tensors(load_pickled(file), file), part_rules, file))
    sample_rate = Settings(values, str(path)).whole("sample_rate", None, most=MAX_SAMPLE_RATE)
    return PublishedModel(
        architecture=network["_target_"].rpartition(".")[2],
        model=mask_estimator(
            network,
            n_sources=n_sources,
            sample_rate=sample_rate,
            leaves_out_noise=_is_noisy(folder),
            activation="relu",
            n_filters=n_filters,
            window_samples=window,
            hop_samples=window // 2,
            rectified=True,
        ),
        weights=weights,
    )


class Described:
    """What a hyperparams.yaml describes, with its references followed.

    Args:
        values: The content of the file.
        path: The file, for messages.
    """

    def __init__(self, values: Mapping[str, Any], path: Path) -> None:
        self.values, self.path = values, path

    def follow(self, value: object) -> object:
        """Replace ``!ref <name>`` by the value of that name."""
        for _ in range(MAX_REFERENCES):
            if not isinstance(value, Tagged) or value.tag != "ref":
                return value
            name = str(value.value).strip()
            if not (name.startswith("<") and name.endswith(">") and name[1:-1] in self.values):
                raise SepnetError(f"{self.path}: the reference {shorten(name)} leads nowhere: refused")
            value = self.values[name[1:-1]]
        raise SepnetError(f"{self.path}: a reference leads in a circle, or through too many others")

    def mapping(self, name: str) -> Mapping[str, Any]:
        """The mapping of a name."""
        value = self.follow(self.values.get(name))
        if not isinstance(value, Mapping):
            raise SepnetError(f"{self.path} has no {name} by name: it describes no separator of speechbrain")
        return value

    def constructed(self, values: Mapping[str, Any], name: str, targets: tuple[str, ...]) -> ConstructorCall:
        """The constructor call of a name, which has to be of one of several classes."""
        value = self.follow(values.get(name))
        if (
            not isinstance(value, Tagged)
            or not isinstance(value.value, Mapping)
            or not value.tag.startswith("new:")
        ):
            raise SepnetError(f"{self.path}: {name} is not made by !new: of a class")
        target = value.tag.removeprefix("new:")
        if target not in targets:
            raise SepnetError(
                f"{self.path}: {name} is a {shorten(target)}, which sepnet does not have: it reads "
                f"{', '.join(targets)}"
            )
        arguments = {key: self.follow(each) for key, each in value.value.items()}
        return ConstructorCall(target, arguments, f"{self.path}, {target.rpartition('.')[2]}")


class ConstructorCall(Settings):
    """The arguments of a constructor.

    Args:
        target: Its name, with those of its modules.
        arguments: By name, with references followed.
        place: Where they stand, for messages.
    """

    def __init__(self, target: str, arguments: Mapping[str, Any], place: str) -> None:
        super().__init__(arguments, place)
        self.target, self.arguments = target, arguments


def _check_decoder(decoder: ConstructorCall, n_filters: int, window: int) -> None:
    for name, expected in (("in_channels", n_filters), ("out_channels", 1), ("kernel_size", window)):
        if decoder.whole(name, None, most=MAX_CHANNELS) != expected:
            raise SepnetError(f"{decoder.place}: {name} does not fit the encoder, whose is {expected}")
    if decoder.whole("stride", 1, most=MAX_CHANNELS) != window // 2:
        raise SepnetError(f"{decoder.place}: the stride is not half the filters' {window} samples")
    decoder.only("bias", False, default=True)
    decoder.finish()


def _sepformer(masknet: ConstructorCall, described: Described) -> tuple[dict[str, Any], Renaming]:
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
        layer = rf"{model}mdl\.layers\.(\d+)\."
        target = rf"network.{ours}.\1.layers.\2."
        rules += [
            (rf"{model}pos_enc\.pe", None),  # sinusoids, which are computed
            (rf"{layer}self_att\.att\.in_proj_(weight|bias)", rf"{target}projections.\3"),
            (rf"{layer}self_att\.att\.out_proj\.(weight|bias)", rf"{target}attention_out.\3"),
            (rf"{layer}norm1\.norm\.(weight|bias)", rf"{target}attention_norm.\3"),
            (rf"{layer}norm2\.norm\.(weight|bias)", rf"{target}feed_forward.0.\3"),
            (rf"{layer}pos_ffn\.ffn\.0\.(weight|bias)", rf"{target}feed_forward.1.\3"),
            (rf"{layer}pos_ffn\.ffn\.3\.(weight|bias)", rf"{target}feed_forward.4.\3"),
            (rf"{model}mdl\.norm\.norm\.(weight|bias)", rf"network.{ours}.\1.norm.\2"),
            (rf"dual_mdl\.(\d+)\.{theirs}_norm\.(weight|bias)", rf"network.{ours}_norms.\1.\2"),
        ]
    return network, rules


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


ENCODER: Renaming = [(r"conv1d\.weight", "filterbank.encoder.filterbank._filters")]
DECODER: Renaming = [(r"weight", "filterbank.decoder.filterbank._filters")]
OUTPUT: Renaming = [
    (r"prelu\.weight", "network.out.activation.weight"),
    (r"conv2d\.(weight|bias)", r"network.out.sources.\1"),
    (r"output\.0\.(weight|bias)", r"network.out.value.\1"),
    (r"output_gate\.0\.(weight|bias)", r"network.out.gate.\1"),
    (r"end_conv1x1\.weight", "network.out.projection.weight"),
]
NETWORKS: dict[str, Callable[[ConstructorCall, Described], tuple[dict[str, Any], Renaming]]] = {
    f"{DUAL_PATH}Dual_Path_Model": _sepformer
}


def _is_noisy(folder: Path) -> bool:
    """Whether the model was trained on mixtures with noise: those of WHAM! and WHAMR!, as its card says."""
    head = read_card(folder)
    return any("wham" in str(head.get(key, "")).lower() for key in ("datasets", "tags"))
