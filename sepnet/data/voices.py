"""The voices and sentences of the embedded corpus: see sepnet.data.synthetic.

The voices are combinations of accent, variant (formants, voicing), pitch, intonation and rate, chosen to
lie far apart (tests/test_synthetic.py measures how far). No variant is shared between two splits: the
speakers of dev and test are new in timbre, not merely in pitch. Nor is any sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sepnet.types import SepnetError

SPLITS = ("train", "dev", "test")
READINGS_PER_VOICE = {"train": 22, "dev": 20, "test": 20}
SENTENCES: tuple[str, ...] = tuple(Path(__file__).with_name("sentences.txt").read_text("utf-8").splitlines())


@dataclass(frozen=True, kw_only=True)
class Voice:
    """One speaker.

    Attributes:
        name: Name of the speaker.
        split: "train", "dev" or "test".
        gender: "female" or "male".
        accent: eSpeak's name of the accent: ``en`` is British.
        variant: eSpeak's name of the variant: ``f3`` is a female voice.
        pitch: 0 to 100, eSpeak's scale: 50 leaves the variant's own pitch, 0 and 100 make it 0.7 and 1.6
            times as high.
        pitch_range: 0 to 100, eSpeak's scale.
        rate: Words a minute, 80 to 450.

    Raises:
        SepnetError: A value is outside of its range.
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
    """A sentence read by a voice.

    Attributes:
        voice: The speaker.
        index: The number of the sentence in SENTENCES.
        text: The sentence.
    """

    voice: Voice
    index: int
    text: str

    @property
    def path(self) -> str:
        """Relative to the root of the corpus."""
        return f"{self.voice.split}/{self.voice.name}/{self.index:03d}.flac"


def split_of_sentence(index: int) -> str:
    """Return the only split that uses a sentence: of each eight, six train, one dev, one test."""
    return {6: "dev", 7: "test"}.get(index % 8, "train")


def plan_readings(*, voices: Sequence[Voice] = VOICES, per_voice: int | None = None) -> tuple[Reading, ...]:
    """Plan the corpus: which voice reads which sentences, each voice different ones.

    The n-th voice of a split continues in the split's sentences where the one before stopped, and begins
    again at their end, so that all are used about equally often.

    Args:
        voices: The speakers.
        per_voice: Readings of each; None: READINGS_PER_VOICE.

    Raises:
        SepnetError: A split has fewer sentences than ``per_voice``.
    """
    n_planned = dict.fromkeys(SPLITS, 0)
    readings = []
    for voice in voices:
        pool = [i for i in range(len(SENTENCES)) if split_of_sentence(i) == voice.split]
        count = READINGS_PER_VOICE[voice.split] if per_voice is None else per_voice
        if not 1 <= count <= len(pool):
            raise SepnetError(
                f"per_voice is {count}, but {voice.split} has between 1 and {len(pool)} sentences"
            )
        start = n_planned[voice.split]
        chosen = sorted(pool[(start + i) % len(pool)] for i in range(count))
        readings += [Reading(voice, i, SENTENCES[i]) for i in chosen]
        n_planned[voice.split] += count
    return tuple(readings)
