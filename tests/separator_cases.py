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

    Attributes:
        model: The name of the file.
        overrides: Of its settings.
        oracle: Whether it is given the references.
        consistent: Whether the estimates sum to the mixture.
        multichannel: Whether it needs as many channels as sources.
        refusals: The signals that it refuses, and a pattern that the reason has to match.
        refuses_many: A pattern that the refusal of 41 sources has to match; None where it gives them.
        attention: Whether it compares all pairs of frames, for which half an hour at once is too long.
        sample_rate: Of its signals, in Hz.
        query_repeats: How many times the short queries have to be repeated to be long enough.
    """

    model: str
    overrides: dict[str, Any] = field(default_factory=dict)
    oracle: bool = False
    consistent: bool = True
    multichannel: bool = False
    refusals: dict[str, str] = field(default_factory=dict)
    refuses_many: str | None = None
    attention: bool = False
    sample_rate: int = RATE
    query_repeats: int = 1

    def __str__(self) -> str:
        return self.model

    @property
    def signals(self) -> dict[str, Tensor]:
        """Those that it is to separate or to refuse, by name."""
        return MULTICHANNEL_SIGNALS if self.multichannel else SIGNALS


RANK = "channels have rank [01]"
LOW_RANK = {
    "one sample": RANK,
    "a constant": RANK,
    "a click": RANK,
    "the same channel twice": RANK,
    "one channel of two silent": RANK,
    "one channel": "needs 2 channels for 2 sources, but the mixture has 1",
}
FEW_CHANNELS = "needs 41 channels for 41 sources, but the mixture has 2"
SHORT = {"100 samples": r"needs 0\.\d\d s or more to tell 2 sources apart"}
TINY_TCN = {"network": {"n_channels": 8, "n_hidden": 12, "n_blocks": 2, "n_repeats": 1}}
FEW_GAUSSIANS = {
    "_target_": "sepnet.query.optimisation.mask_parameters.gaussian_mixture",
    "_partial_": True,
    "n_gaussians": 6,
    "fit_steps": 2,
}

SEPARATORS = [
    Case("identity", consistent=False),
    Case("ibm", oracle=True),
    Case("irm", oracle=True),
    Case("wiener", oracle=True),
    Case("iam", oracle=True, consistent=False),
    Case("psm", oracle=True, consistent=False),
    Case("crm", oracle=True, consistent=False),
    Case("oracle_gate", oracle=True),
    Case("oracle_patches", oracle=True),
    Case("oracle_mel", oracle=True),
    Case("oracle_linear", oracle=True),
    Case("hpss"),
    Case(
        "repet",
        {"period_seconds": [0.04, 0.1]},
        refusals=dict.fromkeys(("one sample", "100 samples"), "needs 3 repetitions of a period"),
    ),
    Case("nmf", {"n_components": 6, "n_iterations": 20}, refuses_many="41 sources can't share 6 components"),
    Case("nmf_rank", {"n_restarts": 1, "n_iterations": 20}),
    Case(
        "nmf_supervised",
        {"n_groups": 3, "n_components": 4, "n_iterations": 10},
        refuses_many="separates 1 to 3 sources, not 41",
    ),
    Case("fastica", multichannel=True, refusals=LOW_RANK, refuses_many=FEW_CHANNELS),
    Case(
        "auxiva",
        {"window_seconds": 0.016, "n_iterations": 5},
        multichannel=True,
        refusals=LOW_RANK | SHORT,
        refuses_many=FEW_CHANNELS,
    ),
    Case(
        "ilrma",
        {"window_seconds": 0.016, "n_iterations": 5, "warm_iterations": 5},
        multichannel=True,
        refusals=LOW_RANK | SHORT,
        refuses_many=FEW_CHANNELS,
    ),
    Case("energy", {"descent": {"steps": 8}}),
    Case("energy_textbook", {"descent": {"steps": 4}}),
    Case("energy_reference", {"descent": {"steps": 8}}),
    Case("energy_reference_textbook", {"descent": {"steps": 4}}),
    Case("energy_live", {"descent": {"steps": 8}}),
    Case("nmf_online", {"n_components": 4, "n_iterations": 5}),
    Case("pit", TINY_TCN),
    Case("enhance", {**TINY_TCN, "n_sources": 2}, consistent=False),  # two voices in noise
    Case("pit_blstm", {"network": {"n_hidden": 8, "n_layers": 1}}),
    Case("conv_tasnet", {**TINY_TCN, "filterbank": {"n_filters": 16}}, consistent=False),
    Case(
        "dprnn",
        {
            "filterbank": {"n_filters": 16},
            "network": {"n_channels": 8, "n_hidden": 6, "chunk_frames": 10, "n_blocks": 1},
        },
    ),
    Case(
        "sepformer",
        {
            "filterbank": {"n_filters": 16},
            "network": {
                "n_channels": 8,
                "n_hidden": 12,
                "n_heads": 2,
                "n_layers": 1,
                "chunk_frames": 10,
                "n_blocks": 1,
            },
        },
        consistent=False,
        attention=True,
    ),
    Case(
        "dprnn_gated",
        {
            "filterbank": {"n_filters": 16},
            "network": {"n_channels": 8, "n_hidden": 6, "chunk_frames": 10, "n_blocks": 1},
        },
        consistent=False,
    ),
    Case(
        "dptnet",
        {
            "filterbank": {"n_filters": 16},
            "network": {"n_hidden": 6, "n_heads": 2, "chunk_frames": 10, "n_blocks": 1},
        },
        consistent=False,
        attention=True,
    ),
    Case(
        "sudormrf",
        {"filterbank": {"n_filters": 16}, "network": {"n_channels": 8, "n_blocks": 2}},
        consistent=False,
    ),
    Case(
        "resepformer",
        {
            "filterbank": {"n_filters": 16},
            "network": {"n_hidden": 12, "n_heads": 2, "n_layers": 1, "chunk_frames": 10},
        },
        consistent=False,
        attention=True,
    ),
    Case(
        "mossformer2",
        {
            "sample_rate": RATE,
            "filterbank": {"n_filters": 16},
            "network": {
                "n_channels": 8,
                "n_layers": 2,
                "n_keys": 6,
                "n_memory": 6,
                "expansion": 2,
                "group_frames": 16,
                "memory_frames": 3,
            },
        },
        consistent=False,
    ),
    Case(
        "tiger",
        {
            "filterbank": {"hop_samples": 320},
            "network": {
                "n_channels": 4,
                "n_hidden": 4,
                "n_scales": 2,
                "n_heads": 2,
                "n_keys": 2,
                "n_repeats": 1,
            },
        },
        consistent=False,
        attention=True,
        sample_rate=16000,
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
    Case("pit_any", TINY_TCN, refuses_many="41 sources, but the network gives at most 3"),
    Case("pit_causal", TINY_TCN),
    Case("deep_clustering", TINY_TCN),
    Case(
        "pit_locoformer",
        {"network": {"n_channels": 8, "n_hidden": 8, "n_heads": 2, "n_groups": 2, "n_blocks": 1}},
        attention=True,
    ),
    Case("pit_tcn", {**TINY_TCN, "filterbank": {"n_filters": 16}}),
    Case(
        "query_mask",
        {"network": {"n_channels": 8, "n_blocks": 2, "n_repeats": 1}},
        consistent=False,  # each query has a mask of its own
        sample_rate=16000,
        query_repeats=40,
    ),
    *(
        Case(f"ast_{start}", consistent=False, attention=True, sample_rate=16000, query_repeats=40)
        for start in ("contrast", "network", "patches", "semantic", "stitching")
    ),
    *(
        Case(
            f"ast_dgmo{start}",
            {"dgmo": {"opt_steps": 2}},
            consistent=False,
            attention=True,
            sample_rate=16000,
            query_repeats=40,
        )
        for start in ("", "_contrast", "_patches", "_semantic")
    ),
    Case(
        "ast_dgmo_faithful",
        {"dgmo": {"opt_steps": 2, "parameters": FEW_GAUSSIANS}},
        consistent=False,
        attention=True,
        sample_rate=16000,
        query_repeats=40,
    ),
]


def sparse(n_channels: int, n_samples: int) -> Tensor:
    """As many sources with heavy tails as channels, mixed by a random matrix."""
    return 0.1 * (noise(n_channels, n_channels) @ noise(n_channels, n_samples, seed=1).pow(3))


SIGNALS = {
    "one sample": torch.tensor([[0.5]]),
    "100 samples": 0.1 * noise(1, 100),
    "777 samples": 0.1 * noise(1, 777),
    "half a second": 0.1 * noise(1, 4000),
    "silence": torch.zeros(1, 2000),
    "a constant": torch.full((1, 2000), 0.25),
    "a click": torch.zeros(1, 2000).index_fill(1, torch.tensor([700]), 0.9),
    "far too loud": 30.0 * noise(1, 2000),
    "2 channels": sparse(2, 3000),
    "8 channels": 0.1 * noise(8, 1500),
    "the same channel twice": 0.1 * noise(1, 2000).expand(2, -1),
    "one channel of two silent": 0.1 * noise(1, 2000) * torch.tensor([[1.0], [0.0]]),
}

MULTICHANNEL_SIGNALS = {
    "one sample": torch.tensor([[0.5], [0.3]]),
    "100 samples": sparse(2, 100),
    "777 samples": sparse(2, 777),
    "half a second": sparse(3, 4000),
    "silence": torch.zeros(2, 2000),
    "a constant": torch.tensor([[0.25], [0.5]]).expand(-1, 2000),
    "a click": torch.zeros(2, 2000).index_fill(1, torch.tensor([700]), 0.9),
    "far too loud": 300 * sparse(2, 2000),
    "2 channels": sparse(2, 3000),
    "8 channels": 0.1 * noise(8, 1500),
    "the same channel twice": SIGNALS["the same channel twice"],
    "one channel of two silent": SIGNALS["one channel of two silent"],
    "one channel": sparse(1, 2000),
}

# What `make test` takes; all of them have their turn in `make test-all`.
QUICK_SIGNALS = frozenset({"one sample", "777 samples", "silence", "2 channels"})


@cache
def build(model: str) -> Separator:
    case = next(case for case in SEPARATORS if case.model == model)
    node = OmegaConf.load(artifact.config_folder() / "model" / f"{model}.yaml")
    torch.manual_seed(0)
    separator = artifact.build(OmegaConf.merge(node, case.overrides))
    return separator.eval() if isinstance(separator, nn.Module) else separator


def with_all_hints(audio: Tensor, *, n_sources: int = 2, seed: int = 1) -> Mixture:
    """A mixture of ``n_sources`` with every hint there is; the references sum to channel 0."""
    shares = torch.rand(n_sources, audio.shape[1], generator=torch.Generator().manual_seed(seed))
    queries = [Query(noise(50 + 50 * (k == 0), seed=seed + k), RATE, f"sound {k}") for k in range(n_sources)]
    return Mixture(
        audio=audio,
        sample_rate=RATE,
        n_sources=n_sources,
        queries=tuple(queries),
        references=audio[0] * shares / shares.sum(dim=0),
    )
