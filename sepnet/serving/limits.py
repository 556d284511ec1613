"""How much a stranger may ask for."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sepnet.data.audio_memory import SoundLimits
from sepnet.types import SepnetError

MB = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request, and all of them together, may take; every one of them is positive.

    upload_mb: of one request. seconds, channels: of one sound file. sources: asked for. jobs: separated at
    once. waiting: beside these, each for at most ``wait_seconds``. keep_minutes: how long a result can be
    fetched, and an upload of the page used again. results_mb: of all results in memory. folder_mb: of all
    uploads of the page on disk. connections: at once.
    """

    upload_mb: float = 50.0
    seconds: float = 120.0
    channels: int = 8
    sources: int = 8
    jobs: int = 1
    waiting: int = 32
    wait_seconds: float = 120.0
    keep_minutes: float = 15.0
    results_mb: float = 500.0
    folder_mb: float = 1000.0
    connections: int = 256

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0 and field.name != "waiting":
                raise SepnetError(
                    f"limits.{field.name} is {getattr(self, field.name)}, but has to be positive"
                )
        if self.waiting < 0:
            raise SepnetError(f"limits.waiting is {self.waiting}: say 0 or more")

    @property
    def sound(self) -> SoundLimits:
        """Those of one sound file."""
        return SoundLimits(seconds=self.seconds, channels=self.channels)

    @property
    def upload_bytes(self) -> int:
        """The most bytes in the body of a request."""
        return round(self.upload_mb * MB)

    def check_sources(self, n_sources: int | None) -> None:
        """Raises SepnetError for a number of sources that is not served."""
        if n_sources is not None and not 1 <= n_sources <= self.sources:
            raise SepnetError(f"n_sources is {n_sources}: ask for 1 to {self.sources}")
