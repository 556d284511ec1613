"""The separators that are under contract, made small, and the signals that they are given."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from sepnet import artifact
from sepnet.types import Mixture, Query, Separator

RATE = 8000


def noise(*shape: int, seed: int = 0) -> Tensor:
    """White, of variance 1."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Case:
    """A separator under contract: a file of conf/model, made small.

    consistent: whether the estimates sum to the mixture. at_once: whether half an hour fits into memory,
    which all pairs of its frames do not. refuses: a pattern that the reason of each CannotSeparate has to
    match, where the method may refuse a mixture at all. rate: what it was made for, in Hz. longer: how many
    times the queries have to be repeated to be long enough.
    """

    model: str
    overrides: dict[str, Any] = field(default_factory=dict)
    consistent: bool = True
    refuses: str | None = None
    at_once: bool = True
    rate: int = RATE
    longer: int = 1

    def __str__(self) -> str:
        return self.model


FEW_CHANNELS = "^needs 2 channels|channels have rank [01]"
TINY_TCN = {"network": {"n_channels": 8, "n_hidden": 12, "n_blocks": 2, "n_repeats": 1}}
FEW_GAUSSIANS = {
    "_target_": "sepnet.query.parameters.gaussian_mixture",
    "_partial_": True,
    "n_gaussians": 6,
    "fit_steps": 2,
}

SEPARATORS = [
    Case("identity", consistent=False),
    Case("ibm"),
    Case("irm"),
    Case("wiener"),
    Case("iam", consistent=False),
    Case("psm", consistent=False),
    Case("crm", consistent=False),
    Case("oracle_gate"),
    Case("oracle_patches"),
    Case("oracle_mel"),
    Case("oracle_linear"),
    Case("hpss"),
    Case("repet", {"period_seconds": [0.04, 0.1]}, refuses="wants to hear a period"),
    Case("nmf", {"n_components": 6, "n_iterations": 20}),
    Case("nmf_rank", {"n_restarts": 1, "n_iterations": 20}),
    Case("nmf_supervised", {"n_groups": 3, "n_components": 4, "n_iterations": 10}),
    Case("fastica", refuses=FEW_CHANNELS),
    Case("auxiva", {"window_seconds": 0.016, "n_iterations": 5}, refuses=FEW_CHANNELS),
    Case("ilrma", {"window_seconds": 0.016, "n_iterations": 5, "warm_iterations": 5}, refuses=FEW_CHANNELS),
    Case("energy", {"descent": {"steps": 8}}),
    Case("energy_textbook", {"descent": {"steps": 4}}),
    Case("energy_reference", {"descent": {"steps": 8}}),
    Case("energy_reference_textbook", {"descent": {"steps": 4}}),
    Case("energy_live", {"descent": {"steps": 8}}),
    Case("nmf_online", {"n_components": 4, "n_iterations": 5}),
    Case("pit", TINY_TCN),
    Case("pit_blstm", {"network": {"hidden": 8, "n_layers": 1}}),
    Case("conv_tasnet", {**TINY_TCN, "filterbank": {"n_filters": 16}}, consistent=False),
    Case(
        "dprnn",
        {
            "filterbank": {"n_filters": 16},
            "network": {"n_channels": 8, "hidden": 6, "chunk": 10, "n_blocks": 1},
        },
    ),
    Case(
        "conv_autoencoder",
        {
            "sample_rate": RATE,
            "n_sources": 2,
            "labels": ["dog", "rain"],
            "network": {"n_vertical": 6, "n_horizontal": 4, "n_bottleneck": 8},
        },
    ),
    Case("pit_any", TINY_TCN, refuses="^41 sources"),
    Case("pit_causal", TINY_TCN),
    Case("deep_clustering", TINY_TCN, refuses="^41 sources"),
    Case(
        "pit_locoformer",
        {"network": {"n_channels": 8, "n_hidden": 8, "n_heads": 2, "n_groups": 2, "n_blocks": 1}},
        at_once=False,
    ),
    Case("pit_tcn", {**TINY_TCN, "filterbank": {"n_filters": 16}}),
    Case(
        "query_mask",
        {"network": {"n_channels": 8, "n_blocks": 2, "n_repeats": 1}},
        consistent=False,  # each query has a mask of its own
        rate=16000,
        longer=40,
    ),
    *(
        Case(f"ast_{start}", consistent=False, at_once=False, rate=16000, longer=40)
        for start in ("contrast", "network", "patches", "semantic", "stitching")
    ),
    *(
        Case(
            f"ast_dgmo{start}",
            {"dgmo": {"opt_steps": 2}},
            consistent=False,
            at_once=False,
            rate=16000,
            longer=40,
        )
        for start in ("", "_contrast", "_patches", "_semantic")
    ),
    Case(
        "ast_dgmo_faithful",
        {"dgmo": {"opt_steps": 2, "parameters": FEW_GAUSSIANS}},
        consistent=False,
        at_once=False,
        rate=16000,
        longer=40,
    ),
]

SIGNALS = {
    "one sample": torch.tensor([[0.5]]),
    "100 samples": 0.1 * noise(1, 100),
    "777 samples": 0.1 * noise(1, 777),
    "half a second": 0.1 * noise(1, 4000),
    "silence": torch.zeros(1, 2000),
    "a constant": torch.full((1, 2000), 0.25),
    "a click": torch.zeros(1, 2000).index_fill(1, torch.tensor([700]), 0.9),
    "far too loud": 30.0 * noise(1, 2000),
    "2 channels": 0.1 * (noise(2, 2) @ noise(2, 3000, seed=1).pow(3)),
    "8 channels": 0.1 * noise(8, 1500),
    "the same channel twice": 0.1 * noise(1, 2000).expand(2, -1),
    "one channel of two silent": 0.1 * noise(1, 2000) * torch.tensor([[1.0], [0.0]]),
}


@cache
def build(model: str) -> Separator:
    case = next(case for case in SEPARATORS if case.model == model)
    node = OmegaConf.load(artifact.config_folder() / "model" / f"{model}.yaml")
    torch.manual_seed(0)
    separator = artifact.build(OmegaConf.merge(node, case.overrides))
    return separator.eval() if isinstance(separator, nn.Module) else separator


def told(audio: Tensor, seed: int = 1) -> Mixture:
    """A mixture of two sources with every hint there is."""
    first = audio[0] * torch.rand(audio.shape[1], generator=torch.Generator().manual_seed(seed))
    return Mixture(
        audio=audio,
        sample_rate=RATE,
        n_sources=2,
        queries=(Query(noise(100, seed=seed), RATE, "a sound"), Query(noise(50, seed=seed + 1), RATE)),
        references=torch.stack([first, audio[0] - first]),
    )
