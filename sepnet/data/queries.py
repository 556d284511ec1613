"""Queries: examples of a source, from other recordings of its speaker or class.

Methods that find a source by an example (``info.needs`` has "queries") are trained and evaluated with these.
A query is never from a recording that the mixture itself contains, so it tells how a source sounds and not
which samples to find.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Float

from sepnet.data.cache import Cache
from sepnet.data.manifest import Manifest, Utterance
from sepnet.data.table import join_names
from sepnet.types import SepnetError

P_LOUDEST = 0.8  # how often a training query is the loudest part of a clip; else it is any part


class QueryChooser:
    """Chooses the queries of a fixed set, as a pure function of the mixture's id and the source's place.

    Args:
        manifest: The corpus to choose from.
        seconds: Length of a query; shorter recordings are taken only if there is no other.
    """

    def __init__(self, manifest: Manifest, seconds: float) -> None:
        self.seconds = seconds
        self._by_path = {utterance.path: utterance for utterance in manifest}
        self._groups: defaultdict[tuple[str, str], list[Utterance]] = defaultdict(list)
        for utterance in sorted(manifest, key=lambda utterance: utterance.path):
            self._groups[_group(utterance)].append(utterance)

    def choose(self, mixture_id: str, sources: Sequence[str]) -> tuple[Utterance, ...] | None:
        """Choose a recording for each source.

        Args:
            mixture_id: The id of the mixture.
            sources: The path of each source in the manifest.

        Returns:
            A recording for each source; None if a source has no other recording of its speaker or class.
        """
        chosen = []
        for k, path in enumerate(sources):
            candidates = [u for u in self._groups[_group(self._by_path[path])] if u.path not in sources]
            if not candidates:
                return None
            long_enough = [u for u in candidates if u.seconds >= self.seconds]
            pool = long_enough or [max(candidates, key=lambda utterance: utterance.seconds)]
            digest = hashlib.sha1(f"{mixture_id} {k}".encode()).digest()
            chosen.append(pool[int.from_bytes(digest[:8]) % len(pool)])
        return tuple(chosen)


class TrainingQueries:
    """Draws the queries of training mixtures: an excerpt of another recording of the class to be found.

    Args:
        cache: The utterances.
        usable: The numbers of those that may be drawn.
        seconds: Interval of the length of a query, uniform; a shorter utterance is taken whole.
        absent: Whether there will be queries of classes that are not in the mixture.

    Raises:
        SepnetError: Utterances have no class, a class has a single recording, or there are too few classes.
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
        check_recordings(
            {name: {self._recording(u) for u in own} for name, own in self._by_class.items()},
            str(cache.folder),
        )
        min_classes = 3 if absent else 2
        if len(self._by_class) < min_classes:
            raise SepnetError(
                f"{min_classes} classes are needed, but {cache.folder} has {len(self._by_class)}: add classes"
                + (", or set p_absent=0" if absent else "")
            )

    def draw(
        self, rng: np.random.Generator, mixed: Sequence[int], *, absent: bool
    ) -> tuple[Float[np.ndarray, " time"], str]:
        """Draw a query.

        Args:
            rng: The generator.
            mixed: The numbers of the utterances in the mixture.
            absent: Draw a query of a class that is not in the mixture, instead of the class of the first one.

        Returns:
            The excerpt (time,), and its class.

        Raises:
            SepnetError: All recordings of the class are in the mixture.
        """
        labels = {self.cache.utterances[number].label for number in mixed}
        label = self.cache.utterances[mixed[0]].label
        if absent:
            others = sorted(set(self._by_class) - labels)
            label = others[int(rng.integers(len(others)))]
        recordings = {self._recording(number) for number in mixed}
        pool = [number for number in self._by_class[label] if self._recording(number) not in recordings]
        if not pool:
            raise SepnetError(
                f"all of {label} in {self.cache.folder} is from recordings that are mixed: add others"
            )
        return self._draw_excerpt(rng, pool[int(rng.integers(len(pool)))]), label

    def _draw_excerpt(self, rng: np.random.Generator, number: int) -> Float[np.ndarray, " time"]:
        samples = self.cache.read(number)
        n_samples = round(rng.uniform(self.seconds[0], self.seconds[1]) * self.cache.sample_rate)
        any_start = int(rng.integers(max(len(samples) - n_samples, 0) + 1))
        start = loudest_start(samples, n_samples) if rng.uniform() < P_LOUDEST else any_start
        return samples[start : start + n_samples]

    def _recording(self, number: int) -> str:
        return self.cache.utterances[number].speaker


def check_recordings(recordings: dict[str, set[str]], where: str) -> None:
    """Check that each class has two recordings: one to mix, one to take the query from.

    Args:
        recordings: The recordings of each class.
        where: The corpus, for the message.

    Raises:
        SepnetError: Some classes have only one, with their names.
    """
    if single := sorted(name for name, names in recordings.items() if len(names) < 2):
        raise SepnetError(
            f"a query is from another recording, but {join_names(single)} of {where} has only one: add "
            "another, or leave the class out of labels"
        )


def loudest(samples: Float[np.ndarray, " time"], n_samples: int) -> Float[np.ndarray, " excerpt"]:
    """Return the ``n_samples`` in a row with the most energy: recordings begin and end in silence."""
    start = loudest_start(samples, n_samples)
    return samples[start : start + n_samples]


def loudest_start(samples: Float[np.ndarray, " time"], n_samples: int) -> int:
    """Return where ``loudest`` begins; 0 where there are no more samples than that."""
    if len(samples) <= n_samples:
        return 0
    energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    return int(np.argmax(energy[n_samples:] - energy[:-n_samples]))


def query_label(utterance: Utterance) -> str:
    """Return the label of a query from this recording: its class, or its speaker."""
    return utterance.label or utterance.speaker


def _group(utterance: Utterance) -> tuple[str, str]:
    return utterance.split, query_label(utterance)
