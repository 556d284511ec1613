"""Models of speechbrain: hyperparams.yaml, and a file of torch.save for each of encoder, masknet and decoder.

M. Ravanelli et al., "SpeechBrain: a general-purpose speech toolkit", arXiv 2106.04624. The YAML says with
tags (``!new:speechbrain.lobes.models.dual_path.Encoder``) what is to be constructed; here it is data that is
compared with what sepnet has.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from sepnet.artifact.formats.pickled import load_pickled, take_tensors
from sepnet.artifact.formats.plain_yaml import MAX_BYTES, read_card, read_plain_yaml
from sepnet.artifact.formats.published import (
    PublishedModel,
    Renaming,
    learned_filterbank,
    mask_estimator,
    rename,
)
from sepnet.artifact.formats.settings import MAX_CHANNELS, MAX_SAMPLE_RATE, Settings
from sepnet.artifact.formats.speechbrain_networks import NETWORKS
from sepnet.artifact.formats.speechbrain_yaml import DUAL_PATH, ConstructorCall, Described
from sepnet.types import SepnetError

TOOLKIT = "speechbrain"
SETTINGS = "hyperparams.yaml"
PARTS = ("encoder", "masknet", "decoder")
FILES = (SETTINGS, *(f"{part}.ckpt" for part in PARTS))
ENCODER: Renaming = [(r"conv1d\.weight", "filterbank.encoder.filterbank._filters")]
DECODER: Renaming = [(r"weight", "filterbank.decoder.filterbank._filters")]


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
    network = NETWORKS[masknet.target](masknet, described)
    masknet.finish()
    if network.n_features != n_filters:
        raise SepnetError(f"{path}: masknet and encoder have different numbers of channels")
    weights = {}
    for part, rules in (("encoder", ENCODER), ("masknet", network.rules), ("decoder", DECODER)):
        file = folder / f"{part}.ckpt"
        weights.update(rename(take_tensors(load_pickled(file), file), rules, file))
    for name, tensor in weights.items():
        if name.endswith((".norm.weight", ".norm.bias")) and tensor.shape[1:] == (1,):
            weights[name] = tensor[:, 0]  # speechbrain's own global norm keeps its weights as (channel, 1)
    for name in weights.keys() & network.feature_major:
        weights[name] = _source_major(weights[name], network.n_sources)
    return PublishedModel(
        architecture=network.call["_target_"].rpartition(".")[2],
        model=mask_estimator(
            network.call,
            n_sources=network.n_sources,
            sample_rate=Settings(values, str(path)).whole("sample_rate", None, most=MAX_SAMPLE_RATE),
            leaves_out_noise=_is_noisy(folder),
            activation=network.activation,
            input_rms=network.input_rms,
            filterbank=learned_filterbank(
                n_filters=n_filters, window_samples=window, hop_samples=window // 2, rectified=True
            ),
        ),
        weights=weights,
    )


def _source_major(tensor: Tensor, n_sources: int) -> Tensor:
    """Put the outputs of the first source first, where those of the first feature were."""
    if tensor.ndim == 0 or tensor.shape[0] % n_sources:
        return tensor  # which is refused for its shape
    shape = (tensor.shape[0] // n_sources, n_sources, *tensor.shape[1:])
    return tensor.reshape(shape).transpose(0, 1).flatten(0, 1)


def _check_decoder(decoder: ConstructorCall, n_filters: int, window: int) -> None:
    for name, expected in (("in_channels", n_filters), ("out_channels", 1), ("kernel_size", window)):
        if decoder.whole(name, None, most=MAX_CHANNELS) != expected:
            raise SepnetError(f"{decoder.place}: {name} does not fit the encoder, whose is {expected}")
    if decoder.whole("stride", 1, most=MAX_CHANNELS) != window // 2:
        raise SepnetError(f"{decoder.place}: the stride is not half the filters' {window} samples")
    decoder.only("bias", False, default=True)
    decoder.finish()


def _is_noisy(folder: Path) -> bool:
    """Whether the model was trained on mixtures with noise: those of WHAM! and WHAMR!, as its card says."""
    head = read_card(folder)
    return any("wham" in str(head.get(key, "")).lower() for key in ("datasets", "tags"))
