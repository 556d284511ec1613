"""The model card of a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn


def model_card(
    name: str,
    separator: nn.Module,
    config: DictConfig,
    metrics: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> str:
    """Write the model card of a run folder.

    Args:
        name: Of the run folder.
        separator: The trained module.
        config: The resolved configuration of the run.
        metrics: The content of metrics.json; a part of a separator names its own score under ``score``.
        provenance: The content of provenance.json.

    Returns:
        Markdown.
    """
    parameters = sum(p.numel() for p in separator.parameters())
    values = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in metrics.items()}
    table = "\n".join(f"| {key} | {value} |" for key, value in values.items())
    usage = (
        "It separates nothing by itself: a separator that is built on it names this folder."
        if "score" in metrics
        else f"Load it with `sepnet.load({name!r})` from the folder that holds this one, or separate with\n"
        "`sepnet separate mix.wav model=PATH`."
    )
    return (
        f"# {name}\n\n{type(separator).__name__}, {parameters / 1e6:.2f} M parameters, made with sepnet.\n\n"
        f"{usage}\n\n"
        "## Data\nTraining mixtures: recipe in config.yaml, fingerprint "
        f"`{provenance['data_fingerprint']}`.\n"
        "Weights carry the licences and the attribution of the corpus that they were trained on.\n\n"
        f"## Reached on the validation set\n| measure | value |\n| --- | --- |\n{table}\n\n"
        f"## Made with\nsepnet commit {provenance['git_commit']}, "
        f"torch {provenance['packages'].get('torch')}, "
        f"{provenance['gpu'] or provenance['cpu']}, {provenance['threads']} threads, "
        f"{provenance['written']}.\n\n"
        f"## Configuration\n```yaml\n{OmegaConf.to_yaml(config.model)}```\n"
    )
