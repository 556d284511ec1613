"""Beginning from existing weights: fine-tuning, or another head on the same network."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from torch import Tensor, nn

from sepnet import artifact
from sepnet.networks.tcn import TCN, ConvBlock
from sepnet.types import SepnetError

NETWORK = "network"  # the attribute of separators, and the key of their settings
PREFIX = f"{NETWORK}."  # of the names of its tensors
MIN_SHARE = 0.1  # of the values that a model learns; with fewer, it would begin anew in all but name


def begin_from(separator: nn.Module, name: str) -> str:
    """Load the weights of another model where their names and shapes agree with the separator's.

    A causal TCN begins with the weights of a centred one for present and earlier frames (``TCN.retimed``),
    and the reverse. A TCN with more repeats, or more blocks in each, begins as the one whose weights it
    loads: what its new blocks add is zero at first (T. Chen, I. Goodfellow, J. Shlens, "Net2Net: accelerating
    learning via knowledge transfer", ICLR 2016). Other weights of the separator keep their initial values.

    Args:
        separator: Its weights are replaced in place.
        name: Shipped weights, a run folder, a checkpoint, or a name on the hub.

    Returns:
        A sentence that says how many tensors were loaded, which parts of the separator are new, and which of
        the other model are not used.

    Raises:
        SepnetError: Less than ``MIN_SHARE`` of the separator's learnt values agree.
    """
    source = artifact.resolve(name)
    path, current = source.path, separator.state_dict()
    artifact.run_folder(path)  # refuses a file of conf/model, and a checkpoint without its settings
    weights, settings = artifact.read_weights(path), artifact.describe(source)
    names = _names(weights, settings, separator)
    available = _retimed({name: weights[old] for name, old in names.items()}, settings, separator)
    matching = {
        key: tensor
        for key, tensor in available.items()
        if key in current and tensor.shape == current[key].shape
    }
    learnt = {key: parameter.numel() for key, parameter in separator.named_parameters()}
    share = sum(size for key, size in learnt.items() if key in matching) / max(1, sum(learnt.values()))
    if share < MIN_SHARE:
        n_matching = len(learnt.keys() & matching.keys())
        raise SepnetError(
            f"{n_matching or 'none'} of the {len(weights)} tensors in {path} fits the model, by name and "
            f"shape, {100 * share:.1f} % of what it learns: leave out model=, to go on with the model of ckpt"
        )
    separator.load_state_dict(matching, strict=False)
    _silence_new_blocks(separator, matching)
    parts = {
        "new": _parts_without(matching, learnt),
        "not used": _parts_without({names[key] for key in matching}, weights),
    }
    rest = "".join(f"; {what}: {', '.join(names)}" for what, names in parts.items() if names)
    return f"beginning from {name}: {len(learnt.keys() & matching.keys())} of {len(learnt)} tensors{rest}"


def _parts_without(loaded: Collection[str], tensors: Iterable[str]) -> list[str]:
    """The largest parts of a model with these tensors, by their names, of which none was loaded."""
    touched = {part for name in loaded for part in _parts_of(name)}
    rest = (name for name in tensors if name not in loaded)
    return list(dict.fromkeys(next(part for part in _parts_of(name) if part not in touched) for name in rest))


def _parts_of(name: str) -> Iterator[str]:
    """``network``, ``network.out`` and ``network.out.bias`` for the last of them."""
    return accumulate(name.split("."), "{}.{}".format)


def _names(
    weights: Mapping[str, Tensor], settings: Mapping[str, Any], separator: nn.Module
) -> dict[str, str]:
    """The names of the tensors of the other model, by those in the separator, where that has a place."""
    network, theirs = getattr(separator, NETWORK, None), _settings_of_tcn(settings)
    if not isinstance(network, TCN) or theirs is None:
        return {name: name for name in weights}
    n_blocks = int(theirs.get("n_blocks", inspect.signature(TCN).parameters["n_blocks"].default))
    placed = {
        name: network.place(name.removeprefix(PREFIX), n_blocks=n_blocks)
        for name in weights
        if name.startswith(PREFIX)
    }
    inside = {PREFIX + place: name for name, place in placed.items() if place is not None}
    return {name: name for name in weights if name not in placed} | inside


def _retimed(
    weights: Mapping[str, Tensor], settings: Mapping[str, Any], separator: nn.Module
) -> Mapping[str, Tensor]:
    """The weights for the separator's TCN, if one of the two is causal and the other is not."""
    network, theirs = getattr(separator, NETWORK, None), _settings_of_tcn(settings)
    if not isinstance(network, TCN) or theirs is None or network.causal == bool(theirs.get("causal", False)):
        return weights
    inside = {key.removeprefix(PREFIX): value for key, value in weights.items() if key.startswith(PREFIX)}
    return {**weights, **{PREFIX + key: value for key, value in network.retimed(inside).items()}}


def _settings_of_tcn(settings: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Those of the network of a model, if it is a TCN."""
    network = settings.get(NETWORK)
    is_tcn = isinstance(network, Mapping) and str(network.get("_target_", "")).endswith(f".{TCN.__name__}")
    return network if is_tcn else None


def _silence_new_blocks(separator: nn.Module, loaded: Collection[str]) -> None:
    """Let the blocks that the loaded TCN did not have add nothing, if it had the others."""
    network = getattr(separator, NETWORK, None)
    if not isinstance(network, TCN):
        return
    names = {block: f"{PREFIX}blocks.{number}." for number, block in enumerate(network.blocks)}
    new = [block for block, name in names.items() if not any(key.startswith(name) for key in loaded)]
    if len(new) == len(names):
        return
    for block in new:
        assert isinstance(block, ConvBlock)
        for parameter in (parameter for conv in block.exits for parameter in conv.parameters()):
            nn.init.zeros_(parameter)
