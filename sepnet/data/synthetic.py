"""The embedded corpus (``data=toy``): the project's own sentences, spoken by 64 voices of eSpeak NG.

It needs no download and no account, is the same on every run, and is small enough for a laptop: it serves
tests, demonstrations and first experiments. Its voices are formant synthesis, more regular than any human
being: a score on it says that a method works, not how well it works on people.

The voices are combinations of accent, variant (formants, voicing), pitch, intonation and rate, chosen to
lie far apart (tests/test_synthetic.py measures how far). No variant is shared between two splits: the
speakers of dev and test are new in timbre, not merely in pitch. Nor is any sentence.

eSpeak NG: https://github.com/espeak-ng/espeak-ng, here through the package espeakng_loader (extra ``demo``).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from math import gcd
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from scipy.signal import butter, resample_poly, sosfilt
from tqdm import tqdm

from sepnet.data import audio
from sepnet.data.corpus import Corpus, Manifest
from sepnet.data.espeak import Request
from sepnet.data.table import write_table
from sepnet.types import SepnetError

VERSION = 1
SAMPLE_RATE = 8000
HIGH_PASS_HZ = 50.0  # some variants hum below their pitch, down to 0 Hz
LEVEL_DB = -26.0  # root mean square of an utterance, re full scale
SILENCE_DB = -60.0  # re the peak of the utterance: what is below at its ends is cut
MARGIN_SECONDS = 0.01
SPLITS = ("train", "dev", "test")
PER_VOICE = {"train": 22, "dev": 20, "test": 20}
SPEAK_TIMEOUT_SECONDS = 60.0

WORKER = Path(__file__).with_name("espeak.py")
SENTENCES: tuple[str, ...] = tuple(Path(__file__).with_name("sentences.txt").read_text("utf-8").splitlines())


@dataclass(frozen=True, kw_only=True)
class Voice:
    """One speaker. ``accent`` and ``variant`` are eSpeak's names: ``en`` is British, ``f3`` a female voice.

    pitch, pitch_range: 0 to 100, eSpeak's scales; at a pitch of 50 the variant's own is left as it is, 0 and
    100 make it 0.7 and 1.6 times as high. rate: words a minute, 80 to 450. Raises SepnetError for values
    outside of these.
    """

    name: str
    split: str
    gender: str
    accent: str
    variant: str
    pitch: int
    pitch_range: int
    rate: int

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise SepnetError(
                f"the voice {self.name} is in the split {self.split!r}, which is none of {SPLITS}"
            )
        for name, low, high in (("pitch", 0, 100), ("pitch_range", 0, 100), ("rate", 80, 450)):
            if not low <= getattr(self, name) <= high:
                raise SepnetError(
                    f"the {name} of the voice {self.name} is {getattr(self, name)}, outside {low} to {high}"
                )


def _read_voices(table: str) -> tuple[Voice, ...]:
    rows = (line.split() for line in table.strip().splitlines())
    return tuple(
        Voice(
            name=name,
            split=split,
            gender={"f": "female", "m": "male"}[name[0]],
            accent=accent,
            variant=variant,
            pitch=int(pitch),
            pitch_range=int(pitch_range),
            rate=int(rate),
        )
        for name, split, accent, variant, pitch, pitch_range, rate in rows
    )


# Chosen by a greedy search for the set whose closest pair lies furthest apart in pitch and long-term
# spectrum, among the variants that sound like a voiced human being (no whisper, robot or Klatt voice).
VOICES: tuple[Voice, ...] = _read_voices("""
f01 train en             f1         35 62 185
f02 test  en-us          linda      18 56 175
f03 train en-us          steph      43 50 165
f04 train en-gb-x-rp     grandma    36 38 195
f05 train en-029         shelby     51 44 150
f06 train en-029         f4         51 68 160
f07 train en             anika      15 56 155
f08 train en-us          shelby     69 44 190
f09 train en-029         Alicia     30 50 145
f10 train en-gb-x-rp     f5         53 48 150
f11 dev   en-gb-x-gbclan belinda    45 50 175
f12 train en-us          grandma    55 68 185
f13 train en-029         Andrea     40 62 170
f14 train en-us          steph      68 38 145
f15 train en-029         f3         58 56 150
f16 test  en-gb-scotland linda      51 48 190
f17 train en-gb-x-gbclan Alicia     45 44 185
f18 train en-gb-x-rp     anika      34 62 165
f19 test  en-us          f2         72 48 180
f20 train en-us          Alicia     45 62 145
f21 train en-gb-x-gbcwmd steph      74 68 195
f22 train en-029         Andrea     51 56 180
f23 dev   en             belinda    58 50 180
f24 dev   en-029         aunty      75 44 160
f25 train en-029         grandma    73 68 170
f26 train en-029         Annie      53 62 195
f27 test  en-gb-x-rp     f2         79 50 155
f28 train en-gb-x-rp     anika      46 56 190
f29 dev   en-us          aunty      77 44 170
f30 train en-gb-scotland Annie      72 38 175
f31 train en-gb-scotland Andrea     59 48 160
f32 train en-gb-scotland f4         89 38 165
m01 train en-029         Hugo        8 38 180
m02 train en-gb-scotland Mike       30 56 160
m03 train en-gb-x-gbcwmd quincy     34 68 165
m04 train en-gb-x-gbclan m8         47 38 155
m05 train en             marcelo    28 44 195
m06 train en-gb-x-gbclan Gene       40 48 185
m07 train en-gb-x-gbcwmd norbert    34 50 150
m08 dev   en-gb-x-gbcwmd ed          8 44 165
m09 train en-us          boris      35 62 175
m10 dev   en-us          paul       59 50 190
m11 test  en-gb-scotland Michael    26 68 145
m12 train en-gb-x-gbcwmd antonio    40 38 150
m13 dev   en-029         m7         46 48 170
m14 train en-029         kaukovalta 52 62 155
m15 test  en-us          m3         60 44 145
m16 train en-us          ian        82 48 195
m17 train en-gb-scotland Hugo       59 50 185
m18 dev   en-029         pablo      51 56 170
m19 train en-gb-x-gbclan sandro     70 62 180
m20 test  en-029         victor     75 68 180
m21 train en-us          m8         88 68 155
m22 train en-us          boris      76 38 160
m23 train en-gb-x-gbclan quincy     92 48 165
m24 train en-029         m2         77 48 145
m25 train en-gb-scotland marcelo    92 38 190
m26 train en-gb-x-rp     Marco      57 50 160
m27 train en-gb-scotland rob        77 68 175
m28 train en-gb-x-rp     norbert    85 44 175
m29 test  en-gb-x-gbclan iven       88 62 150
m30 train en-us          miguel     82 56 185
m31 train en-029         Nguyen     52 50 170
m32 train en-gb-x-gbclan gustave    88 56 195
""")


@dataclass(frozen=True)
class Reading:
    """``text`` is sentence number ``index`` of SENTENCES."""

    voice: Voice
    index: int
    text: str

    @property
    def path(self) -> str:
        """Relative to the root of the corpus."""
        return f"{self.voice.split}/{self.voice.name}/{self.index:03d}.flac"


def split_of_sentence(index: int) -> str:
    """The split that alone uses sentence ``index``: of each eight, six train, one is dev's, one test's."""
    return {6: "dev", 7: "test"}.get(index % 8, "train")


def toy_readings(*, voices: Sequence[Voice] = VOICES, per_voice: int | None = None) -> tuple[Reading, ...]:
    """What the corpus is made of; ``per_voice`` (None: PER_VOICE) readings a voice, all different.

    The n-th voice of a split goes on in the split's sentences where the one before has stopped, round
    and round, so that all are used about equally often. Raises SepnetError for more than there are.
    """
    spoken = dict.fromkeys(SPLITS, 0)
    readings = []
    for voice in voices:
        pool = [i for i in range(len(SENTENCES)) if split_of_sentence(i) == voice.split]
        count = PER_VOICE[voice.split] if per_voice is None else per_voice
        if not 1 <= count <= len(pool):
            raise SepnetError(
                f"{count} sentences a voice were asked for, but {voice.split} has between 1 and {len(pool)}"
            )
        start = spoken[voice.split]
        chosen = sorted(pool[(start + i) % len(pool)] for i in range(count))
        readings += [Reading(voice, i, SENTENCES[i]) for i in chosen]
        spoken[voice.split] += count
    return tuple(readings)


def speak(text: str, voice: Voice) -> Float32[np.ndarray, " time"]:
    """``text`` as spoken by ``voice``: (time,) at 8 kHz, silent ends cut, its RMS at LEVEL_DB.

    A pure function of its arguments for a given eSpeak NG (see sepnet.data.espeak), and safe in threads.
    Raises SepnetError without espeakng_loader, for an unknown accent or variant, and for a silent result.
    """
    native, native_rate = _run_espeak(text, voice)
    common = gcd(SAMPLE_RATE, native_rate)
    # Kaiser's beta of 8: aliases 80 dB down, where resample_poly's default has some 50.
    speech = resample_poly(native, SAMPLE_RATE // common, native_rate // common, window=("kaiser", 8.0))
    speech = sosfilt(butter(4, HIGH_PASS_HZ, "highpass", fs=SAMPLE_RATE, output="sos"), speech)
    peak = np.abs(speech).max(initial=0.0)
    if peak == 0.0:
        raise SepnetError(f"the voice {voice.name} says nothing for {text!r}: give a text with words")
    loud = np.flatnonzero(np.abs(speech) > peak * 10 ** (SILENCE_DB / 20))
    margin = round(MARGIN_SECONDS * SAMPLE_RATE)
    speech = speech[max(loud[0] - margin, 0) : loud[-1] + 1 + margin]
    speech = speech * (10 ** (LEVEL_DB / 20) / np.sqrt(np.mean(speech**2)))
    peak = np.abs(speech).max()
    if peak >= 1.0:
        raise SepnetError(
            f"at {LEVEL_DB} dB, {text!r} by the voice {voice.name} peaks at {peak:.2f}, above full scale"
        )
    return np.asarray(speech, dtype=np.float32)


def _find_espeak() -> tuple[str, Path]:
    """The paths of the shared library and of its data."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise SepnetError(
            "the embedded corpus is spoken by eSpeak NG, and the package espeakng_loader is not installed: "
            "pip install 'sepnet[demo]'"
        ) from error
    try:
        return str(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())
    except (OSError, RuntimeError) as error:
        raise SepnetError(
            f"espeakng_loader lacks its data ({error}): pip install --force-reinstall espeakng-loader"
        ) from error


def _run_espeak(text: str, voice: Voice) -> tuple[np.ndarray, int]:
    """Samples (time,) in -1 to 1 and their rate (Hz), from a fresh process."""
    library, data = _find_espeak()
    # eSpeak takes an unknown variant without a word and speaks with the plain voice instead.
    if not (data / "voices" / "!v" / voice.variant).is_file():
        raise SepnetError(
            f"eSpeak NG has no variant {voice.variant!r}, which the voice {voice.name} asks for"
        )
    request = Request(
        library=library,
        data=data.name,
        text=text,
        voice=f"{voice.accent}+{voice.variant}",
        rate=voice.rate,
        pitch=voice.pitch,
        pitch_range=voice.pitch_range,
    )
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(WORKER)],
            input=json.dumps(request._asdict()).encode(),
            capture_output=True,
            cwd=data.parent,
            timeout=SPEAK_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SepnetError(f"eSpeak NG could not speak {text!r} by the voice {voice.name}: {error}") from error
    said = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
    if done.returncode != 0 or not said[-1].startswith("rate="):
        raise SepnetError(
            f"eSpeak NG failed on {text!r} by the voice {voice.name} (status {done.returncode}): {said[-1]}"
        )
    samples = np.frombuffer(done.stdout, dtype=np.int16).astype(np.float64) / 2**15
    return samples, int(said[-1].removeprefix("rate="))


def fingerprint(readings: Iterable[Reading]) -> str:
    """SHA-256 of the recipe: version, settings, voices and sentences, in order."""
    settings = [VERSION, SAMPLE_RATE, HIGH_PASS_HZ, LEVEL_DB, SILENCE_DB, MARGIN_SECONDS]
    recipe = [settings, [asdict(reading) for reading in readings]]
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def make_toy_corpus(root: str | Path, *, progress: bool = True, n_workers: int | None = None) -> Path:
    """Make the embedded corpus in ``root``, or find it there; returns ``root``. See write_corpus."""
    return write_corpus(root, toy_readings(), progress=progress, n_workers=n_workers)


class ToyCorpus(Corpus):
    """The embedded corpus as ``data=toy`` uses it: made in ``root`` at first use."""

    def __init__(self, *, root: str | Path) -> None:
        super().__init__(root=root, layout="speakers")

    def manifest(self) -> Manifest:
        """Its index. Raises SepnetError as ``make_toy_corpus``."""
        make_toy_corpus(self.root)
        return super().manifest()


def write_corpus(
    root: str | Path, readings: Sequence[Reading], *, progress: bool = True, n_workers: int | None = None
) -> Path:
    """Speak ``readings`` to ``root/<split>/<voice>/<sentence number>.flac`` (8 kHz, mono, 16 bits).

    ``root`` also gets ``voices.csv`` and, at the very end, ``complete.json`` with the recipe's fingerprint.
    A corpus that stands is used as it is; one that was interrupted (``incomplete.json``) goes on: each
    file takes its name only when it is whole. ``n_workers`` (None: as many as cores) changes no bit.
    Returns ``root``. Raises SepnetError where ``root`` holds another recipe's corpus, and as speak does.
    """
    root = Path(root)
    workers = (os.cpu_count() or 1) if n_workers is None else n_workers
    if workers < 1:
        raise SepnetError(f"n_workers is {n_workers}, but at least 1 has to do the work")
    stamp: dict[str, str | int] = {
        "version": VERSION,
        "fingerprint": fingerprint(readings),
        "files": len(readings),
    }
    _check_root(root, str(stamp["fingerprint"]))
    missing = [reading for reading in readings if not (root / reading.path).is_file()]
    complete, incomplete, table = (root / n for n in ("complete.json", "incomplete.json", "voices.csv"))
    if complete.is_file() and table.is_file() and not missing:
        return root
    _write_json(incomplete, stamp)
    _speak_all(root, missing, progress=progress, n_workers=workers)
    names = [field.name for field in fields(Voice)]
    voices = dict.fromkeys(reading.voice for reading in readings)
    write_table(table, ["voice", *names[1:]], [[getattr(v, n) for n in names] for v in voices])
    _write_json(complete, stamp | {"espeakng_loader": importlib.metadata.version("espeakng-loader")})
    incomplete.unlink(missing_ok=True)
    return root


def _check_root(root: Path, wanted: str) -> None:
    """Refuse a folder in which another recipe, or no recipe that we know, has left audio."""
    stamps = [path for path in (root / "complete.json", root / "incomplete.json") if path.is_file()]
    for path in stamps:
        try:
            found = json.loads(path.read_text("utf-8"))["fingerprint"]
        except (ValueError, KeyError, TypeError) as error:
            raise SepnetError(
                f"{path} can't be read as a stamp ({error!r}): remove {root} and make it again"
            ) from error
        if found != wanted:
            raise SepnetError(
                f"{root} holds a corpus of another recipe ({found[:12]}, not {wanted[:12]}): "
                "remove it, or give another folder"
            )
    if not stamps and any((root / split).exists() for split in SPLITS):
        raise SepnetError(
            f"{root} holds audio but neither complete.json nor incomplete.json: give another folder"
        )


def _speak_all(root: Path, readings: Sequence[Reading], *, progress: bool, n_workers: int) -> None:
    # Threads suffice: the work is done in eSpeak's processes.
    with (
        ThreadPoolExecutor(n_workers) as pool,
        tqdm(
            total=len(readings), desc="eSpeak NG", unit="file", mininterval=1.0, disable=not progress
        ) as bar,
    ):
        try:
            for done in as_completed([pool.submit(_speak_one, root, reading) for reading in readings]):
                done.result()
                bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _speak_one(root: Path, reading: Reading) -> None:
    speech = speak(reading.text, reading.voice)
    audio.write(root / reading.path, speech, SAMPLE_RATE, subtype="PCM_16")


def _write_json(path: Path, content: dict[str, str | int]) -> None:
    with audio.replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
