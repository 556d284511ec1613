"""Examples of the sounds in a fixed mixture: for each source another recording of the same speaker or class.

Methods that are told by example what to find (``needs`` has "queries") are evaluated with these. Which
recording is a pure function of the mixture's id and the place of the source, and never one that the mixture
itself is made of, so the example tells how the source sounds and not what it is.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from sepnet.data.corpus import Manifest, Utterance


class QueryChooser:
    """Chooses queries from the recordings of one corpus; those shorter than ``seconds`` only at need."""

    def __init__(self, manifest: Manifest, seconds: float) -> None:
        self.seconds = seconds
        self._by_path = {utterance.path: utterance for utterance in manifest}
        self._alike: defaultdict[tuple[str, str], list[Utterance]] = defaultdict(list)
        for utterance in sorted(manifest, key=lambda utterance: utterance.path):
            self._alike[_kind(utterance)].append(utterance)

    def choose(self, mixture_id: str, sources: Sequence[str]) -> tuple[Utterance, ...] | None:
        """A recording for each source (paths in the manifest); None where a source has no other like it."""
        chosen = []
        for k, path in enumerate(sources):
            alike = [u for u in self._alike[_kind(self._by_path[path])] if u.path not in sources]
            if not alike:
                return None
            enough = [u for u in alike if u.seconds >= self.seconds]
            pool = enough or [max(alike, key=lambda utterance: utterance.seconds)]
            digest = hashlib.sha1(f"{mixture_id} {k}".encode()).digest()
            chosen.append(pool[int.from_bytes(digest[:8]) % len(pool)])
        return tuple(chosen)


def loudest(samples: Float[np.ndarray, " time"], n_samples: int) -> Float[np.ndarray, " excerpt"]:
    """The ``n_samples`` in a row with the most energy: recordings begin and end in silence."""
    start = loudest_start(samples, n_samples)
    return samples[start : start + n_samples]


def loudest_start(samples: Float[np.ndarray, " time"], n_samples: int) -> int:
    """Where ``loudest`` begins; 0 where there are no more samples than that."""
    if len(samples) <= n_samples:
        return 0
    energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    return int(np.argmax(energy[n_samples:] - energy[:-n_samples]))


def name_of(utterance: Utterance) -> str:
    """What a query from this recording is an example of: its class, or its speaker."""
    return utterance.label or utterance.speaker


def _kind(utterance: Utterance) -> tuple[str, str]:
    return utterance.split, name_of(utterance)
