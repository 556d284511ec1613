"""The filter bank is Kaldi's: against torchaudio's, transformers' with and without it, and by laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchaudio.compliance.kaldi as reference
from transformers import ASTFeatureExtractor
from transformers.models.audio_spectrogram_transformer import feature_extraction_audio_spectrogram_transformer

from sepnet.dsp.kaldi_fbank import POWER_FLOOR, kaldi_fbank, min_samples_of, n_frames
from sepnet.types import SepnetError

MEAN, STD = -4.2677393, 4.5689974  # of AudioSet, as the public models have them


def sounds(n: int = 3, time: int = 16000) -> torch.Tensor:
    """Noise, a chirp on an offset, and a click in near silence: (3, time)."""
    generator = torch.Generator().manual_seed(0)
    t = torch.arange(time) / 16000
    chirp = 0.3 * torch.sin(2 * torch.pi * (100 + 3000 * t) * t) + 0.2
    click = 1e-3 * torch.randn(time, generator=generator)
    click[time // 2] = 1.0
    return torch.stack([0.1 * torch.randn(time, generator=generator), chirp, click])[:n]


@pytest.mark.parametrize("n_mels", [40, 64, 128])
@pytest.mark.parametrize("time", [400, 559, 560, 16000, 16123])
def test_equals_torchaudio(n_mels: int, time: int) -> None:
    got = kaldi_fbank(sounds(time=time), n_mels=n_mels)
    for row, sound in zip(got, sounds(time=time), strict=True):
        wanted = reference.fbank(
            sound[None],
            htk_compat=True,
            window_type="hanning",
            num_mel_bins=n_mels,
            dither=0.0,
            frame_shift=10,
            sample_frequency=16000,
        )
        torch.testing.assert_close(row / (2 * STD), wanted / (2 * STD), atol=1e-4, rtol=0)


@pytest.mark.parametrize("with_torchaudio", [True, False])
def test_equals_the_extractor_of_the_public_models(
    with_torchaudio: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = feature_extraction_audio_spectrogram_transformer
    monkeypatch.setattr(module, "is_speech_available", lambda: with_torchaudio)
    extractor = ASTFeatureExtractor(max_length=98)
    sound = sounds()
    wanted = np.stack(extractor(list(sound.numpy()), sampling_rate=16000)["input_values"])
    # Without torchaudio it computes in float64, which in the empty bands of a chirp is another number.
    got = (kaldi_fbank(sound if with_torchaudio else sound.double()) - MEAN) / (2 * STD)
    np.testing.assert_allclose(got.numpy(), wanted, atol=1e-4, rtol=0)
    in_single = ((kaldi_fbank(sound) - MEAN) / (2 * STD)).numpy()
    np.testing.assert_allclose(in_single[[0, 2]], wanted[[0, 2]], atol=1e-4, rtol=0)


def test_frames_are_those_that_fit() -> None:
    for frames in (1, 2, 16, 98, 1024):
        time = min_samples_of(frames)
        assert n_frames(time) == frames
        assert n_frames(time - 1) == frames - 1
        assert kaldi_fbank(torch.ones(time)).shape == (frames, 128)


def test_gain_adds_to_the_logarithm_and_an_offset_does_nothing() -> None:
    sound = sounds(1).double()  # of 128 triangles the lowest hold no bin at all
    features = kaldi_fbank(sound, n_mels=64)
    louder = kaldi_fbank(4 * sound, n_mels=64) - features
    torch.testing.assert_close(louder, torch.full_like(louder, 2 * np.log(4)))
    torch.testing.assert_close(kaldi_fbank(sound + 0.5, n_mels=64), features)


def test_silence_is_the_floor_and_has_a_finite_gradient() -> None:
    silence = torch.zeros(2, 16000, requires_grad=True)
    features = kaldi_fbank(silence)
    torch.testing.assert_close(features, torch.full_like(features, float(np.log(POWER_FLOOR))))
    features.sum().backward()
    assert silence.grad is not None
    assert torch.isfinite(silence.grad).all()


def test_gradient_is_that_of_differences() -> None:
    sound = sounds(1, time=720)[0].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: kaldi_fbank(x, n_mels=8), (sound,), atol=1e-5)


def test_less_than_a_frame_is_refused() -> None:
    with pytest.raises(SepnetError, match="has 399 samples, but a frame of the filter bank 400"):
        kaldi_fbank(torch.zeros(399))
