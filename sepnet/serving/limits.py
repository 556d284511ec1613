"""How much a client may ask for."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sepnet.data.audio_memory import SoundLimits
from sepnet.types import SepnetError

MB = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request, and all of them together, may take.

    Attributes:
        upload_mb: Size of one request.
        seconds: Duration of one sound file.
        channels: Of one sound file.
        sources: Largest number of sources that can be asked for.
        jobs: Separations that run at the same time.
        waiting: Requests that may wait for them.
        wait_seconds: How long each may wait.
        keep_minutes: How long a result can be fetched, and an upload of the page used again.
        results_mb: Memory for all results.
        folder_mb: Disk space for all uploads of the page.
        connections: Open at the same time.

    Raises:
        SepnetError: A value is not positive; ``waiting`` may be zero.
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
            value = getattr(self, field.name)
            if not value > 0 and field.name != "waiting":
                raise SepnetError(f"limits.{field.name} is {value}: give a positive number")
        if self.waiting < 0:
            raise SepnetError(f"limits.waiting is {self.waiting}: give 0 or more")

    @property
    def sound(self) -> SoundLimits:
        """The limits of one sound file."""
        return SoundLimits(seconds=self.seconds, channels=self.channels)

    @property
    def upload_bytes(self) -> int:
        """The maximum size of a request's body."""
        return round(self.upload_mb * MB)

    def check_n_sources(self, n_sources: int) -> None:
        """Check a number of sources that is asked for.

        Raises:
            SepnetError: It is out of range.
        """
        if not 1 <= n_sources <= self.sources:
            raise SepnetError(f"n_sources is {n_sources}: give 1 to {self.sources}")
