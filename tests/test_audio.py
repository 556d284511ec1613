"""Sound files: what is written is read back bit by bit, and whatever is wrong with a file is told."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import resample_poly

from sepnet.atomic import replacing
from sepnet.data import audio
from sepnet.dsp.resample import resample
from sepnet.types import SepnetError

RATE = 8000


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


# --- writing and reading ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "subtype"),
    [
        ("a.wav", "PCM_16"),
        ("a.wav", "PCM_24"),
        ("a.flac", "PCM_16"),
        ("a.flac", "PCM_24"),
        ("a.aiff", "PCM_16"),
    ],
)
def test_every_step_of_an_integer_format_survives(tmp_path: Path, name: str, subtype: str) -> None:
    bits = audio.INTEGER_BITS[subtype]
    top = 1 << (bits - 1)
    steps = np.unique(
        np.concatenate([np.linspace(-top, top - 1, 3001).astype(int), [-top, -1, 0, 1, top - 1]])
    )
    samples = np.stack([steps, steps[::-1]]) / top
    audio.write(tmp_path / name, samples.astype(np.float32), RATE, subtype=subtype)
    again, rate = audio.read(tmp_path / name)
    assert rate == RATE
    np.testing.assert_array_equal(again * top, np.stack([steps, steps[::-1]]))
    assert again.dtype == np.float32


def test_integers_are_rounded_to_the_nearest_step(tmp_path: Path) -> None:
    samples = noise(1, 5000) * 1.9
    audio.write(tmp_path / "a.wav", samples, RATE, subtype="PCM_16")
    error = (audio.read(tmp_path / "a.wav")[0].astype(np.float64) - samples) * 2**15
    assert np.abs(error).max() <= 0.5
    assert abs(error.mean()) < 5 / np.sqrt(12 * 5000)  # no bias, as rounding down would bring


def test_float_files_keep_samples_beyond_full_scale(tmp_path: Path) -> None:
    samples = noise(2, 1000) * 7
    audio.write(tmp_path / "a.wav", samples, 44100)
    again, rate = audio.read(tmp_path / "a.wav", sample_rate=44100)
    np.testing.assert_array_equal(again, samples)
    assert audio.info(tmp_path / "a.wav") == audio.AudioInfo(44100, 2, 1000)
    assert rate == 44100


def test_one_channel_may_be_a_vector(tmp_path: Path) -> None:
    samples = noise(1000)
    audio.write(tmp_path / "a.wav", samples, RATE)
    assert audio.read(tmp_path / "a.wav")[0].shape == (1, 1000)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg"])
def test_a_stretch_is_that_stretch_of_the_whole(tmp_path: Path, name: str) -> None:
    subtype = "VORBIS" if name.endswith("ogg") else "PCM_16"
    audio.write(tmp_path / name, noise(2, 30000), RATE, subtype=subtype)
    whole = audio.read(tmp_path / name)[0]
    for start, frames in ((0, 1), (1, 4096), (12345, 6789), (29999, 1), (20000, -1)):
        part = audio.read(tmp_path / name, start=start, frames=frames)[0]
        stop = 30000 if frames == -1 else start + frames
        np.testing.assert_allclose(part, whole[:, start:stop], atol=0 if subtype == "PCM_16" else 1e-6)


@pytest.mark.parametrize(("start", "frames"), [(0, 1001), (1000, 1), (1000, -1), (-1, 5), (0, 0)])
def test_a_stretch_outside_the_file_is_refused(tmp_path: Path, start: int, frames: int) -> None:
    audio.write(tmp_path / "a.wav", noise(1000), RATE)
    with pytest.raises(SepnetError, match="has 1000 samples"):
        audio.read(tmp_path / "a.wav", start=start, frames=frames)


def test_another_rate_is_refused_with_both_rates_and_the_remedy(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", noise(1000), 16000)
    with pytest.raises(SepnetError, match=r"a\.wav is at 16000 Hz, but 8000 Hz .*resample"):
        audio.read(tmp_path / "a.wav", sample_rate=8000)


# --- bad files ----------------------------------------------------------------------------------------


def cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def make_cut(name: str, share: float, subtype: str = "PCM_16") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        audio.write(folder / name, noise(1, 20000), RATE, subtype=subtype)
        cut(folder / name, share)
        return folder / name

    return make


def make_bytes(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def make_raw(name: str, samples: list[float]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        soundfile.write(folder / name, np.array(samples, dtype=np.float32), RATE, subtype="FLOAT")
        return folder / name

    return make


def make_cut_mp3(folder: Path) -> Path:
    path = folder / "cut.mp3"  # its header says the length, and libsndfile ends early without an error
    soundfile.write(path, noise(20000), RATE, format="MP3", subtype="MPEG_LAYER_III")
    cut(path, 0.5)
    return path


def make_damaged(folder: Path) -> Path:
    path = make_cut("damaged.flac", 1.0)(folder)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)  # the length stays right
    path.write_bytes(content)
    return path


BAD = {
    "missing": (lambda folder: folder / "missing.wav", "there is no file"),
    "a folder": (lambda folder: folder, "there is no file"),
    "empty": (make_bytes("empty.wav", b""), "empty .0 bytes"),
    "not audio": (make_bytes("text.flac", b"this is no sound at all" * 99), "can't be read as audio"),
    "cut wav": (make_cut("cut.wav", 0.5), r"header promises 20000 samples \(2.50 s\), but 9989 \(1.25 s\)"),
    "cut float wav": (make_cut("cut.wav", 0.99, "FLOAT"), "cut off"),
    "cut aiff": (make_cut("cut.aiff", 0.5), "cut off"),
    "cut flac": (make_cut("cut.flac", 0.5), "promises 20000 samples"),
    "flac without its last frame": (make_cut("cut.flac", 0.999), "promises 20000 samples"),
    "cut ogg": (make_cut("cut.ogg", 0.5, "VORBIS"), "End of file|cut off"),
    "cut mp3": (make_cut_mp3, r"promises 20000 samples \(2.50 s\), but 8687 "),
    "damaged flac": (make_damaged, "damaged"),
    "only a header": (make_cut("cut.flac", 0.01), "cut off|can't be read"),
    "zero length": (make_raw("zero.wav", []), "zero length"),
    "nan": (make_raw("nan.wav", [0.1, float("nan"), float("inf")]), "2 of 3 samples are NaN or infinite"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("reader", [audio.read, audio.verify])
def test_a_bad_file_ends_in_one_sentence(tmp_path: Path, kind: str, reader: Callable[[Path], object]) -> None:
    make, reason = BAD[kind]
    path = make(tmp_path)
    with pytest.raises(SepnetError, match=reason) as caught:
        reader(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_good_files_pass_the_same_door(tmp_path: Path) -> None:
    for name, subtype in (("a.wav", "PCM_16"), ("a.flac", "PCM_16"), ("a.ogg", "VORBIS")):
        audio.write(tmp_path / name, noise(2, audio.BLOCK_FRAMES + 7), RATE, subtype=subtype)
        assert audio.verify(tmp_path / name) == audio.AudioInfo(RATE, 2, audio.BLOCK_FRAMES + 7)


def test_a_wav_from_a_pipe_whose_length_is_unknown_is_read(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", noise(1, 500), RATE, subtype="PCM_16")
    content = bytearray((tmp_path / "a.wav").read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(content)
    assert audio.read(tmp_path / "a.wav")[0].shape == (1, 500)


# --- refusals to write --------------------------------------------------------------------------------


def test_clipping_is_refused_and_the_gain_that_is_named_fits(tmp_path: Path) -> None:
    samples = noise(1000) * 3
    samples[17] = -1.75
    with pytest.raises(SepnetError, match=r"would clip: the peak is 1\.75 .*or less") as caught:
        audio.write(tmp_path / "a.wav", samples, RATE, subtype="PCM_16")
    gain = float(str(caught.value).split("by ")[1].split()[0])
    audio.write(tmp_path / "a.wav", samples * gain, RATE, subtype="PCM_16")
    assert np.abs(audio.read(tmp_path / "a.wav")[0]).max() == pytest.approx(1, abs=1e-4)
    with pytest.raises(SepnetError, match="would clip"):
        audio.write(tmp_path / "b.wav", np.array([1.0]), RATE, subtype="PCM_16")


@pytest.mark.parametrize(
    ("name", "samples", "subtype", "reason"),
    [
        ("a.wav", np.array([0.1, np.nan]), "FLOAT", "1 of 2 samples are NaN"),
        ("a.wav", np.zeros((1, 0)), "FLOAT", r"not \(1, 0\)"),
        ("a.flac", np.zeros(9), "FLOAT", "can't be written"),
        ("a.xyz", np.zeros(9), "FLOAT", "can't be written"),
        ("a.wav", np.zeros(9), "PCM_U8", "can't be written"),
    ],
)
def test_what_cannot_be_written_is_refused(
    tmp_path: Path, name: str, samples: np.ndarray, subtype: str, reason: str
) -> None:
    with pytest.raises(SepnetError, match=reason):
        audio.write(tmp_path / name, samples, RATE, subtype=subtype)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "subtype"), [("a.wav", "FLOAT"), ("a.flac", "PCM_16")])
def test_a_disk_that_fills_up_leaves_the_old_file_whole(tmp_path: Path, name: str, subtype: str) -> None:
    audio.write(tmp_path / name, noise(100), RATE, subtype=subtype)
    before = (tmp_path / name).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # the kernel writes no more than 4096 bytes
    try:
        with pytest.raises(SepnetError, match=rf"can't write .*{name}.*MB are free"):
            audio.write(tmp_path / name, noise(100_000), RATE, subtype=subtype)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == before


def test_an_interrupted_block_leaves_nothing(tmp_path: Path) -> None:
    def stop_halfway() -> None:
        with replacing(tmp_path / "x.csv") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_halfway()
    assert list(tmp_path.iterdir()) == []


# --- resampling ---------------------------------------------------------------------------------------

RATES = [(16000, 8000), (8000, 16000), (44100, 16000), (48000, 44100), (8000, 11025), (3, 7)]


@pytest.mark.parametrize(("orig", "new"), RATES)
@pytest.mark.parametrize("length", [1, 2, 17, 1001])
def test_resampling_is_scipy_s_for_arrays_and_tensors(orig: int, new: int, length: int) -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, length))
    common = np.gcd(orig, new)
    wanted = resample_poly(x, new // common, orig // common, axis=-1)
    assert wanted.shape[-1] == -(-length * new // orig)
    np.testing.assert_allclose(resample(x, orig, new), wanted, atol=1e-12)
    np.testing.assert_allclose(resample(torch.from_numpy(x), orig, new).numpy(), wanted, atol=1e-12)


def tone_level_db(frequency: float, orig: int, new: int) -> float:
    x = np.sin(2 * np.pi * frequency / orig * np.arange(orig))
    y = resample(x.astype(np.float32), orig, new)
    middle = y[len(y) // 4 : 3 * len(y) // 4].astype(np.float64)
    return float(10 * np.log10(2 * np.mean(middle**2) + 1e-12))


@pytest.mark.parametrize(("orig", "new"), [(16000, 8000), (44100, 16000), (48000, 8000)])
def test_a_tone_above_the_new_nyquist_dies(orig: int, new: int) -> None:
    assert tone_level_db(1.2 * new / 2, orig, new) < -54
    for ratio in (1.3, 1.5, 1.7, 1.9):
        assert tone_level_db(ratio * new / 2, orig, new) < -60


@pytest.mark.parametrize(("orig", "new"), [(16000, 8000), (44100, 16000), (8000, 16000), (8000, 44100)])
def test_a_tone_below_both_nyquists_keeps_its_level(orig: int, new: int) -> None:
    for ratio in (0.01, 0.1, 0.5, 0.8):
        assert tone_level_db(ratio * min(orig, new) / 2, orig, new) == pytest.approx(0, abs=0.03)


def test_resampling_keeps_dtype_and_gradient_and_equal_rates() -> None:
    x = torch.randn(1, 100, requires_grad=True)
    resample(x, 2, 1).sum().backward()
    assert x.grad is not None
    assert resample(x, 44100, 44100) is x
    assert resample(noise(9), 8000, 16000).dtype == np.float32
    for bad in (np.zeros(9, dtype=np.int16), torch.zeros(9, dtype=torch.int16)):
        with pytest.raises(SepnetError, match="needs floats"):
            resample(bad, 8000, 16000)
    with pytest.raises(SepnetError, match="0 Hz"):
        resample(noise(9), 8000, 0)
    with pytest.raises(SepnetError, match="common divisor"):
        resample(x.requires_grad_(), 44100, 44101)
    same = resample(x.detach(), 44100, 44101).numpy()
    np.testing.assert_array_equal(same, resample(x.detach().numpy(), 44100, 44101))
