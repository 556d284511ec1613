"""Beginning from weights that are there: fine-tuning, or another head on the same network."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf
from torch import nn

from sepnet import artifact
from sepnet.types import SepnetError

DEFAULT = "pit"  # of conf/train.yaml
LEAST_SHARE = 0.1  # of the values that a model learns: with fewer it would begin anew, all but for the name


def adopt_model(config: DictConfig, overrides: list[str], *, chosen: str | None = None) -> DictConfig:
    """The configuration with the model of ``config.ckpt`` in place of the default one.

    overrides: what the command line said. chosen: the file of conf/model that the configuration was composed
    with. A model that ``model=...`` names is kept, and so is one other than the default that an experiment
    names. ``model.x=...`` (``+model.x=...`` where the default one has no x) changes the adopted one.
    """
    if any(word.startswith("model=") for word in overrides) or chosen not in (None, DEFAULT):
        return config
    folder = artifact.resolve(config.ckpt).folder
    words = [word.lstrip("+") for word in overrides]  # ``+model.x``: a setting that the default model lacks
    changes = OmegaConf.from_dotlist([word for word in words if word.startswith("model.")])
    adopted = config.copy()
    OmegaConf.set_struct(adopted, False)
    adopted.model = OmegaConf.merge(artifact.read_config(folder).model, changes.get("model", {}))
    OmegaConf.set_struct(adopted, True)
    return adopted


def begin_from(separator: nn.Module, name: str) -> str:
    """Give a separator the weights of a shipped name, a run folder or a checkpoint that fit it.

    Those fit whose name and shape agree; the others stay as they were drawn. Returns a sentence that
    tells them. Raises SepnetError where they would be less than ``LEAST_SHARE`` of what the separator learns.
    """
    path = artifact.resolve(name).path
    artifact.run_folder(path)  # refuses a file of conf/model, and a checkpoint without its settings
    found, wanted = artifact.read_weights(path), separator.state_dict()
    fitting = {
        key: tensor for key, tensor in found.items() if key in wanted and tensor.shape == wanted[key].shape
    }
    learnt = {key: parameter.numel() for key, parameter in separator.named_parameters()}
    share = sum(size for key, size in learnt.items() if key in fitting) / max(1, sum(learnt.values()))
    if share < LEAST_SHARE:
        fit = len(learnt.keys() & fitting.keys())
        raise SepnetError(
            f"{fit or 'none'} of the {len(found)} tensors in {path} fits the model, by name and shape, "
            f"{100 * share:.1f} % of what it learns: leave out model=, to go on with the one that they "
            "belong to"
        )
    separator.load_state_dict(fitting, strict=False)
    new = sorted(learnt.keys() - fitting.keys())
    rest = f"; new: {', '.join(new)}" if new else ""
    return f"beginning from {name}: {len(learnt) - len(new)} of {len(learnt)} tensors{rest}"
