"""Queries for training mixtures: an excerpt of another recording of the class to be found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Float

from sepnet.data.cache import Cache
from sepnet.data.queries import loudest_start
from sepnet.data.table import named
from sepnet.types import SepnetError

LOUDEST = 0.8  # how often the loudest part of a clip is taken; else any


class TrainingQueries:
    """Draws queries from the utterances of a cache that are in ``usable`` (their numbers).

    seconds: interval of an excerpt's length, uniform; a shorter utterance is taken whole. absent: whether
    queries of classes that are not in a mixture will be asked for. Raises SepnetError for utterances
    without a class, for a class of a single recording, and for too few classes.
    """

    def __init__(
        self, cache: Cache, usable: Collection[int], seconds: Sequence[float], *, absent: bool
    ) -> None:
        self.cache, self.seconds = cache, tuple(seconds)
        self._by_class: defaultdict[str, list[int]] = defaultdict(list)
        for number in sorted(usable):
            self._by_class[cache.utterances[number].label].append(number)
        if "" in self._by_class:
            raise SepnetError(
                f"{len(self._by_class[''])} utterances of {cache.folder} have no class, so there is no other "
                "example of what they are: take a corpus with classes, or set query_seconds=null"
            )
        lonely = [c for c, own in self._by_class.items() if len({self._recording(u) for u in own}) < 2]
        if lonely:
            raise SepnetError(
                f"a query is of another recording, but {named(sorted(lonely))} of {cache.folder} has only "
                "one: add another, or leave the class out"
            )
        if len(self._by_class) < 2 + absent:
            raise SepnetError(
                f"{2 + absent} classes are needed, but {cache.folder} has {len(self._by_class)}: add classes"
                + (", or set absent=0" if absent else "")
            )

    def draw(
        self, rng: np.random.Generator, mixed: Sequence[int], *, absent: bool
    ) -> tuple[Float[np.ndarray, " time"], str]:
        """An excerpt and its class: of the first utterance of ``mixed``, or of none of them if ``absent``."""
        labels = {self.cache.utterances[number].label for number in mixed}
        label = self.cache.utterances[mixed[0]].label
        if absent:
            others = sorted(set(self._by_class) - labels)
            label = others[int(rng.integers(len(others)))]
        recordings = {self._recording(number) for number in mixed}
        pool = [number for number in self._by_class[label] if self._recording(number) not in recordings]
        if not pool:
            raise SepnetError(
                f"all of {label} in {self.cache.folder} is of recordings that are mixed: add others"
            )
        return self._excerpt(rng, pool[int(rng.integers(len(pool)))]), label

    def _excerpt(self, rng: np.random.Generator, number: int) -> Float[np.ndarray, " time"]:
        samples = self.cache.read(number)
        wanted = round(rng.uniform(self.seconds[0], self.seconds[1]) * self.cache.sample_rate)
        anywhere = int(rng.integers(max(len(samples) - wanted, 0) + 1))
        start = loudest_start(samples, wanted) if rng.uniform() < LOUDEST else anywhere
        return samples[start : start + wanted]

    def _recording(self, number: int) -> str:
        return self.cache.utterances[number].speaker
