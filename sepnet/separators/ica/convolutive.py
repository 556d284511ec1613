"""Blind separation in rooms: one unmixing matrix for each frequency, by AuxIVA and by ILRMA.

In the short-time spectrum a room is a mixing matrix A_f for each frequency f, and y_ft = W_f x_ft. What keeps
one source in one row of W_f for all f is a model of a whole frame of it:

    AuxIVA [1]  |y_k,t| over all frequencies has one distribution: they are loud together
    ILRMA  [2]  |y_k,ft|^2 is of low rank: few spectra, each with its course in time

Both iterate in pyroomacoustics (the extra ``rooms``). Around them, the same for both:

- Each frequency is first projected onto its ``n_sources`` strongest principal components, z = K x, at unit
  power. That serves more microphones than sources, and keeps the matrices well-conditioned. (OverIVA, which
  takes all microphones, did no better with four of them, and failed more often.)
- Only y is taken from pyroomacoustics: its ILRMA returns a W that is rescaled after y was made with it.
  W is the regression of y on z.
- Each row is projected back to channel 0: with A the (pseudo)inverse of W K, the image of source k is
  A_0k (W K)_k x. For as many microphones as sources the images sum to channel 0; what is lacking otherwise
  is shared equally.
- W is found from ``max_frames`` frames spread evenly over the recording, and applied to all of it a block at
  a time: a long recording takes no more memory than a short one. Nothing may move in the meantime.

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
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Complex128, Float
from torch import Tensor
from torch.nn import functional as F

from sepnet.dsp.consistency import make_consistent
from sepnet.separators.ica.channels import require_channels, spectrum
from sepnet.types import CannotSeparate, Mixture, Separation, SeparationWarning, SeparatorInfo, SepnetError

FLOOR = 1e-10  # power of the weakest component kept, relative to the strongest of its frequency
DITHER = 1e-6  # amplitude; keeps frequencies invertible in which a digital silence leaves nothing
MOST_HALVINGS = 5  # of the number of iterations
FRAMES_A_SOURCE = 4  # with fewer, a covariance over the frames says nothing
BLOCK_SAMPLES = 1 << 17


@dataclass(frozen=True)
class Transform:
    """The short-time spectrum, in complex128: a Hann window, each sample under ``overlap`` of them."""

    window_samples: int
    overlap: int

    @classmethod
    def lasting(cls, seconds: float, sample_rate: int, overlap: int) -> Transform:
        """With a window of about ``seconds``, a multiple of twice the overlap."""
        return cls(max(1, round(seconds * sample_rate / (2 * overlap))) * 2 * overlap, overlap)

    @property
    def hop_samples(self) -> int:
        """From one frame to the next."""
        return self.window_samples // self.overlap

    def __call__(
        self, audio: Float[Tensor, "channel time"], hop_samples: int | None = None
    ) -> Complex128[Tensor, "channel bin frame"]:
        """Frames centred on the multiples of the hop, silence around the signal."""
        return spectrum(audio, self.window_samples, self.hop_samples if hop_samples is None else hop_samples)

    def filter(
        self, filters: Complex128[Tensor, "bin source channel"], audio: Float[Tensor, "channel time"]
    ) -> Float[Tensor, "source time"]:
        """The inverse transform of ``filters @ spectrum``, a block at a time, as float32.

        Each block is transformed with a window's length of its surroundings, in frames that lie as those of
        the whole signal would: where the blocks begin makes no difference.
        """
        time, around = audio.shape[1], self.window_samples
        block = max(1, min(BLOCK_SAMPLES, time) // self.hop_samples) * self.hop_samples
        padded = F.pad(audio, (around, around + block))
        found = []
        for start in range(0, time, block):
            observed = self(padded[:, start : start + block + 2 * around])
            filtered = torch.einsum("fsc,cft->sft", filters, observed)
            signal = torch.istft(
                filtered,
                self.window_samples,
                self.hop_samples,
                window=self._window,
                length=block + 2 * around,
            )
            found.append(signal[:, around : around + block].float())
        return torch.cat(found, dim=1)[:, :time]

    @property
    def _window(self) -> Tensor:
        return torch.hann_window(self.window_samples, dtype=torch.float64)


class _Convolutive:
    """What AuxIVA and ILRMA share; ``_unmix`` is theirs."""

    info = SeparatorInfo(needs=frozenset({"n_sources"}))

    def __init__(self, *, window_seconds: float, overlap: int, max_frames: int, seed: int) -> None:
        _pyroomacoustics()
        if window_seconds <= 0 or overlap < 2:
            raise SepnetError(
                f"window_seconds={window_seconds} and overlap={overlap}: the window has to be positive, and "
                "each sample under two windows or more"
            )
        self.window_seconds, self.overlap = window_seconds, overlap
        self.max_frames, self.seed = max_frames, seed

    def separate(self, mixture: Mixture) -> Separation:
        """``sources`` (n_sources, time) in arbitrary order; their sum is channel 0."""
        n_sources = require_channels(mixture)
        audio = mixture.audio
        if not bool(audio.any()):
            return Separation(torch.zeros_like(audio[:1]).repeat(n_sources, 1))
        transform = Transform.lasting(self.window_seconds, mixture.sample_rate, self.overlap)
        least = FRAMES_A_SOURCE * n_sources * transform.hop_samples
        if audio.shape[1] < least:
            raise CannotSeparate(
                f"needs {least / mixture.sample_rate:.2f} s or more to tell {n_sources} sources apart with a "
                f"window of {self.window_seconds} s, but the mixture is shorter"
            )
        filters = self._filters(transform, audio, n_sources)
        return Separation(make_consistent(transform.filter(filters, audio), audio[0]))

    def _filters(
        self, transform: Transform, audio: Float[Tensor, "channel time"], n_sources: int
    ) -> Complex128[Tensor, "bin source channel"]:
        """From the microphones to the images of the sources at channel 0."""
        level = float(torch.linalg.vector_norm(audio, dtype=torch.float64)) / math.sqrt(audio.numel())
        hop = max(transform.hop_samples, -(-audio.shape[1] // self.max_frames))
        x = (transform(audio, hop) / level).permute(1, 0, 2)  # (bin, channel, frame)
        whitening, unwhitening = _principal(x, n_sources)
        z = whitening @ x
        rng = torch.Generator().manual_seed(self.seed)
        z = z + DITHER * torch.randn(z.shape, generator=rng, dtype=z.dtype)
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
        """``_unmix``, with half as many iterations for as long as it divides by zero.

        A source that is separated so well that nothing is left of it in its pauses has no variance there.
        """
        for halvings in range(MOST_HALVINGS):
            share = 0.5**halvings
            with np.errstate(all="ignore"), contextlib.suppress(np.linalg.LinAlgError):
                y = self._unmix(z, share)
                if np.isfinite(y).all():
                    if share < 1:
                        message = f"stopped after {share:.0%} of the iterations: more divide by zero"
                        warnings.warn(SeparationWarning(message), stacklevel=2)
                    return y
        raise CannotSeparate(
            "in some frequency the channels are copies or sums of each other, or hold nothing"
        )

    def _unmix(self, z: np.ndarray, share: float) -> np.ndarray:
        """Sources (frame, bin, source) from as many components (frame, bin, component), at any scale.

        share: of the iterations.
        """
        raise NotImplementedError


class AuxIVA(_Convolutive):
    """Independent vector analysis; a pure function of the mixture, ``n_sources`` and ``seed``.

    model: of a frame of a source, ``laplace`` or ``gauss`` (a variance of its own for each frame).
    n_iterations: how often W is updated. window_seconds: about the reverberation time. overlap: windows over
    each sample. max_frames: see above. The seed draws a dither at -120 dB; there is no other chance
    in the method.

    Raises CannotSeparate for fewer channels than sources, in number or in rank, and for mixtures shorter than
    a few windows; SepnetError without pyroomacoustics.
    """

    def __init__(
        self,
        *,
        model: Literal["laplace", "gauss"] = "gauss",
        n_iterations: int = 50,
        window_seconds: float = 0.384,
        overlap: int = 4,
        max_frames: int = 1000,
        seed: int = 0,
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

    n_components: spectra of each source. warm_iterations: of AuxIVA (gauss), whose W it starts from.
    n_iterations: of its own. The seed draws the first spectra. Else as ``AuxIVA``.
    """

    def __init__(
        self,
        *,
        n_components: int = 8,
        n_iterations: int = 50,
        warm_iterations: int = 30,
        window_seconds: float = 0.32,
        overlap: int = 4,
        max_frames: int = 1000,
        seed: int = 0,
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
    """For x (bin, channel, frame): n components at unit power (bin, component, channel), and the way back."""
    covariance = x @ x.mH / x.shape[-1]
    power, directions = torch.linalg.eigh(covariance)  # ascending
    power, directions = power.flip(1)[:, :n], directions.flip(2)[:, :, :n]
    floor = FLOOR * power[:, :1].clamp_min(FLOOR * float(power.max()))
    deviation = power.clamp_min(floor).sqrt()[:, None]  # (bin, 1, component)
    # A component has no phase of its own: it gets that of channel 0, or neighbours would differ by chance.
    phase = torch.where(directions[:, :1] == 0, 1.0, directions[:, :1].sgn())
    directions = directions * phase.conj()
    return (directions / deviation).mH, directions * deviation


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds numpy's global generator for a while: the only one that pyroomacoustics' ILRMA draws from."""
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
