"""Decoding by FFmpeg (PyAV): packet by packet, to the last sample that the decoder gives."""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from jaxtyping import Float

from sepnet.data.audio import headers
from sepnet.types import SepnetError

CONTAINERS = (
    "3gp,aa,aac,aax,ac3,ac4,adp,adx,aiff,alp,amr,amrnb,amrwb,apac,ape,apm,aptx,aptx_hd,argo_asf,asf,ast,au,avi,avr,bfstm,"
    "bonk,boa,brstm,caf,codec2,daud,dcstr,dfpwm,dsf,dss,dts,dtshd,dv,eac3,epaf,film_cpk,flac,flv,fsb,g722,"
    "g728,g729,genh,gsm,gxf,hca,hcom,iamf,iff,ilbc,ircam,iss,kvag,laf,lc3,live_flv,loas,lvf,lxf,m4a,matroska,"
    "mlp,mmf,mov,mp3,mp4,mpc,mpc8,mpeg,mpegts,mtaf,mxf,nistsphere,nsp,nut,ogg,oma,osq,paf,pvf,qcp,qoa,rka,rl2,"
    "rm,roq,rpl,rsd,rso,sbc,sds,sdx,shn,siff,sln,smjpeg,smk,sol,sox,spdif,svag,swf,tak,truehd,tta,vag,voc,"
    "vqf,w64,wady,wav,wavarc,webm,wsaud,wsd,wtv,wv,wve,xa,xvag,xwma"
)
"""Formats that hold their sound themselves. Left out: playlists and the like, which make FFmpeg read other
files or addresses; scripts that make sound without end; pictures and subtitles."""
OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "crypto"}  # and thus open nothing else
HEADERLESS_FORMATS = frozenset({"aptx", "dfpwm", "g722", "rso", "sbc"})  # which the file's suffix alone tells
WITH_LENGTH = frozenset(
    {
        "mov,mp4,m4a,3gp,3g2,mj2",
        "matroska,webm",
        "ogg",
        "asf",
        "flac",
        "wav",
        "w64",
        "caf",
        "wv",
        "tta",
        "ape",
    }
)
"""Formats whose headers are right about intact files. Of others FFmpeg estimates the length."""
HEADER_TOLERANCE_SECONDS = 0.5
SAMPLE_TYPES = {
    "u8": "u1",
    "s16": "i2",
    "s32": "i4",
    "s64": "i8",
    "flt": "f4",
    "dbl": "f8",
}  # of FFmpeg, NumPy
SKIPPED_FRAMES = 1 << 18  # at a time, on the way to a later sample


class FileForFfmpeg:
    """A file as FFmpeg calls it: where a damaged header sends it to no place, it gets a negative number."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._seek = stream.seek
        self.read, self.tell, self.seekable = stream.read, stream.tell, stream.seekable

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, and return it."""
        try:
            return self._seek(offset, whence)
        except (OSError, OverflowError, ValueError):
            return -errno.EINVAL


class FfmpegDecoder:
    """Decodes by FFmpeg; see ``sepnet.data.audio.decoding.Decoder``.

    Args:
        stream: The file; closed with the decoder.
        name: Its name, for messages.
        n_bytes: Its size.
        track: Which of the audio tracks, from 0.

    Raises:
        SepnetError: It is no sound that FFmpeg can read, or has no such track.
    """

    frames: int | None = None

    def __init__(self, stream: io.BufferedIOBase, name: Path | str, *, n_bytes: int, track: int = 0) -> None:
        self._stream, self._name, self._n_bytes, self._track = stream, name, n_bytes, track
        self._opened = contextlib.ExitStack()
        try:
            self._begin()
        except BaseException:
            self.close()
            raise
        self.announced_frames = self._announced_frames()
        exact = self._container.format.name == "flac"
        self.tolerance_frames = 0 if exact else round(HEADER_TOLERANCE_SECONDS * self.sample_rate)

    def _begin(self) -> None:
        """Open the file at its beginning and decode its first samples: they alone tell rate and channels."""
        self._stream.seek(0)
        self._has_mpeg_length = headers.has_mpeg_length(self._stream)
        self._stream.seek(0)
        suffix = Path(self._name).suffix.lower().removeprefix(".")
        form = suffix if suffix in HEADERLESS_FORMATS else None
        try:
            self._container = self._opened.enter_context(
                av.open(
                    FileForFfmpeg(self._stream), "r", format=form, options=OPTIONS, metadata_errors="ignore"
                )
            )
        except (av.FFmpegError, ValueError) as error:
            raise self._unreadable(getattr(error, "strerror", None) or error) from error
        self._audio = self._choose(self._track)
        self.sample_rate = self.channels = self.n_lost_frames = 0
        self._position = self._n_read = 0
        self.ends_incomplete = False
        self._pending: Float[np.ndarray, "channel time"] | None = None
        frames = self._decode()
        first = next(frames, None)
        if first is None:
            raise self._unreadable("it holds no samples, or is cut off before the first")
        self._frames: Iterator[AudioFrame] = itertools.chain([first], frames)

    def _choose(self, track: int) -> AudioStream:
        tracks = self._container.streams.audio
        if not tracks:
            raise SepnetError(f"{self._name} holds no sound, only {_kinds(self._container)}: leave it out")
        if track >= len(tracks):
            raise SepnetError(
                f"{self._name} has no audio track {track}, counted from 0: it has {len(tracks)} of them"
            )
        if tracks[track].codec_context is None:
            raise self._unreadable("FFmpeg has no decoder for its kind of sound")
        return tracks[track]

    def _unreadable(self, reason: object) -> SepnetError:
        return SepnetError(
            f"{self._name} ({self._n_bytes} bytes) can't be read as audio ({reason}): copy or download it "
            "again, or convert it to WAV or FLAC"
        )

    def _announced_frames(self) -> int | None:
        form = self._container.format.name
        if form not in WITH_LENGTH and not (form == "mp3" and self._has_mpeg_length):
            return None
        if self._audio.duration is not None and self._audio.time_base is not None:
            return round(self._audio.duration * self._audio.time_base * self.sample_rate)
        if self._container.duration is not None and len(self._container.streams) == 1:
            return round(self._container.duration * self.sample_rate / av.time_base)
        return None

    def _decode(self) -> Iterator[AudioFrame]:
        """All frames with samples. Packets that can't be decoded are counted and left out."""
        codec = self._audio.codec_context
        is_ogg = self._container.format.name == "ogg"
        for packet in self._packets():
            if is_ogg and packet.has_sidedata("new_extradata"):
                # A stream chained to the one before. A decoder that went on would overlap its first packet
                # with the last one of the other.
                yield from self._checked(_drain(codec))
                codec = _new_decoder(codec, bytes(packet.get_sidedata("new_extradata")))
            try:
                frames = codec.decode(packet)
            except av.FFmpegError:
                seconds = float((packet.duration or 0) * (packet.time_base or 0))
                self.n_lost_frames += round(seconds * self.sample_rate)
                self.ends_incomplete = True
                continue
            self.ends_incomplete = False
            yield from self._checked(frames)
        yield from self._checked(_drain(codec))

    def _packets(self) -> Iterator[Packet[AudioStream]]:
        try:
            for packet in self._container.demux(self._audio):
                if packet.size:
                    yield packet
        except av.error.PatchWelcomeError as error:
            raise SepnetError(
                f"{self._name} changes its rate or format after {self._seconds:.2f} s: cut it there into "
                "two files"
            ) from error
        except av.FFmpegError:  # a container that is cut off may end with an error
            self.ends_incomplete = True

    @property
    def _seconds(self) -> float:
        return self._position / max(1, self.sample_rate)

    def _checked(self, frames: list[AudioFrame]) -> Iterator[AudioFrame]:
        """The frames with samples. Raises SepnetError where rate or channels change."""
        for frame in frames:
            rate, channels = frame.sample_rate, frame.layout.nb_channels
            if not self.sample_rate:
                headers.check_plausible(rate, channels, self._name)
                self.sample_rate, self.channels = rate, channels
            if (rate, channels) != (self.sample_rate, self.channels):
                raise SepnetError(
                    f"{self._name} changes its rate or format after {self._seconds:.2f} s from "
                    f"{self.channels} channels at {self.sample_rate} Hz to {channels} at {rate} Hz: cut it "
                    "there into two files"
                )
            if frame.samples:
                self._position += frame.samples
                yield frame

    def read(self, count: int) -> Float[np.ndarray, "channel time"]:
        """Decode the next samples: ``count`` of them, or fewer at the end."""
        blocks = [np.zeros((self.channels, 0), np.float32) if self._pending is None else self._pending]
        n_samples = blocks[0].shape[1]
        while n_samples < count and (frame := next(self._frames, None)) is not None:
            blocks.append(_to_float(frame))
            n_samples += frame.samples
        samples = np.concatenate(blocks, axis=1)
        self._pending = samples[:, count:].copy() if n_samples > count else None
        self._n_read += min(count, n_samples)
        return samples[:, :count]

    def seek(self, start: int) -> None:
        """Go to a sample, by decoding up to there: FFmpeg's own seeking is not exact in every format."""
        if start < self._n_read:
            self._opened.close()
            self._begin()
        while self._n_read < start:
            if not self.read(min(SKIPPED_FRAMES, start - self._n_read)).shape[1]:
                return

    def count(self) -> int:
        """Decode all that remains, keep nothing, and return how many samples of one channel it were."""
        n_pending = 0 if self._pending is None else self._pending.shape[1]
        return n_pending + sum(frame.samples for frame in self._frames)

    def close(self) -> None:
        """Release the file."""
        self._opened.close()
        self._stream.close()


def count_flac_frames(stream: io.BufferedIOBase) -> int:
    """Return the samples of one channel in all frames of a FLAC; -1: it is not readable, or cut off.

    Each frame says how many samples it holds, so that only the last one is decoded: it may be cut off.

    Args:
        stream: The file; closed afterwards.
    """
    try:
        with (
            stream,
            av.open(FileForFfmpeg(stream), "r", options=OPTIONS, metadata_errors="ignore") as container,
        ):
            track = container.streams.audio[0]
            n_units, last = 0, None
            for packet in container.demux(track):
                if packet.size:
                    n_units, last = n_units + (packet.duration or 0), packet
            if last is None or not last.decode():
                return -1
            return round(n_units * (track.time_base or 0) * track.codec_context.sample_rate)
    except (av.FFmpegError, IndexError):
        return -1


def _drain(codec: AudioCodecContext) -> list[AudioFrame]:
    """What a decoder still holds at the end of its stream."""
    try:
        return codec.decode(None)
    except av.FFmpegError:
        return []


def _new_decoder(codec: AudioCodecContext, extradata: bytes) -> AudioCodecContext:
    fresh = AudioCodecContext.create(codec.name, "r")
    fresh.extradata = extradata
    return cast(AudioCodecContext, fresh)


def _kinds(container: InputContainer) -> str:
    kinds = sorted({stream.type for stream in container.streams})
    return " and ".join(kinds) if kinds else "headers"


def _to_float(frame: AudioFrame) -> Float[np.ndarray, "channel time"]:
    """The samples of a frame (channel, time), integers divided by their full scale."""
    channels, is_planar = frame.layout.nb_channels, frame.format.is_planar
    dtype = np.dtype(SAMPLE_TYPES[frame.format.name.removesuffix("p")])
    n_values = frame.samples if is_planar else frame.samples * channels
    # PyAV may list planes of eight channels beyond the last one, whose memory is not theirs.
    valid = frame.planes[: channels if is_planar else 1]
    planes = np.stack([np.frombuffer(memoryview(plane), dtype, n_values) for plane in valid])
    samples = planes if is_planar else planes.reshape(-1, channels).T  # (1, time x channel)
    if dtype.kind == "f":
        return samples.astype(np.float32)
    full_scale = 2.0 ** (8 * dtype.itemsize - 1)
    zero = 128 if dtype.kind == "u" else 0
    return ((samples.astype(np.float64) - zero) / full_scale).astype(np.float32)
