"""How much a client may ask for."""

from __future__ import annotations

from dataclasses import dataclass

from sepnet.data.audio.memory import SoundLimits
from sepnet.ranges import NonNegativeInt, NumberOfSources, PositiveFloat, PositiveInt, Seconds
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
    """

    upload_mb: PositiveFloat = 50.0
    seconds: Seconds = 120.0
    channels: PositiveInt = 8
    sources: NumberOfSources = 8
    jobs: PositiveInt = 1
    waiting: NonNegativeInt = 32
    wait_seconds: PositiveFloat = 120.0
    keep_minutes: PositiveFloat = 15.0
    results_mb: PositiveFloat = 500.0
    folder_mb: PositiveFloat = 1000.0
    connections: PositiveInt = 256

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
