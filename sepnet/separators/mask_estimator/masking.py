"""What the network of a mask estimator sees, and how its outputs become the sources' coefficients.

The model of whole clips and the live one, which goes hop by hop, share these functions of tensors.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.dsp.features import log_magnitude, magnitude
from sepnet.dsp.filterbank import STFT, Filterbank

Activation = Literal["sigmoid", "relu", "softmax", "ratio", "complex", "complex_unbounded", "mapping"]
COMPLEX = ("complex", "complex_unbounded")
Features = Literal["magnitude", "log_magnitude", "compressed", "coefficients"]

RATIO_FLOOR = 1e-6  # added to what a ratio mask divides: where all outputs are zero, the sources share alike
COMPRESSION_FLOOR = 1e-4  # added to the magnitudes by which compressed features are divided


class Masking:
    """The two ends of the masking network: its features and its masks.

    Args:
        filterbank: Gives the coefficients of the mixture.
        features: See ``MaskEstimator``.
        activation: See ``MaskEstimator``.

    Attributes:
        n_features: Channels of the network's input.
        n_mask: Channels of its output for each source.
    """

    def __init__(self, *, filterbank: Filterbank, features: Features, activation: Activation) -> None:
        self.features, self.activation = features, activation
        n_channels = filterbank.n_channels
        self.n_features = n_channels // 2 if features in ("magnitude", "log_magnitude") else n_channels
        # A real mask of an STFT serves the real and the imaginary part of a bin alike.
        self.per_bin = isinstance(filterbank, STFT) and activation not in (*COMPLEX, "mapping")
        self.n_mask = n_channels // 2 if self.per_bin else n_channels

    def features_of(
        self, analysis: Float[Tensor, "batch channel frame"]
    ) -> Float[Tensor, "batch feature frame"]:
        """Compute the input of the network from coefficients at unit level."""
        if self.features == "coefficients":
            return analysis
        if self.features == "magnitude":
            return magnitude(analysis)
        if self.features == "log_magnitude":
            return log_magnitude(analysis)
        return analysis * (magnitude(analysis) + COMPRESSION_FLOOR).rsqrt().repeat(1, 2, 1)

    def apply(
        self,
        logits: Float[Tensor, "batch source mask frame"],
        analysis: Float[Tensor, "batch 1 channel frame"],
    ) -> Float[Tensor, "batch source channel frame"]:
        """Compute the coefficients of the sources from the outputs of the network and the mixture."""
        if self.activation == "mapping":
            return logits
        if self.activation == "complex":
            return _complex_product(2 * torch.tanh(logits / 2), analysis)
        if self.activation == "complex_unbounded":
            return _complex_product(logits, analysis)
        masks = self._real_masks(logits)
        if self.per_bin:
            masks = masks.repeat(1, 1, 2, 1)  # the same for real and imaginary parts
        return masks * analysis

    def _real_masks(self, logits: Tensor) -> Tensor:
        if self.activation == "softmax":
            return logits.softmax(dim=1)
        if self.activation == "ratio":
            positive = logits.relu() + RATIO_FLOOR
            return positive / positive.sum(dim=1, keepdim=True)
        return logits.sigmoid() if self.activation == "sigmoid" else logits.relu()


def _complex_product(mask: Tensor, analysis: Tensor) -> Tensor:
    """Multiply complex numbers whose real parts come first on the channel axis, then the imaginary ones."""
    mask_real, mask_imaginary = mask.chunk(2, dim=2)
    real, imaginary = analysis.chunk(2, dim=2)
    return torch.cat(
        [mask_real * real - mask_imaginary * imaginary, mask_real * imaginary + mask_imaginary * real], dim=2
    )
