"""Sound files from strangers: read as from disk, and never more than the limits allow."""

from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
import soundfile

from sepnet.data import audio
from sepnet.data.audio.memory import SoundLimits, decode, encode
from sepnet.types import SepnetError
from tests.conftest import white_noise

RATE = 8000
LIMITS = SoundLimits(seconds=10.0, channels=2)


def sound_file(
    samples: np.ndarray, rate: int = RATE, *, kind: str = "WAV", subtype: str | None = None
) -> bytes:
    """samples: (time,) or (time, channel)."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=kind, subtype=subtype)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "suffix"), [("WAV", "wav"), ("FLAC", "flac"), ("OGG", "ogg"), ("MP3", "mp3"), ("AIFF", "aiff")]
)
def test_it_reads_what_the_reader_of_files_reads(tmp_path, kind, suffix):
    data = sound_file(np.stack([white_noise(RATE, 0), white_noise(RATE, 1)], axis=1), kind=kind)
    path = tmp_path / f"sound.{suffix}"
    path.write_bytes(data)
    there, rate = audio.read(path)
    here = decode(data, limits=LIMITS)
    assert rate == here.sample_rate == RATE
    assert here.defect is None
    np.testing.assert_array_equal(here.audio, there)


def test_what_is_encoded_is_decoded_to_the_bit():
    samples = 3 * white_noise(1000, 5)[None]  # far above full scale: nothing clips
    back = decode(encode(samples, 44100), limits=LIMITS)
    assert back.sample_rate == 44100
    np.testing.assert_array_equal(back.audio, samples)


def test_an_hour_in_a_small_file_is_refused_before_it_takes_memory():
    bomb = sound_file(np.zeros(3600 * RATE, dtype=np.int16), kind="FLAC")
    assert len(bomb) < 0.01 * 3600 * RATE
    tracemalloc.start()
    with pytest.raises(SepnetError, match=r"the file lasts 3600.0 s or more, of 10 s at the most"):
        decode(bomb, limits=LIMITS)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_a_header_that_promises_much_gets_no_memory_for_it():
    data = bytearray(sound_file(white_noise(100), 96000, kind="FLAC"))
    promised = 10 * 96000
    # STREAMINFO begins at byte 8; its 36 bits of total samples end at its byte 18.
    data[21] = (data[21] & 0xF0) | promised >> 32
    data[22:26] = (promised & 0xFFFFFFFF).to_bytes(4, "big")
    tracemalloc.start()
    assert f"its header promises {promised} samples" in str(decode(bytes(data), limits=LIMITS).defect)
    assert tracemalloc.get_traced_memory()[1] < 4 * promised  # less than one channel of it
    tracemalloc.stop()


@pytest.mark.parametrize(
    "data", [sound_file(white_noise(RATE))[:-100], sound_file(white_noise(RATE), kind="FLAC")[:11000]]
)
def test_what_can_be_read_of_a_cut_file_is_returned_with_what_is_wrong(data):
    sound = decode(data, limits=LIMITS, name="the mixture")
    told = str(sound.defect)
    assert told.startswith("the mixture is cut off or damaged: its header promises 8000 samples (1.00 s)")
    assert 0 < sound.audio.shape[1] < RATE
    assert f"but {sound.audio.shape[1]} (" in told


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is empty"),
        (b"<html>", "can't be read as audio"),
        (b"RIFF" + bytes(100), "can't be read as audio"),
        (b"\xff\xfb" + bytes(5000), "can't be read as audio|zero length"),
        (sound_file(np.full(10, np.nan), subtype="FLOAT"), "10 of 10 samples are NaN"),
        (sound_file(white_noise(100), 44099), "is at 44099 Hz"),
        (sound_file(np.zeros((100, 3))), "has 3 channels, of 2 at the most"),
        (sound_file(np.zeros(0)), "zero length"),
    ],
)
def test_bad_files_are_told_in_a_sentence(data, told):
    with pytest.raises(SepnetError, match=told) as caught:
        decode(data, limits=LIMITS, name="the mixture")
    assert str(caught.value).startswith("the mixture")
