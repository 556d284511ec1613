"""The only reader and writer of sound files.

Samples are float32 with full scale 1.0, arrays are (channel, time), rates are in Hz. Nothing here
resamples, clips or cuts: a file that does not fit is refused with the numbers and the remedy.

The length of a file is what its decoder gives, never what its header says. libsndfile reads uncompressed
samples, whose number follows from the size of the file, and FLAC whose frames sum to the length in its
header. FFmpeg's decoders (PyAV) read everything else: lossy formats, streams without a length, files joined
to each other, and the sound of videos.
"""

from sepnet.data.audio.decoding import SUFFIXES, check_exists
from sepnet.data.audio.reading import BLOCK_FRAMES, AudioInfo, AudioReader, info, open_audio, read, verify
from sepnet.data.audio.writing import (
    FLOATS,
    FORMATS,
    INTEGER_BITS,
    MAX_SAMPLE_RATE,
    SUBTYPE_OF,
    check_finite,
    check_layout,
    file_format,
    largest_gain,
    to_subtype,
    write,
    write_blocks,
)

__all__ = [
    "BLOCK_FRAMES",
    "FLOATS",
    "FORMATS",
    "INTEGER_BITS",
    "MAX_SAMPLE_RATE",
    "SUBTYPE_OF",
    "SUFFIXES",
    "AudioInfo",
    "AudioReader",
    "check_exists",
    "check_finite",
    "check_layout",
    "file_format",
    "info",
    "largest_gain",
    "open_audio",
    "read",
    "to_subtype",
    "verify",
    "write",
    "write_blocks",
]
