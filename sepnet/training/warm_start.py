"""Beginning from existing weights: fine-tuning, or another head on the same network."""

from __future__ import annotations

from torch import nn

from sepnet import artifact
from sepnet.types import SepnetError

MIN_SHARE = 0.1  # of the values that a model learns; with fewer, it would begin anew in all but name


def begin_from(separator: nn.Module, name: str) -> str:
    """Load the weights of another model where their names and shapes agree with the separator's.

    Other weights of the separator keep their initial values.

    Args:
        separator: Its weights are replaced in place.
        name: Shipped weights, a run folder, a checkpoint, or a name on the hub.

    Returns:
        A sentence that says how many tensors were loaded, and which were not.

    Raises:
        SepnetError: Less than ``MIN_SHARE`` of the separator's learnt values agree.
    """
    path = artifact.resolve(name).path
    artifact.run_folder(path)  # refuses a file of conf/model, and a checkpoint without its settings
    available, current = artifact.read_weights(path), separator.state_dict()
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
    new = sorted(learnt.keys() - matching.keys())
    rest = f"; new: {', '.join(new)}" if new else ""
    return f"beginning from {name}: {len(learnt) - len(new)} of {len(learnt)} tensors{rest}"
