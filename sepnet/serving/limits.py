"""The limits of requests."""

from __future__ import annotations

from dataclasses import dataclass

from sepnet.data.audio.memory import SoundLimits
from sepnet.ranges import NonNegativeInt, NumberOfSources, PositiveFloat, PositiveInt, Seconds
from sepnet.settings import check_fields
from sepnet.types import SepnetError

MB = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The largest values for one request, and for all requests together.

    Attributes:
        upload_mb: Size of one request, in MB.
        seconds: Duration of one sound file.
        channels: Number of channels of one sound file.
        sources: Number of sources of one request.
        jobs: Number of separations that run at the same time.
        waiting: Number of requests that wait for them.
        wait_seconds: Waiting time of a request.
        keep_minutes: Time for which a result can be fetched, and an upload of the page used again.
        results_mb: Memory for all results, in MB.
        folder_mb: Disk space for all uploads of the page, in MB.
        connections: Number of open connections.
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

    def __post_init__(self) -> None:
        check_fields(self, "limits.")

    @property
    def sound(self) -> SoundLimits:
        """The limits of one sound file."""
        return SoundLimits(seconds=self.seconds, channels=self.channels)

    @property
    def upload_bytes(self) -> int:
        """The maximum size of a request's body."""
        return round(self.upload_mb * MB)

    def check_n_sources(self, n_sources: int) -> None:
        """Check the number of sources of a request.

        Args:
            n_sources: The number.

        Raises:
            SepnetError: It is out of range.
        """
        if not 1 <= n_sources <= self.sources:
            raise SepnetError(f"n_sources is {n_sources}: give 1 to {self.sources}")
