"""The network of a tagger: the AST of transformers, and its position embeddings for shorter windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sepnet.ranges import LayerSize
from sepnet.types import SepnetError

AUDIOSET_MEAN = -4.2677393  # of the log-mel features of AudioSet, with which the public models were trained
AUDIOSET_STD = 4.5689974


@dataclass(frozen=True)
class AstNetwork:
    """A network of transformers with the description of its inputs and outputs.

    Attributes:
        network: An ``ASTForAudioClassification``.
        labels: The class of each output.
        n_mels: The number of mel bands of its features.
        mean: Mean of the log-mel features that it was trained with.
        std: Their standard deviation.
    """

    network: Any
    labels: tuple[str, ...]
    n_mels: LayerSize
    mean: float = AUDIOSET_MEAN
    std: float = AUDIOSET_STD


def new_ast(
    labels: tuple[str, ...],
    *,
    n_mels: int,
    max_frames: int,
    patch: int,
    frequency_stride: int,
    time_stride: int,
    hidden: int,
    n_layers: int,
    n_heads: int,
    dropout: float,
) -> AstNetwork:
    """Make an AST with random weights.

    Args:
        labels: Its classes.
        n_mels: Mel bands of its features.
        max_frames: Frames (of 10 ms) of the longest window that it takes.
        patch: Side of a patch, in bands and in frames.
        frequency_stride: Distance between two patches, in bands.
        time_stride: Distance between two patches, in frames.
        hidden: Size of the embeddings.
        n_layers: Transformer layers.
        n_heads: Attention heads of each layer.
        dropout: Probability of dropout in training.

    Raises:
        SepnetError: There are no classes, or two of the same name, or the sizes do not fit together.
    """
    from transformers import ASTConfig, ASTForAudioClassification  # takes seconds to import

    if not labels or len({*labels}) < len(labels):
        raise SepnetError(f"a new tagger needs one or more labels, all different, not {list(labels)}")
    if (
        hidden % n_heads
        or min(n_mels, max_frames) < patch
        or min(frequency_stride, time_stride, n_layers) < 1
    ):
        raise SepnetError(
            f"hidden={hidden} has to be a multiple of n_heads={n_heads}, patch={patch} at most "
            f"n_mels={n_mels} and the {max_frames} frames of the longest window, strides and n_layers 1 or "
            "more"
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
        max_length=max_frames,
        id2label=names,
        label2id={name: k for k, name in names.items()},
    )
    network = ASTForAudioClassification(config)
    embeddings: nn.Module = network.audio_spectrogram_transformer.embeddings
    for token in ("cls_token", "distillation_token", "position_embeddings"):
        # transformers initialises them to zero, which makes all columns alike, and the two tokens as well.
        nn.init.trunc_normal_(embeddings.get_parameter(token), std=0.02)
    return AstNetwork(network, labels, n_mels)


def middle_positions(
    positions: Float[Tensor, "1 token embedding"], *, n_rows: int, n_columns: int
) -> Float[Tensor, "1 fewer embedding"]:
    """Select the position embeddings of a shorter window: the middle columns of the learnt grid.

    Args:
        positions: Embeddings of the two extra tokens, then of a grid (row, column), row after row.
        n_rows: Rows of that grid.
        n_columns: Columns of the shorter window, at most as many as the grid has.

    Returns:
        The embeddings of the two extra tokens, then those of the smaller grid.
    """
    grid = positions[:, 2:].reshape(1, n_rows, -1, positions.shape[-1])  # (1, row, column, embedding)
    start = (grid.shape[2] - n_columns) // 2
    return torch.cat([positions[:, :2], grid[:, :, start : start + n_columns].flatten(1, 2)], dim=1)
