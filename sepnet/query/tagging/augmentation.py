"""Augmentation of a tagger's training examples: mixing, rotation, gain, filtering, and masking.

Windows are mixed as in Y. Tokozume, Y. Ushiku, T. Harada, "Learning from between-class examples for deep
sound recognition", ICLR 2018, except that every audible class is a target: a tagger detects presence, not
proportions. Stretches of time and frequency are masked after D. S. Park et al., "SpecAugment", Interspeech
2019. Gains and filters are additions to the logarithm of the mel powers. All random numbers come from torch's
global generator, whose state a resumed run restores.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from sepnet.types import SepnetError

DB_TO_LOG_POWER = 0.2302585  # ln(10) / 10


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The strength of each augmentation; 0 turns it off.

    Attributes:
        mixup: Share of the windows to which another window of the batch is added.
        mixup_db: Largest gain or attenuation of the added window, in dB.
        rotate: Whether windows are rotated in time by a random number of samples.
        gain_db: Standard deviation of a gain, in dB.
        filter_db: Standard deviation of the points of a random frequency response, in dB.
        filter_points: Points of that response, between which it is linear.
        n_time_masks: Stretches of time that are replaced by the mean of the features.
        max_time_mask_frames: Longest of these stretches, in frames of 10 ms.
        n_mel_masks: Stretches of frequency that are replaced by the mean of the features.
        max_mel_mask_bands: Widest of these stretches, in mel bands.

    Raises:
        SepnetError: A number is out of range.
    """

    mixup: float = 0.15
    mixup_db: float = 10.0
    rotate: bool = True
    gain_db: float = 4.0
    filter_db: float = 3.0
    filter_points: int = 6
    n_time_masks: int = 1
    max_time_mask_frames: int = 24
    n_mel_masks: int = 1
    max_mel_mask_bands: int = 12

    def __post_init__(self) -> None:
        sizes = (
            self.mixup_db, self.gain_db, self.filter_db, self.n_time_masks, self.max_time_mask_frames,
            self.n_mel_masks, self.max_mel_mask_bands,
        )  # fmt: skip
        if not (0 <= self.mixup <= 1 and self.filter_points >= 2 and min(sizes) >= 0):
            raise SepnetError(
                f"mixup={self.mixup} has to be between 0 and 1, filter_points={self.filter_points} 2 or "
                f"more, and no size of an augmentation negative: {sizes}"
            )

    def augment_windows(
        self, windows: Float[Tensor, "batch time"], targets: Float[Tensor, "batch class"]
    ) -> tuple[Float[Tensor, "batch time"], Float[Tensor, "batch class"]]:
        """Rotate and mix windows.

        Args:
            windows: (batch, time).
            targets: (batch, class), 1 for each class that is present.

        Returns:
            The new windows; and their targets, which are the classes of both windows where two were mixed.
        """
        n_windows, time = windows.shape
        if self.rotate:
            starts = torch.randint(time, (n_windows, 1))
            order = (torch.arange(time) + starts) % time  # (batch, time)
            windows = windows.gather(1, order.to(windows.device))
        partner = torch.randperm(n_windows)
        gain = 10 ** (self.mixup_db * (2 * torch.rand(n_windows, 1) - 1) / 20)
        is_mixed = (torch.rand(n_windows, 1) < self.mixup).to(windows)
        mixed = windows + is_mixed * gain.to(windows) * windows[partner]
        return mixed, torch.maximum(targets, is_mixed * targets[partner])

    def augment_features(
        self, features: Float[Tensor, "batch frame mel"], *, log_power_unit: float
    ) -> Float[Tensor, "batch frame mel"]:
        """Apply a random gain, filter and masks.

        Args:
            features: Normalised log-mel features.
            log_power_unit: The difference of natural log power that a feature difference of 1 stands for.

        Returns:
            The new features.
        """
        n_windows, n_frames, n_mels = features.shape
        points = self.filter_db * torch.randn(n_windows, 1, self.filter_points)
        response = functional.interpolate(
            points, n_mels, mode="linear", align_corners=True
        )  # (batch, 1, mel)
        level_db = self.gain_db * torch.randn(n_windows, 1, 1) + response
        features = features + (level_db * DB_TO_LOG_POWER / log_power_unit).to(features)
        kept = torch.ones(n_windows, n_frames, n_mels, dtype=torch.bool)
        for _ in range(self.n_time_masks):
            kept &= ~_random_stretches(n_windows, n_frames, self.max_time_mask_frames)[:, :, None]
        for _ in range(self.n_mel_masks):
            kept &= ~_random_stretches(n_windows, n_mels, self.max_mel_mask_bands)[:, None, :]
        mean = features.mean(dim=(1, 2), keepdim=True)
        return torch.where(kept.to(features.device), features, mean)


def _random_stretches(n_rows: int, length: int, max_width: int) -> Bool[Tensor, "row place"]:
    """In each row, true within one stretch of random place and width (0 to ``max_width``)."""
    width = torch.randint(min(max_width, length) + 1, (n_rows, 1))
    start = (torch.rand(n_rows, 1) * (length - width + 1)).long()
    place = torch.arange(length)
    return (place >= start) & (place < start + width)
