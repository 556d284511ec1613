"""Decoding by libsndfile, for files whose length it knows for certain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float

from sepnet.data.audio.headers import Promise, check_plausible
from sepnet.types import SepnetError


class SndfileDecoder:
    """Decodes by libsndfile; see ``sepnet.data.audio.decoding.Decoder``.

    Args:
        file: The open file.
        name: Its name, for messages.
        promise: How many bytes of samples its header promises, where that is known.

    Raises:
        SepnetError: The file holds no samples.
    """

    tolerance_frames = 0
    n_lost_frames = 0
    ends_incomplete = False

    def __init__(self, file: soundfile.SoundFile, name: Path | str, promise: Promise | None) -> None:
        self._file, self._name = file, name
        self.sample_rate, self.channels = int(file.samplerate), int(file.channels)
        check_plausible(self.sample_rate, self.channels, name)
        self.frames: int | None = int(file.frames)
        self.announced_frames: int | None = int(file.frames)
        if promise is not None and promise.promised > promise.available > 0:
            self.announced_frames = int(file.frames) * promise.promised // promise.available

    def read(self, count: int) -> Float[np.ndarray, "channel time"]:
        """Decode the next samples: ``count`` of them, or fewer at the end."""
        try:
            samples = self._file.read(count, dtype="float32", always_2d=True)  # (time, channel)
        except soundfile.LibsndfileError as error:
            raise SepnetError(
                f"{self._name} is damaged ({describe_error(error)}): copy or download it again"
            ) from error
        return np.ascontiguousarray(samples.T)

    def seek(self, start: int) -> None:
        """Go to a sample."""
        try:
            self._file.seek(start)
        except soundfile.LibsndfileError as error:
            raise SepnetError(
                f"{self._name} is damaged (sample {start} can't be reached, {describe_error(error)}): "
                "copy or download it again"
            ) from error

    def count(self) -> int:
        """Return the number of samples, which is known."""
        return int(self._file.frames)

    def close(self) -> None:
        """Release the file."""
        self._file.close()


def describe_error(error: soundfile.LibsndfileError) -> str:
    """Return libsndfile's message."""
    return str(error.error_string).strip().rstrip(".") or f"libsndfile error {error.code}"
