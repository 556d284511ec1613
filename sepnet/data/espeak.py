"""eSpeak NG through ctypes, as a program of its own: one process speaks one text, then ends.

eSpeak keeps its random generators and the phase of its flutter in static variables that no call resets, so
the speech of a process depends on its earlier speech. A new process for each text makes speech a pure
function of its arguments, whatever the order and the number of workers; it costs some 15 ms. That is also why
this module imports the standard library alone: it runs with ``python -I -S``, without the import of torch.

Standard input: the Request as JSON. Standard output: 16-bit samples, native byte order, at the rate in the
last line of standard error, ``rate=22050``. With exit status 2 that line is the error message.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any, NamedTuple, NoReturn

# Values of enums in espeak-ng/speak_lib.h.
AUDIO_OUTPUT_SYNCHRONOUS = 2
INITIALIZE_DONT_EXIT = 0x8000
CHARS_UTF8 = 1
POS_CHARACTER = 1
RATE, PITCH, RANGE = 1, 3, 4
SEED = 1

SAMPLES_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class Request(NamedTuple):
    """A text and how to speak it (a NamedTuple: importing dataclasses would double the start-up time).

    Attributes:
        library: Path of the shared library.
        data: The folder espeak-ng-data, best relative: eSpeak cuts paths of more than 160 characters and then
            falls back on a folder that does not exist.
        text: The text.
        voice: eSpeak's name of the voice, ``en-us+f3``.
        rate: Words a minute.
        pitch: 0 to 100.
        pitch_range: 0 to 100.
    """

    library: str
    data: str
    text: str
    voice: str
    rate: int
    pitch: int
    pitch_range: int


def refuse(reason: str) -> NoReturn:
    """End this process with a message on standard error and the status 2."""
    print(reason, file=sys.stderr)
    raise SystemExit(2)


def load(path: str) -> ctypes.CDLL:
    """Load the shared library; end this process if it is not eSpeak NG 1.52 or later."""
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        refuse(f"the library {path} does not load: {error}")
    if not hasattr(library, "espeak_ng_SetRandSeed"):
        refuse(f"the library {path} is no eSpeak NG of version 1.52 or later")
    return library


def synthesise(request: Request) -> tuple[bytes, int]:
    """Speak a text.

    Returns:
        The 16-bit samples and their rate in Hz.
    """
    espeak: Any = load(request.library)
    rate_hz = espeak.espeak_Initialize(
        AUDIO_OUTPUT_SYNCHRONOUS, 0, request.data.encode(), INITIALIZE_DONT_EXIT
    )
    if rate_hz <= 0:
        refuse(f"eSpeak NG does not start with the data in {request.data}")
    chunks: list[bytes] = []

    def keep(samples: Any, count: int, _events: int) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    callback = SAMPLES_CALLBACK(keep)  # this name keeps it alive while eSpeak calls it
    espeak.espeak_SetSynthCallback(callback)
    if espeak.espeak_SetVoiceByName(request.voice.encode()) != 0:
        refuse(f"eSpeak NG has no voice {request.voice!r}")
    espeak.espeak_ng_SetRandSeed(ctypes.c_long(SEED))
    for parameter, value in ((RATE, request.rate), (PITCH, request.pitch), (RANGE, request.pitch_range)):
        if espeak.espeak_SetParameter(parameter, value, 0) != 0:
            refuse(f"eSpeak NG refuses the value {value} for its parameter {parameter}")
    text = request.text.encode() + b"\0"
    status = espeak.espeak_Synth(
        text, ctypes.c_size_t(len(text)), 0, POS_CHARACTER, 0, CHARS_UTF8, None, None
    )
    if status != 0 or espeak.espeak_Synchronize() != 0:
        refuse(f"eSpeak NG can't speak {request.text!r} (status {status})")
    return b"".join(chunks), rate_hz


if __name__ == "__main__":
    pcm, native_rate_hz = synthesise(Request(**json.loads(sys.stdin.buffer.read())))
    sys.stdout.buffer.write(pcm)
    print(f"rate={native_rate_hz}", file=sys.stderr)
