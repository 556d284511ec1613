"""The network of a tagger: transformers' AST with random weights, and its positions for a shorter window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sepnet.types import SepnetError

MEAN, STD = -4.2677393, 4.5689974  # of AudioSet's features, as the public models were trained with


@dataclass(frozen=True)
class Body:
    """A network of transformers, the names of its outputs, and what its features are normalised by."""

    network: Any
    labels: tuple[str, ...]
    n_mels: int
    mean: float
    std: float


def new_body(
    labels: tuple[str, ...],
    *,
    n_mels: int,
    frames: int,
    patch: int,
    frequency_stride: int,
    time_stride: int,
    hidden: int,
    n_layers: int,
    n_heads: int,
    dropout: float,
) -> Body:
    """An AST with random weights for windows of up to ``frames``. Raises SepnetError for impossible sizes."""
    from transformers import ASTConfig, ASTForAudioClassification  # loads for seconds: only who asks pays

    if not labels or len({*labels}) < len(labels):
        raise SepnetError(f"a new tagger learns labels that differ, one or more, not {list(labels)}")
    if hidden % n_heads or min(n_mels, frames) < patch or min(frequency_stride, time_stride, n_layers) < 1:
        raise SepnetError(
            f"hidden={hidden} has to be a multiple of n_heads={n_heads}, patch={patch} at most "
            f"n_mels={n_mels} and the {frames} frames of the longest window, strides and n_layers 1 or more"
        )
    names = dict(enumerate(labels))
    config: Any = ASTConfig(
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=n_layers,
        num_attention_heads=n_heads,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        patch_size=patch,
        frequency_stride=frequency_stride,
        time_stride=time_stride,
        num_mel_bins=n_mels,
        max_length=frames,
        id2label=names,
        label2id={name: k for k, name in names.items()},
    )
    network = ASTForAudioClassification(config)
    for token in ("cls_token", "distillation_token", "position_embeddings"):
        # transformers leaves them at zero, where all columns are alike and the two tokens stay twins.
        nn.init.trunc_normal_(getattr(network.audio_spectrogram_transformer.embeddings, token), std=0.02)
    return Body(network, labels, n_mels, MEAN, STD)


def middle(
    positions: Float[Tensor, "1 token dim"], *, n_rows: int, n_columns: int
) -> Float[Tensor, "1 fewer dim"]:
    """The two first tokens' positions, and of the (row, column) grid behind them the middle columns."""
    grid = positions[:, 2:].reshape(1, n_rows, -1, positions.shape[-1])  # (1, row, column, dim)
    start = (grid.shape[2] - n_columns) // 2
    return torch.cat([positions[:, :2], grid[:, :, start : start + n_columns].flatten(1, 2)], dim=1)
