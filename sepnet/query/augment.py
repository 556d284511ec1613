"""What a tagger in training hears of its examples: mixed, moved, louder, coloured, and with holes.

Sounds are mixed as by Y. Tokozume, Y. Ushiku, T. Harada, "Learning from between-class examples for deep sound
recognition", ICLR 2018, but with every class that is heard a target: a tagger is asked what is there, not how
much of it. Holes are after D. S. Park et al., "SpecAugment", Interspeech 2019. Gains and filters are sums on
the logarithm of the mel powers. All chance is torch's own generator, which a resumed run finds as it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from sepnet.types import SepnetError

DB_TO_LOG_POWER = 0.2302585  # ln(10) / 10


@dataclass(frozen=True, kw_only=True)
class Augment:
    """mixup: share of the windows that get another of the batch added, at up to ``mixup_db`` above or below.

    shift: whether windows are rotated in time. gain_db, filter_db: standard deviations of a gain, and of a
    curve over frequency that runs straight between ``filter_points`` drawn ones. n_time_holes, n_mel_holes:
    stretches of the features that are set to their mean, each at most ``time_hole_frames`` and ``hole_mels``
    wide. Raises SepnetError for numbers out of range.
    """

    mixup: float = 0.5
    mixup_db: float = 10.0
    shift: bool = True
    gain_db: float = 6.0
    filter_db: float = 4.0
    filter_points: int = 6
    n_time_holes: int = 1
    time_hole_frames: int = 24
    n_mel_holes: int = 1
    hole_mels: int = 12

    def __post_init__(self) -> None:
        if not (0 <= self.mixup <= 1 and self.filter_points >= 2 and min(self._sizes()) >= 0):
            raise SepnetError(
                f"mixup={self.mixup} has to be a share from 0 to 1, filter_points={self.filter_points} 2 or "
                f"more, and no size of an augmentation negative: {self._sizes()}"
            )

    def sounds(
        self, windows: Float[Tensor, "batch time"], targets: Float[Tensor, "batch class"]
    ) -> tuple[Float[Tensor, "batch time"], Float[Tensor, "batch class"]]:
        """Rotated and mixed windows, with the classes of both sounds."""
        count, time = windows.shape
        if self.shift:
            starts = torch.randint(time, (count, 1))
            order = (torch.arange(time) + starts) % time  # (batch, time)
            windows = windows.gather(1, order.to(windows.device))
        partner = torch.randperm(count)
        gain = 10 ** (self.mixup_db * (2 * torch.rand(count, 1) - 1) / 20)
        taken = (torch.rand(count, 1) < self.mixup).to(windows)
        mixed = windows + taken * gain.to(windows) * windows[partner]
        return mixed, torch.maximum(targets, taken * targets[partner])

    def features(
        self, features: Float[Tensor, "batch frame mel"], *, unit: float
    ) -> Float[Tensor, "batch frame mel"]:
        """Features with another gain and filter, and with holes. unit: of them, in the logarithm of power."""
        count, n_frames, n_mels = features.shape
        points = self.filter_db * torch.randn(count, 1, self.filter_points)
        curve = functional.interpolate(points, n_mels, mode="linear", align_corners=True)  # (batch, 1, mel)
        level_db = self.gain_db * torch.randn(count, 1, 1) + curve
        features = features + (level_db * DB_TO_LOG_POWER / unit).to(features)
        kept = torch.ones(count, n_frames, n_mels, dtype=torch.bool)
        for _ in range(self.n_time_holes):
            kept &= ~_stretches(count, n_frames, self.time_hole_frames)[:, :, None]
        for _ in range(self.n_mel_holes):
            kept &= ~_stretches(count, n_mels, self.hole_mels)[:, None, :]
        mean = features.mean(dim=(1, 2), keepdim=True)
        return torch.where(kept.to(features.device), features, mean)

    def _sizes(self) -> tuple[float, ...]:
        return (
            self.mixup_db, self.gain_db, self.filter_db, self.n_time_holes, self.time_hole_frames,
            self.n_mel_holes, self.hole_mels,
        )  # fmt: skip


def _stretches(count: int, length: int, longest: int) -> Tensor:
    """(count, length), true within a stretch of drawn place and width (0 to ``longest``) in each row."""
    width = torch.randint(min(longest, length) + 1, (count, 1))
    start = (torch.rand(count, 1) * (length - width + 1)).long()
    place = torch.arange(length)
    return (place >= start) & (place < start + width)
