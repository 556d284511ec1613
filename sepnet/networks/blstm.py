"""The recurrent mask network of utterance-level PIT.

M. Kolbaek, D. Yu, Z.-H. Tan, J. Jensen, "Multitalker speech separation with utterance-level
permutation invariant training of deep recurrent neural networks", TASLP 2017, section IV-B.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class BLSTM(nn.Module):
    """Layers of bidirectional LSTM over frames, then one linear layer.

    Departs from the paper in the layer normalisation of the input (the paper normalises each feature
    by its mean and variance over the training set) and in the size: the paper has 3 x 896 units.

    Args:
        n_in: Features of a frame.
        n_out: Outputs for a frame.
        n_hidden: Units of a layer in each direction.
        n_layers: Number of layers.
        dropout: Share of the units between two layers that training leaves out.
    """

    def __init__(
        self, n_in: int, n_out: int, *, n_hidden: int = 256, n_layers: int = 2, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(n_in)
        self.lstm = nn.LSTM(
            n_in,
            n_hidden,
            n_layers,
            batch_first=True,
            bidirectional=True,
            dropout=dropout if n_layers > 1 else 0.0,
        )
        self.out = nn.Linear(2 * n_hidden, n_out)

    def forward(self, features: Float[Tensor, "batch n_in frame"]) -> Float[Tensor, "batch n_out frame"]:
        """Compute the outputs of each frame from the whole clip."""
        states, _ = self.lstm(self.norm(features.transpose(1, 2)))  # (batch, frame, 2 n_hidden)
        output: Tensor = self.out(states)
        return output.transpose(1, 2)
