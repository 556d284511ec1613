"""Blind separation in rooms: one unmixing matrix for each frequency, by AuxIVA and by ILRMA.

In the short-time spectrum a room is a mixing matrix A_f for each frequency f, and y_ft = W_f x_ft. A model of
a whole frame of a source keeps that source in the same row of W_f for all f:

    AuxIVA [1]  |y_k,t| over all frequencies has one distribution: they are loud together
    ILRMA  [2]  |y_k,ft|^2 is of low rank: few spectra, each with its activation over time

The iterations are those of pyroomacoustics (the extra ``rooms``). Both have the same steps around them:

- Each frequency is first projected onto its ``n_sources`` strongest principal components, z = K x, at unit
  power. That serves more microphones than sources, and keeps the matrices well-conditioned. (OverIVA, which
  takes all microphones, did no better with four of them, and failed more often.)
- Only y is taken from pyroomacoustics: its ILRMA returns a W that is rescaled after y was made with it.
  W is the regression of y on z.
- Each row is projected back to channel 0: with A the (pseudo)inverse of W K, the image of source k is
  A_0k (W K)_k x. For as many microphones as sources the images sum to channel 0; otherwise the missing part
  is shared equally.
- W is computed from ``max_frames`` frames spread evenly over the recording, and applied to all of it block by
  block: a long recording takes no more memory than a short one. Sources and microphones may not move.

[1] N. Ono: Stable and fast update rules for independent vector analysis based on auxiliary function
    technique. WASPAA 2011.
[2] D. Kitamura et al.: Determined blind source separation unifying independent vector analysis and
    nonnegative matrix factorization. IEEE/ACM TASLP 24(9), 2016.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Complex128, Float
from torch import Tensor

from sepnet.dsp.consistency import make_consistent
from sepnet.ranges import LayerSize, NonNegativeInt, PositiveInt, Seconds, Seed
from sepnet.separators.ica.channels import require_channels
from sepnet.separators.ica.transform import Transform
from sepnet.types import CannotSeparate, Mixture, Separation, SeparationWarning, SeparatorInfo, SepnetError

MIN_COMPONENT_POWER = 1e-10  # relative to the strongest component of its frequency
DITHER_AMPLITUDE = 1e-6  # keeps frequencies invertible in which a digital silence leaves nothing
MAX_HALVINGS = 5  # of the number of iterations
MIN_FRAMES_PER_SOURCE = 4  # with fewer, a covariance over the frames means nothing


class _Convolutive:
    """The steps that AuxIVA and ILRMA share; each has its own ``_unmix``."""

    info = SeparatorInfo(needs=frozenset({"n_sources"}))

    def __init__(self, *, window_seconds: float, overlap: int, max_frames: int, seed: int) -> None:
        _pyroomacoustics()
        if window_seconds <= 0 or overlap < 2:
            raise SepnetError(
                f"window_seconds={window_seconds} and overlap={overlap}: the window has to be positive, and "
                "the overlap two windows or more"
            )
        self.window_seconds, self.overlap = window_seconds, overlap
        self.max_frames, self.seed = max_frames, seed

    def separate(self, mixture: Mixture) -> Separation:
        """Separate all channels into ``n_sources`` images at channel 0, whose sum is channel 0.

        Raises:
            CannotSeparate: There are fewer channels than sources, in number or in rank; the mixture is
                shorter than a few windows; or the channels hold nothing in some frequency.

        Warns:
            SeparationWarning: Fewer iterations were made, since more divide by zero.
        """
        n_sources = require_channels(mixture)
        audio = mixture.audio
        if not bool(audio.any()):
            return Separation(torch.zeros_like(audio[:1]).repeat(n_sources, 1))
        transform = Transform.of_duration(self.window_seconds, mixture.sample_rate, self.overlap)
        min_samples = MIN_FRAMES_PER_SOURCE * n_sources * transform.hop_samples
        if audio.shape[1] < min_samples:
            raise CannotSeparate(
                f"needs {min_samples / mixture.sample_rate:.2f} s or more to tell {n_sources} sources apart "
                f"with a window of {self.window_seconds} s, but the mixture has "
                f"{audio.shape[1] / mixture.sample_rate:.2f} s: shorten window_seconds"
            )
        filters = self._filters(transform, audio, n_sources)
        return Separation(make_consistent(transform.filter(filters, audio), audio[0]))

    def _filters(
        self, transform: Transform, audio: Float[Tensor, "channel time"], n_sources: int
    ) -> Complex128[Tensor, "bin source channel"]:
        """The filters from the microphones to the images of the sources at channel 0."""
        level = float(torch.linalg.vector_norm(audio, dtype=torch.float64)) / math.sqrt(audio.numel())
        hop = max(transform.hop_samples, -(-audio.shape[1] // self.max_frames))
        x = (transform(audio, hop) / level).permute(1, 0, 2)  # (bin, channel, frame)
        whitening, unwhitening = _principal(x, n_sources)
        z = whitening @ x
        rng = torch.Generator().manual_seed(self.seed)
        z = z + DITHER_AMPLITUDE * torch.randn(z.shape, generator=rng, dtype=z.dtype)
        y = torch.from_numpy(self._unmix_finitely(z.permute(2, 0, 1).numpy()))  # (frame, bin, source)
        z_frames = z.mH  # (bin, frame, component)
        unmixing = torch.linalg.lstsq(
            z_frames, y.permute(1, 0, 2).conj()
        ).solution.mH  # (bin, source, component)
        mixing = torch.linalg.pinv(unmixing)  # (bin, component, source)
        at_channel_0 = (unwhitening[:, :1] @ mixing).mT  # (bin, source, 1)
        filters: Tensor = at_channel_0 * (unmixing @ whitening)
        return filters

    def _unmix_finitely(self, z: np.ndarray) -> np.ndarray:
        """Call ``_unmix``, and halve the iterations while it divides by zero.

        A source that is separated so well that its pauses are empty has no variance there.
        """
        for halvings in range(MAX_HALVINGS):
            share = 0.5**halvings
            with np.errstate(all="ignore"), contextlib.suppress(np.linalg.LinAlgError):
                y = self._unmix(z, share)
                if np.isfinite(y).all():
                    if share < 1:
                        message = f"stopped after {share:.0%} of the iterations: more divide by zero"
                        warnings.warn(SeparationWarning(message), stacklevel=2)
                    return y
        raise CannotSeparate(
            "in some frequency the channels are copies or sums of each other, or hold nothing: record with "
            "separate microphones"
        )

    def _unmix(self, z: np.ndarray, share: float) -> np.ndarray:
        """Unmix components (frame, bin, component) into sources (frame, bin, source) at any scale.

        Args:
            z: The components, as many as sources.
            share: How much of the iterations to make, 0 to 1.
        """
        raise NotImplementedError


class AuxIVA(_Convolutive):
    """Independent vector analysis; a pure function of the mixture, ``n_sources`` and ``seed``.

    Args:
        model: Distribution of a frame of a source: ``laplace``, or ``gauss`` with a variance for each frame.
        n_iterations: Number of updates of W.
        window_seconds: Length of the window, about the reverberation time.
        overlap: Windows over each sample.
        max_frames: The largest number of frames that W is computed from.
        seed: Seed of a dither at -120 dB, the only random part of the method.

    Raises:
        SepnetError: A setting is out of range, or pyroomacoustics is not installed.
    """

    def __init__(
        self,
        *,
        model: Literal["laplace", "gauss"] = "gauss",
        n_iterations: NonNegativeInt = 50,
        window_seconds: Seconds = 0.384,
        overlap: int = 4,
        max_frames: PositiveInt = 1000,
        seed: Seed = 0,
    ) -> None:
        super().__init__(window_seconds=window_seconds, overlap=overlap, max_frames=max_frames, seed=seed)
        self.model, self.n_iterations = model, n_iterations

    def _unmix(self, z: np.ndarray, share: float) -> np.ndarray:
        pra = _pyroomacoustics()
        n_iterations = math.ceil(share * self.n_iterations)
        y: np.ndarray = pra.bss.auxiva(z, n_iter=n_iterations, proj_back=False, model=self.model)
        return y


class ILRMA(_Convolutive):
    """Independent low-rank matrix analysis; a pure function of the mixture, ``n_sources`` and ``seed``.

    Args:
        n_components: Spectra of each source.
        n_iterations: Number of updates of W.
        warm_iterations: Number of updates by AuxIVA (gauss) before them.
        window_seconds: Length of the window, about the reverberation time.
        overlap: Windows over each sample.
        max_frames: The largest number of frames that W is computed from.
        seed: Seed of the first spectra, and of a dither at -120 dB.

    Raises:
        SepnetError: A setting is out of range, or pyroomacoustics is not installed.
    """

    def __init__(
        self,
        *,
        n_components: LayerSize = 8,
        n_iterations: NonNegativeInt = 50,
        warm_iterations: NonNegativeInt = 30,
        window_seconds: Seconds = 0.32,
        overlap: int = 4,
        max_frames: PositiveInt = 1000,
        seed: Seed = 0,
    ) -> None:
        super().__init__(window_seconds=window_seconds, overlap=overlap, max_frames=max_frames, seed=seed)
        self.n_components, self.n_iterations, self.warm_iterations = (
            n_components,
            n_iterations,
            warm_iterations,
        )

    def _unmix(self, z: np.ndarray, share: float) -> np.ndarray:
        pra = _pyroomacoustics()
        warm_iterations = math.ceil(share * self.warm_iterations)
        n_iterations = math.ceil(share * self.n_iterations)
        if warm_iterations:
            z = pra.bss.auxiva(z, n_iter=warm_iterations, proj_back=False, model="gauss")
        # At unit power pyroomacoustics' rescaling, which takes columns of W for rows, does least harm.
        z = z / np.sqrt(np.mean(np.abs(z) ** 2, axis=(0, 1)))
        with _seeded(self.seed):
            y: np.ndarray = pra.bss.ilrma(
                z, n_iter=n_iterations, proj_back=False, n_components=self.n_components
            )
        return y


def _principal(x: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Find the n strongest principal components of x (bin, channel, frame).

    Returns:
        The matrices (bin, component, channel) to components at unit power, and those back.
    """
    covariance = x @ x.mH / x.shape[-1]
    power, directions = torch.linalg.eigh(covariance)  # ascending
    power, directions = power.flip(1)[:, :n], directions.flip(2)[:, :, :n]
    floor = MIN_COMPONENT_POWER * power[:, :1].clamp_min(MIN_COMPONENT_POWER * float(power.max()))
    deviation = power.clamp_min(floor).sqrt()[:, None]  # (bin, 1, component)
    # The phase of a component is arbitrary: it gets that of channel 0, so that neighbouring bins agree.
    phase = torch.where(directions[:, :1] == 0, 1.0, directions[:, :1].sgn())
    directions = directions * phase.conj()
    return (directions / deviation).mH, directions * deviation


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed numpy's global generator for a while: pyroomacoustics' ILRMA draws from no other."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def _pyroomacoustics() -> Any:
    try:
        import pyroomacoustics
    except ImportError as error:
        raise SepnetError(
            "AuxIVA and ILRMA need the package pyroomacoustics, which is not installed: "
            "pip install 'sepnet[rooms]'"
        ) from error
    return pyroomacoustics
