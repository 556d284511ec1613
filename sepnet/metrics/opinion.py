"""DNSMOS P.835: predicted opinions of listeners on a recording, without a reference.

Reddy, Gopal, Cutler, "DNSMOS P.835: A non-intrusive perceptual objective speech quality metric to evaluate
noise suppressors", ICASSP 2022. The network and the polynomials that map its outputs to opinions are those
that the authors publish in the package speechmos.

It was trained on noisy speech and on the output of noise suppressors, not on separated speech: a second
talker in the background is speech to it, too.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sepnet.metrics.sdr import is_silent
from sepnet.onnx import import_onnxruntime
from sepnet.types import SepnetError

if TYPE_CHECKING:
    import onnxruntime

SAMPLE_RATE = 16000
WINDOW_SECONDS = 9.01
WINDOW = int(WINDOW_SECONDS * SAMPLE_RATE)
HOP = SAMPLE_RATE
MAX_BATCH = 4
REQUIRED = ("speechmos", "onnxruntime")
INSTALL = "pip install 'sepnet[mos]'"
# Coefficients of the quadratic polynomials, highest power first.
SPEECH = (-0.08397278, 1.22083953, 0.0052439)
BACKGROUND = (-0.13166888, 1.60915514, -0.39604546)
OVERALL = (-0.06766283, 1.11546468, 0.04602535)


class Opinion(NamedTuple):
    """Predicted mean opinion scores, each from about 1 (bad) to 5 (excellent); nan where undefined.

    Attributes:
        speech: How little the speech is distorted.
        background: How little the background disturbs.
        overall: The quality as a whole.
    """

    speech: float
    background: float
    overall: float

    def __str__(self) -> str:
        return f"DNSMOS {self.overall:.1f} (speech {self.speech:.1f}, background {self.background:.1f})"


UNDEFINED = Opinion(float("nan"), float("nan"), float("nan"))


def is_installed() -> bool:
    """Return whether the packages of DNSMOS are installed."""
    return all(importlib.util.find_spec(package) is not None for package in REQUIRED)


def dnsmos(signal: Float[Tensor, " time"], sample_rate: int) -> Opinion:
    """Predict how listeners would judge a recording of speech.

    It is the mean over windows of 9.01 s, one each second. Shorter signals are repeated.

    Args:
        signal: Full scale is 1; a signal beyond it is scaled down to it, as a loudspeaker would have to.
        sample_rate: 16000 Hz. Signals that were resampled from 8 kHz score lower: half of the band is empty.

    Returns:
        The opinions; nan for a silent signal.

    Raises:
        SepnetError: The rate is another, the shape is not (time,), samples are not finite, or the optional
            packages are missing.
    """
    if sample_rate != SAMPLE_RATE:
        raise SepnetError(
            f"DNSMOS is defined at {SAMPLE_RATE} Hz, not at {sample_rate} Hz: resample the signal first"
        )
    if signal.ndim != 1 or signal.numel() == 0:
        raise SepnetError(f"DNSMOS judges a signal (time,), not one of shape {tuple(signal.shape)}")
    if not bool(torch.isfinite(signal).all()):
        raise SepnetError("the signal holds samples that are NaN or infinite")
    if bool(is_silent(signal)):
        return UNDEFINED
    samples = signal.detach().cpu().float()
    samples = samples / samples.abs().max().clamp(min=1.0)
    return _cached(samples.numpy().tobytes())


@lru_cache(maxsize=8)
def _cached(content: bytes) -> Opinion:
    """The opinions on float32 samples, remembered: an evaluation asks for each of the three in turn."""
    samples = np.frombuffer(content, np.float32)
    while len(samples) < WINDOW:
        samples = np.concatenate([samples, samples])
    n_windows = int(len(samples) // SAMPLE_RATE - WINDOW_SECONDS) + 1
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP][:n_windows]
    raw = np.concatenate(
        [
            _network().run(None, {"input_1": windows[k : k + MAX_BATCH]})[0]
            for k in range(0, len(windows), MAX_BATCH)
        ]
    )  # (window, 3)
    scores = [np.polyval(c, raw[:, k]).mean() for k, c in enumerate((SPEECH, BACKGROUND, OVERALL))]
    return Opinion(*(float(score) for score in scores))


@lru_cache(maxsize=1)
def _network() -> onnxruntime.InferenceSession:
    """The network of the package. Raises SepnetError if a package is missing."""
    if not is_installed():
        raise SepnetError(f"DNSMOS needs optional packages: {INSTALL}")
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    path = files("speechmos") / "dnsmos_models" / "sig_bak_ovr.onnx"
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
