"""The recipe of training mixtures: how sources are chosen, cut, scaled, placed and mixed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from sepnet.data.augment import check_equaliser
from sepnet.data.noises import NoiseKind
from sepnet.data.responses import ResponseBank, Responses
from sepnet.ranges import NonNegativeFloat, Probability, Seconds
from sepnet.types import SepnetError

Interval = Sequence[float]
"""Lower and upper end."""
Mode = Literal["crop", "min", "max"]
ShortPolicy = Literal["refuse", "skip", "pad"]
DrawnBy = Literal["utterance", "duration"]
SEQUENCES = (
    "n_sources", "speeds", "loudness_lufs", "overlap", "noise_snr_db", "noise_kinds", "slots", "n_active",
    "query_seconds", "target_share",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How training mixtures are made; see ``sepnet.data.mixer`` for the order of events.

    Intervals are drawn from uniformly.

    Args:
        n_sources: Numbers of sources to draw from.
        mode: "crop": a crop of each utterance, so that the mixture is ``seconds`` long; "min" and "max":
            whole utterances, cut to the shortest or padded to the longest.
        seconds: Length of a mixture in the mode "crop".
        loudness_lufs: Interval of each source's loudness, in LUFS.
        overlap: Interval of the share r of a segment that overlaps with the next one; 1: all start together.
        speeds: Factors to draw from; 1.1 is faster and higher.
        noise_snr_db: Interval of the level of all sources over the noise, where there is noise.
        noise_kinds: Kinds of noise to draw from (``sepnet.data.noises``). With ``recorded`` alone there is
            noise where there is a noise corpus.
        p_noise: Probability that a mixture has noise, where there is noise.
        responses: A room or a mixing matrix (``sepnet.data.rooms``); None: one microphone, no room.
        p_responses: Probability that a mixture is in the room; otherwise each microphone hears the sources
            as they are.
        early_seconds: How long after its direct path a reflection still belongs to a source. Later ones are
            heard in the mixture alone. None: all belong to the source.
        slots: Labels, one for each output, in order; ``n_sources`` is then their number.
        n_active: Numbers of slots that sound in a mixture, to draw from; the others are silent. None: all.
        p_narrow: Probability that a mixture is heard in a narrow band (``sepnet.data.augment.narrow``).
        drawn_by: How often an utterance is drawn: "utterance": as often as any other; "duration": in
            proportion to its length (at least that of a crop), so that each second of the corpus is heard
            equally often.
        short_policy: What happens to utterances that are shorter than a crop: "refuse" the corpus, "skip"
            them, or "pad" them with silence, at a drawn place.
        max_peak: Largest absolute sample; above it, mixture and sources are scaled down together.
        query_seconds: Interval of the length of the query, an example of the first source from another
            recording of its class; all sources are then of different classes. None: no queries.
        looped: Fill each source with the active stretches of its utterance, repeated (see
            ``sepnet.data.activity``), instead of a crop.
        target_share: Interval of the share of the mixture in which the first source is active, in one to
            three bursts; for looped sources.
        p_always_active: Probability that the first source is active throughout all the same.
        p_absent: Probability that the first source is silent, and the query of a class that is not in the
            mixture.
        equaliser_db: Range of a random filter for each source, in dB; None: no filter.

    Raises:
        SepnetError: An interval is not two numbers in order, a value is out of its range, or two settings
            exclude each other.
    """

    n_sources: Sequence[int] = (2,)
    mode: Mode = "crop"
    seconds: Seconds = 3.0
    loudness_lufs: Interval = (-33.0, -25.0)
    overlap: Interval = (1.0, 1.0)
    speeds: Sequence[float] = (0.95, 1.0, 1.05)
    noise_snr_db: Interval = (0.0, 20.0)
    noise_kinds: Sequence[NoiseKind] = ("recorded",)
    p_noise: Probability = 1.0
    responses: Responses | None = None
    p_responses: Probability = 1.0
    early_seconds: NonNegativeFloat | None = None
    p_narrow: Probability = 0.0
    slots: Sequence[str] | None = None
    n_active: Sequence[int] | None = None
    drawn_by: DrawnBy = "utterance"
    short_policy: ShortPolicy = "pad"
    max_peak: float = 0.9
    query_seconds: Interval | None = None
    looped: bool = False
    target_share: Interval = (1.0, 1.0)
    p_always_active: Probability = 0.0
    p_absent: Probability = 0.0
    equaliser_db: float | None = None

    def __post_init__(self) -> None:
        # Lists from YAML become tuples, so that the recipe can be hashed.
        for name in SEQUENCES:
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, tuple(value))
        if self.slots is not None:
            object.__setattr__(self, "n_sources", (len(self.slots),))
        self._check_counts()
        self._check_ranges()
        self._check_queries()

    def _check_counts(self) -> None:
        n_slots = len(self.slots or ())
        if self.n_active is not None and not (
            n_slots and self.n_active and 1 <= min(self.n_active) <= max(self.n_active) <= n_slots
        ):
            raise SepnetError(
                f"n_active is {list(self.n_active)}, but there are {n_slots} slots: give numbers from 1 to "
                "the number of slots"
            )
        if not self.n_sources or min(self.n_sources) < 1:
            raise SepnetError(
                f"n_sources is {list(self.n_sources)}: give one number or more, each at least 1"
            )

        bank = self.responses
        if isinstance(bank, ResponseBank) and bank.n_places < max(self.n_sources):
            raise SepnetError(
                f"mixtures have up to {max(self.n_sources)} sources, but the rooms n_places={bank.n_places}: "
                "raise data.mixing.responses.n_places"
            )

    def _check_ranges(self) -> None:
        for name in ("loudness_lufs", "overlap", "noise_snr_db"):
            ends = getattr(self, name)
            if len(ends) != 2 or not ends[0] <= ends[1]:
                raise SepnetError(f"{name} is {list(ends)}: give two numbers, in order")
        if not 0.0 <= self.overlap[0] <= self.overlap[1] <= 1.0:
            raise SepnetError(f"overlap is {list(self.overlap)}: give two ratios between 0 and 1")
        if self.seconds <= 0 or self.max_peak <= 0 or min(self.speeds, default=0.0) <= 0:
            raise SepnetError(
                f"seconds={self.seconds}, max_peak={self.max_peak} and speeds={list(self.speeds)} have to be "
                "positive"
            )
        for name, options in (("mode", Mode), ("drawn_by", DrawnBy), ("short_policy", ShortPolicy)):
            if getattr(self, name) not in get_args(options):
                raise SepnetError(
                    f"{name} is {getattr(self, name)!r}: choose from {', '.join(get_args(options))}"
                )
        kinds = get_args(NoiseKind)
        if not self.noise_kinds or not set(self.noise_kinds) <= set(kinds):
            raise SepnetError(f"noise_kinds is {list(self.noise_kinds)}: choose from {', '.join(kinds)}")

    def _check_queries(self) -> None:
        check_equaliser(self.equaliser_db)
        for name, ends in (("query_seconds", self.query_seconds), ("target_share", self.target_share)):
            if ends is not None and (len(ends) != 2 or not 0 < ends[0] <= ends[1]):
                raise SepnetError(f"{name} is {list(ends)}: give two numbers above 0, in order")
        if self.target_share[1] > 1 or not (0 <= self.p_always_active <= 1 and 0 <= self.p_absent <= 1):
            raise SepnetError(
                f"target_share={list(self.target_share)}, p_always_active={self.p_always_active} and "
                f"p_absent={self.p_absent} are shares: give numbers between 0 and 1"
            )
        if self.looped and self.mode != "crop":
            raise SepnetError(
                f"looped sources have any length, so mode={self.mode} has no effect: set mode=crop"
            )
        if (self.p_absent or tuple(self.target_share) != (1.0, 1.0)) and not self.looped:
            raise SepnetError("target_share and p_absent are for looped sources: set looped=true")
        if self.p_absent and self.query_seconds is None:
            raise SepnetError("p_absent is for targets that a query describes: set query_seconds")

    @property
    def n_simultaneous(self) -> Sequence[int]:
        """The numbers of sources that may sound in a mixture."""
        return self.n_sources if self.n_active is None else self.n_active

    def longest_crop(self, sample_rate: int) -> int:
        """Return how many samples of an utterance the longest crop takes, at the highest speed.

        By equation (2) of ``sepnet.data.mixer``, at the smallest overlap of the fewest sources.

        Args:
            sample_rate: In Hz.
        """
        n_samples = round(self.seconds * sample_rate)
        segment = math.ceil(n_samples / (1 + (min(self.n_simultaneous) - 1) * (1 - self.overlap[1])))
        return math.ceil(segment * max(self.speeds))
