"""Beginning from existing weights: fine-tuning, or another head on the same network."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from torch import Tensor, nn

from sepnet import artifact
from sepnet.networks.tcn import TCN, ConvBlock
from sepnet.types import SepnetError

NETWORK = "network"  # the attribute of separators, and the key of their settings
MIN_SHARE = 0.1  # of the values that a model learns; with fewer, it would begin anew in all but name


def begin_from(separator: nn.Module, name: str) -> str:
    """Load the weights of another model where their names and shapes agree with the separator's.

    A causal TCN begins with the weights of a centred one for present and earlier frames (``TCN.retimed``),
    and the reverse. A deeper TCN begins as the one whose weights it loads: what its new blocks add is zero
    at first (T. Chen, I. Goodfellow, J. Shlens, "Net2Net: accelerating learning via knowledge transfer",
    ICLR 2016). Other weights of the separator keep their initial values.

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
    available = _retimed(artifact.read_weights(path), artifact.describe(source), separator)
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
            f"{n_matching or 'none'} of the {len(available)} tensors in {path} fits the model, by name and "
            f"shape, {100 * share:.1f} % of what it learns: leave out model=, to go on with the model of ckpt"
        )
    separator.load_state_dict(matching, strict=False)
    _silence_new_blocks(separator, matching)
    parts = {"new": _parts_without(matching, learnt), "not used": _parts_without(matching, available)}
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


def _retimed(
    weights: Mapping[str, Tensor], settings: Mapping[str, Any], separator: nn.Module
) -> Mapping[str, Tensor]:
    """The weights for the separator's TCN, if one of the two is causal and the other is not."""
    network, theirs = getattr(separator, NETWORK, None), settings.get(NETWORK)
    was_causal = isinstance(theirs, Mapping) and bool(theirs.get("causal", False))
    if not isinstance(network, TCN) or network.causal == was_causal:
        return weights
    prefix = f"{NETWORK}."
    inside = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    return {**weights, **{prefix + key: value for key, value in network.retimed(inside).items()}}


def _silence_new_blocks(separator: nn.Module, loaded: Mapping[str, Tensor]) -> None:
    """Let blocks that the loaded TCN did not have add nothing, if it had the others."""
    network = getattr(separator, NETWORK, None)
    if not isinstance(network, TCN):
        return
    names = {module: name for name, module in separator.named_modules()}
    exits = [conv for block in network.blocks if isinstance(block, ConvBlock) for conv in block.exits]
    new = [conv for conv in exits if f"{names[conv]}.weight" not in loaded]
    if len(new) < len(exits):
        for parameter in (parameter for conv in new for parameter in conv.parameters()):
            nn.init.zeros_(parameter)
