"""Every format that FFmpeg writes is read whole, whatever its header says of its length."""

from __future__ import annotations

import functools
import io
import itertools
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from sepnet.data import audio
from sepnet.data.audio.ffmpeg import FfmpegDecoder, FileForFfmpeg
from sepnet.types import SepnetError

CASES = Path(__file__).parents[2] / "shared" / "cases"
RATES = (16000, 44100, 48000)
SECONDS = 1.3
WRITTEN = [  # (suffix, FFmpeg's format, codec, whether nothing is lost)
    ("wav", "wav", "pcm_s16le", True),
    ("wav", "wav", "pcm_s24le", True),
    ("wav", "wav", "pcm_f32le", True),
    ("wav", "wav", "adpcm_ms", False),
    ("w64", "w64", "pcm_s16le", True),
    ("aiff", "aiff", "pcm_s16be", True),
    ("caf", "caf", "pcm_s16be", True),
    ("au", "au", "pcm_s16be", True),
    ("flac", "flac", "flac", True),
    ("oga", "ogg", "flac", True),
    ("ogg", "ogg", "vorbis", False),
    ("opus", "opus", "libopus", False),
    ("mp3", "mp3", "libmp3lame", False),
    ("mp2", "mp2", "mp2", False),
    ("m4a", "ipod", "aac", False),
    ("m4a", "ipod", "alac", True),
    ("aac", "adts", "aac", False),
    ("webm", "webm", "libopus", False),
    ("mka", "matroska", "vorbis", False),
    ("mka", "matroska", "pcm_s16le", True),
    ("wma", "asf", "wmav2", False),
    ("ac3", "ac3", "ac3", False),
    ("eac3", "eac3", "eac3", False),
    ("tta", "tta", "tta", True),
    ("wv", "wv", "wavpack", True),
    ("avi", "avi", "libmp3lame", False),
    ("mov", "mov", "pcm_s16le", True),
    ("ts", "mpegts", "aac", False),
    ("flv", "flv", "aac", False),
    ("nut", "nut", "libmp3lame", False),
]


def rates_of(codec: str) -> tuple[int, ...]:
    """Three rates of a codec: those of RATES where it has them."""
    possible = av.codec.Codec(codec, "w").audio_rates
    if not possible:
        return RATES
    return tuple(sorted(possible, key=lambda rate: (rate not in RATES, abs(rate - 24000)))[:3])


def cases() -> list[tuple[str, str, str, bool, int, int]]:
    return [
        (*written, channels, rate)
        for written in WRITTEN
        for channels in ((2,) if written[2] == "vorbis" else (1, 2))  # FFmpeg encodes Vorbis in stereo alone
        for rate in rates_of(written[2])
    ]


@functools.cache
def sound(channels: int, rate: int, seconds: float = SECONDS) -> np.ndarray:
    """(channel, time): gliding tones, each step of 16 bits."""
    time = np.arange(round(seconds * rate)) / rate
    tones = [np.sin(2 * np.pi * (220 + 150 * k + 90 * time) * time) for k in range(channels)]
    return (np.round(0.3 * 32768 * np.stack(tones)) / 32768).astype(np.float32)


def encode(
    path: Path,
    form: str,
    codec: str,
    signals: list[np.ndarray],
    rate: int,
    *,
    video: bool = False,
    **options: str,
) -> Path:
    """Write signals (channel, time) as tracks of a file, with a track of pictures if ``video``."""
    with av.open(str(path), "w", format=form, options=options) as container:
        if video:
            pictures = container.add_stream("mpeg4", rate=10)
            pictures.width = pictures.height = 32
        streams = []
        for signal in signals:
            layout = {1: "mono", 2: "stereo"}[len(signal)]
            stream = container.add_stream(codec, rate=rate, layout=layout, options={"strict": "experimental"})
            stream.bit_rate = 128_000
            possible = {known.name for known in stream.codec.audio_formats or ()}
            if of_16_bits := sorted(possible & {"s16", "s16p"}):
                stream.format = of_16_bits[0]
            streams.append(stream)
        if video:
            for _ in range(10):
                picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
                container.mux(pictures.encode(picture))
            container.mux(pictures.encode(None))
        for stream, signal in zip(streams, signals, strict=True):
            layout = {1: "mono", 2: "stereo"}[len(signal)]
            frame_size = stream.codec_context.frame_size or 1024
            resampler = av.AudioResampler(
                format=stream.format.name, layout=layout, rate=rate, frame_size=frame_size
            )
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(signal), format="fltp", layout=layout)
            frame.sample_rate, frame.pts = rate, 0
            for piece in (*resampler.resample(frame), *resampler.resample(None)):
                container.mux(stream.encode(piece))
            container.mux(stream.encode(None))
    return path


def decoded_by_av(path: Path, track: int = 0) -> np.ndarray:
    """All that FFmpeg decodes (channel, time), converted to floats by its own resampler."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=track))
    layout, rate = frames[0].layout.name, frames[0].sample_rate
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
    pieces = [piece.to_ndarray() for frame in frames for piece in resampler.resample(frame)]
    return np.concatenate(pieces, axis=1)


@pytest.mark.parametrize(("suffix", "form", "codec", "lossless", "channels", "rate"), cases())
def test_all_that_is_in_a_file_is_read(
    tmp_path: Path, suffix: str, form: str, codec: str, lossless: bool, channels: int, rate: int
) -> None:
    whole = sound(channels, rate)
    path = encode(tmp_path / f"a.{suffix}", form, codec, [whole], rate)
    expected = decoded_by_av(path)
    info = audio.info(path)
    decoded_rate = 48000 if codec == "libopus" else rate
    assert (info.sample_rate, info.channels, info.frames) == (decoded_rate, channels, expected.shape[1])
    assert info.defect is None
    samples, _ = audio.read(path)
    np.testing.assert_allclose(samples, expected, atol=1e-7)
    if lossless:
        np.testing.assert_array_equal(samples[:, : whole.shape[1]], whole)
    with audio.open_audio(path) as reader:
        for start, stop in ((0, 5000), (3000, 9000), (12345, 12346), (100, 200), (0, info.frames)):
            np.testing.assert_array_equal(reader.read(start, stop), samples[:, start:stop])


@pytest.mark.slow
def test_every_format_that_can_be_written_is_read(tmp_path: Path) -> None:
    """All of FFmpeg's formats times all of its codecs; most don't go together."""
    unread, n_read = [], 0
    codecs = [name for name in sorted(av.codecs_available) if _is_audio_encoder(name)]
    formats = [name for name in sorted(av.formats_available) if _writes_one_file(name)]
    for form, codec, (channels, rate) in itertools.product(formats, codecs, ((2, 44100), (1, 16000))):
        path = tmp_path / f"a.{form}"
        try:
            encode(path, form, codec, [sound(channels, rate)], rate)
            with av.open(str(path)) as container:
                n_frames = sum(frame.samples for frame in container.decode(audio=0))
        except (av.FFmpegError, ValueError, IndexError, OSError):
            continue
        n_read += n_frames > 0
        if n_frames and audio.info(path).frames != n_frames:
            unread.append((form, codec, channels, rate))
    assert n_read > 500
    assert unread == []


@pytest.mark.parametrize(("form", "codec"), [("g722", "g722"), ("sbc", "sbc"), ("rso", "pcm_u8")])
def test_formats_without_a_header_are_told_by_their_suffix(form: str, codec: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{form}"
    encode(path, form, codec, [sound(1, 16000)], 16000)
    assert audio.info(path).frames > 0
    path.rename(tmp_path / "a.wav")
    with pytest.raises(SepnetError, match="can't be read as audio"):
        audio.info(tmp_path / "a.wav")


def _is_audio_encoder(name: str) -> bool:
    try:
        return av.codec.Codec(name, "w").type == "audio"
    except ValueError:
        return False


def _writes_one_file(name: str) -> bool:
    others = ("alsa", "oss", "fbdev", "hls", "dash", "hds", "segment", "smoothstreaming", "tee", "rtp",
              "rtsp", "sap", "rtp_mpegts", "whip", "fifo", "webm_chunk", "webm_dash_manifest",
              "image2")  # fmt: skip
    container = av.format.ContainerFormat(name)
    return container.is_output and not any(part in name.split(",") for part in others) and "v4l2" not in name


# --- lengths that no header tells, or tells wrongly -------------------------------------------------------


def mp3_without_header(path: Path, rate: int = 44100) -> Path:
    """An mp3 of variable bit rate without its first frame, which counts the others."""
    stream = io.BytesIO()
    samples = sound(2, rate, 4.0).T.copy()
    samples[: rate * 2] *= 1e-3  # far fewer bits: a bit rate taken from the beginning is wrong
    soundfile.write(stream, samples, rate, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="VARIABLE")
    content = stream.getvalue()
    assert b"Xing" in content[:200] or b"Info" in content[:200]
    second = content.index(content[:2], 4)
    path.write_bytes(content[second:])
    return path


def test_an_mp3_without_its_counting_frame_is_read_whole(tmp_path: Path) -> None:
    path = mp3_without_header(tmp_path / "a.mp3")
    assert audio.info(path).frames == decoded_by_av(path).shape[1] >= 4 * 44100
    assert audio.info(path).defect is None


@pytest.mark.parametrize(("codec", "rate"), [("vorbis", 44100), ("libopus", 48000), ("flac", 44100)])
def test_ogg_streams_chained_to_each_other_are_read_one_after_the_other(
    tmp_path: Path, codec: str, rate: int
) -> None:
    links = [
        encode(tmp_path / f"{seconds}.ogg", "ogg", codec, [sound(2, rate, seconds)], rate)
        for seconds in (1.3, 0.7, 2.0)
    ]
    path = tmp_path / "chained.ogg"
    path.write_bytes(b"".join(link.read_bytes() for link in links))
    expected = np.concatenate([audio.read(link)[0] for link in links], axis=1)
    samples, _ = audio.read(path)
    assert samples.shape == expected.shape
    # The decoder of Opus is not begun anew at the seams, as its header is the same.
    np.testing.assert_allclose(samples, expected, atol=1e-2 if codec == "libopus" else 0)


def test_mp3_files_joined_to_each_other_are_read_whole(tmp_path: Path) -> None:
    one = encode(tmp_path / "1.mp3", "mp3", "libmp3lame", [sound(2, 44100, 3.0)], 44100).read_bytes()
    (tmp_path / "a.mp3").write_bytes(one + one)
    samples, _ = audio.read(tmp_path / "a.mp3")
    assert 2 * 3.0 * 44100 <= samples.shape[1] <= 2 * 3.0 * 44100 + 4 * 1152
    alone = audio.read(tmp_path / "1.mp3")[0]
    np.testing.assert_array_equal(samples[:, :100_000], alone[:, :100_000])
    tail = samples[0, -60_000:]
    place = int(np.argmax(np.correlate(tail, alone[0, 100_000:110_000])))
    np.testing.assert_allclose(tail[place : place + 10_000], alone[0, 100_000:110_000], atol=1e-3)


@pytest.mark.parametrize("promised", [0, 1000, 44100])
def test_a_flac_whose_header_is_wrong_is_read_whole(tmp_path: Path, promised: int) -> None:
    """0: written to a pipe; others: fewer than there are."""
    whole = sound(2, 44100)
    path = encode(tmp_path / "a.flac", "flac", "flac", [whole], 44100)
    set_flac_length(path, promised)
    np.testing.assert_array_equal(audio.read(path)[0], whole)
    assert audio.info(path).defect is None


def set_flac_length(path: Path, n_samples: int) -> None:
    """Write the 36 bits of total samples that end at byte 26."""
    content = bytearray(path.read_bytes())
    content[21] = (content[21] & 0xF0) | n_samples >> 32
    content[22:26] = (n_samples & 0xFFFFFFFF).to_bytes(4, "big")
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("noxing_vbr.mp3", 442_368),
        ("noxing_cbr.mp3", 442_368),
        ("u.mp2", 441_216),
        ("pipe.flac", 441_000),
        ("chained.ogg", 882_000),  # of each of the two streams 441,000
        ("concat.mp3", 883_631),
    ],
)
def test_files_of_other_programs(name: str, frames: int) -> None:
    if not CASES.is_dir():
        pytest.skip(f"the files are not at {CASES}")
    assert audio.info(CASES / name) == audio.AudioInfo(44100, 2, frames)
    assert audio.read(CASES / name)[0].shape == (2, frames)


# --- files that are cut off -------------------------------------------------------------------------------

CUT = [
    ("wav", "wav", "pcm_s16le", {}),
    ("aiff", "aiff", "pcm_s16be", {}),
    ("flac", "flac", "flac", {}),
    ("mp3", "mp3", "libmp3lame", {}),
    ("ogg", "ogg", "vorbis", {}),
    ("m4a", "mp4", "aac", {"movflags": "frag_keyframe+empty_moov"}),
    ("mka", "matroska", "aac", {}),
    ("wv", "wv", "wavpack", {}),
    ("aac", "adts", "aac", {}),
]


@pytest.mark.parametrize(("suffix", "form", "codec", "options"), CUT, ids=[case[0] for case in CUT])
def test_a_file_that_is_cut_off_is_told_and_read_as_far_as_it_goes(
    tmp_path: Path,
    suffix: str,
    form: str,
    codec: str,
    options: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    rate = 44100
    path = encode(tmp_path / f"a.{suffix}", form, codec, [sound(2, rate, 5.0)], rate, **options)
    intact = audio.read(path)[0]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10 + 7])
    info = audio.info(path)
    assert 2.0 < info.seconds < 4.0
    assert info.defect is not None
    assert str(path) in info.defect
    assert f"{info.seconds:.2f} s" in info.defect
    assert "cut off" in info.defect
    with pytest.raises(SepnetError, match=r"cut off.*copy or download it again"):
        audio.read(path)
    with pytest.raises(SepnetError, match="cut off"):
        audio.verify(path)
    samples, _ = audio.read(path, strict=False)
    assert info.defect in caplog.text
    n_same = samples.shape[1] - 4096  # the last frame of a codec may differ
    np.testing.assert_allclose(samples[:, :n_same], intact[:, :n_same], atol=1e-6)


@pytest.mark.parametrize("place", [-5, -(1 << 62), 1 << 70])
@pytest.mark.parametrize("in_memory", [True, False])
def test_ffmpeg_is_told_by_a_number_that_a_header_leads_out_of_the_file(
    tmp_path: Path, place: int, in_memory: bool
) -> None:
    # PyAV prints the traceback of what a file object raises.
    (tmp_path / "a").write_bytes(b"sound")
    with io.BytesIO(b"sound") if in_memory else (tmp_path / "a").open("rb") as stream:
        file = FileForFfmpeg(stream)
        assert file.seek(2) == 2
        assert file.seek(place) < 0
        assert file.read(2) == b"un"


# --- videos, tracks, and what is no sound -----------------------------------------------------------------


def test_the_sound_of_a_video_is_read_and_its_track_can_be_chosen(tmp_path: Path) -> None:
    one, other = sound(2, 44100), sound(1, 44100, 0.7)
    path = encode(tmp_path / "a.mkv", "matroska", "flac", [one, other], 44100, video=True)
    np.testing.assert_array_equal(audio.read(path)[0], one)
    np.testing.assert_array_equal(audio.read(path, track=1)[0], other)
    assert audio.info(path, track=1) == audio.AudioInfo(44100, 1, other.shape[1])
    with pytest.raises(SepnetError, match="has no audio track 2, counted from 0: it has 2 of them"):
        audio.info(path, track=2)
    silent = encode(tmp_path / "b.mkv", "matroska", "flac", [], 44100, video=True)
    with pytest.raises(SepnetError, match="holds no sound, only video"):
        audio.info(silent)


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {path}\n",
    ],
)
@pytest.mark.parametrize("suffix", ["m3u8", "mp3", "ffconcat"])
def test_a_list_of_other_files_is_not_followed(tmp_path: Path, playlist: str, suffix: str) -> None:
    audio.write(tmp_path / "secret.wav", sound(1, 16000), 16000)
    path = tmp_path / f"list.{suffix}"
    path.write_text(playlist.format(path=tmp_path / "secret.wav"))
    with pytest.raises(SepnetError, match="can't be read as audio"):
        audio.info(path)


def test_a_rate_that_no_recording_has_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 2_000_000_000)
    with pytest.raises(SepnetError, match="1 channels at 2000000000 Hz, which no recording has"):
        audio.info(tmp_path / "a.wav")


def test_streams_of_different_rates_are_not_joined(tmp_path: Path) -> None:
    links = [tmp_path / f"{rate}.ogg" for rate in (44100, 16000)]
    for link in links:
        soundfile.write(link, sound(1, int(link.stem))[0], int(link.stem), subtype="VORBIS")
    (tmp_path / "a.ogg").write_bytes(b"".join(link.read_bytes() for link in links))
    with pytest.raises(SepnetError, match=r"changes its rate or format after 1\.30 s"):
        audio.info(tmp_path / "a.ogg")


@pytest.mark.parametrize(("suffix", "form"), [("wav", "WAV"), ("flac", "FLAC"), ("mp3", "MP3")])
def test_a_long_file_is_read_in_the_memory_of_a_block(tmp_path: Path, suffix: str, form: str) -> None:
    rate, n_seconds = 44100, 120
    soundfile.write(tmp_path / f"a.{suffix}", np.tile(sound(1, rate, 4.0)[0], 30), rate, format=form)
    tracemalloc.start()
    with audio.open_audio(tmp_path / f"a.{suffix}") as reader:
        assert reader.frames == n_seconds * rate
        for start in range(0, reader.frames - rate, rate):
            reader.read(start, start + rate)
    assert tracemalloc.get_traced_memory()[1] < 3e6  # all of it would be 21 MB
    tracemalloc.stop()


def test_a_file_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.mp3", "mp3", "libmp3lame", [sound(1, 44100)], 44100)
    first = audio.info(path)
    monkeypatch.setattr("sepnet.data.audio.ffmpeg.FfmpegDecoder.count", lambda decoder: 1)
    assert audio.info(path) == first


@pytest.mark.parametrize("n_channels", [7, 8, 9])
def test_as_many_channels_as_ffmpeg_keeps_pointers_for_are_read(n_channels: int, tmp_path: Path) -> None:
    # Of eight channels in planes, PyAV may list a ninth one, whose memory is not theirs.
    samples = 0.1 * np.random.default_rng(0).standard_normal((20000, n_channels)).astype(np.float32)
    soundfile.write(tmp_path / "wide.ogg", samples, 16000)
    with (tmp_path / "wide.ogg").open("rb") as stream:
        decoder = FfmpegDecoder(io.BytesIO(stream.read()), "wide.ogg", n_bytes=1)
        read = decoder.read(20000)
        decoder.close()
    assert read.shape == (n_channels, 20000)
    expected, _ = soundfile.read(tmp_path / "wide.ogg", dtype="float32", always_2d=True)
    power = np.sort(np.square(expected).sum(axis=0))  # FFmpeg has another order of channels
    np.testing.assert_allclose(np.sort(np.square(read).sum(axis=1)), power, rtol=1e-3)


def test_a_kind_of_sound_without_a_decoder_is_refused(tmp_path: Path) -> None:
    content = bytearray()
    soundfile.write(tmp_path / "a.wav", np.zeros(400, np.float32), 8000, subtype="PCM_16")
    content += (tmp_path / "a.wav").read_bytes()
    content[20:22] = b"\x77\x77"  # the code of a codec that there is not
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(SepnetError, match=r"can't be read as audio"):
        audio.read(tmp_path / "a.wav")


def test_a_name_that_is_not_utf8_is_refused_by_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "a\udcff.wav"
    soundfile.write(tmp_path / "a.wav", np.zeros(400, np.float32), 8000)
    (tmp_path / "a.wav").rename(path)
    with pytest.raises(SepnetError, match=r"the name of .*a\\udcff.wav is not UTF-8: rename the file"):
        audio.read(path)
