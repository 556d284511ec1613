"""The data of a run: training mixtures drawn on the fly, fixed sets for development and test."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from sepnet.data.cache import Cache, open_cache
from sepnet.data.corpus import Corpus
from sepnet.data.manifest import Manifest
from sepnet.data.mixer import Example, Mixer
from sepnet.data.mixing import Mixing
from sepnet.paths import expand_home
from sepnet.ranges import PositiveInt, SampleRate, Seed
from sepnet.types import Batch, Mixtures, Query

Key = tuple[int, int]
"""(epoch, index): a training mixture depends on these and the seed alone."""


class TrainingMixtures(Dataset[Example]):
    """Training mixtures, each a pure function of (seed, epoch, index).

    They are the same for any number of workers, ranks and restarts.

    Args:
        mixer: Draws a mixture.
        seed: Another seed gives other mixtures.
    """

    def __init__(self, mixer: Mixer, *, seed: int) -> None:
        self.mixer, self.seed = mixer, seed

    def __getitem__(self, key: Key) -> Example:
        return self.mixer(np.random.default_rng((self.seed, *key)))


class EpochSampler(Sampler[Key]):
    """The keys of one epoch for one rank.

    Rank r of R takes the indices r, r + R, ...: with the batch divided by R, each step sees the same
    mixtures for any R. The length stays that of the whole epoch, also after a skip, since that is what
    a resumed loop counts against.

    Args:
        size: Mixtures in an epoch, of all ranks together.
        rank: Number of this process.
        n_ranks: Number of processes.
        epoch: The first epoch.
        skip: Keys of this rank to leave out at the beginning of the first epoch.
    """

    def __init__(self, size: int, *, rank: int = 0, n_ranks: int = 1, epoch: int = 0, skip: int = 0) -> None:
        self.size, self.rank, self.n_ranks = size, rank, n_ranks
        self.epoch, self.skip = epoch, skip

    def __len__(self) -> int:
        return self.size // self.n_ranks

    def __iter__(self) -> Iterator[Key]:
        for i in range(self.skip, len(self)):
            yield self.epoch, i * self.n_ranks + self.rank

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch: call this before each. Another epoch than the current one ends the skip."""
        if epoch != self.epoch:
            self.epoch, self.skip = epoch, 0


class Collate:
    """Puts examples into a Batch: shorter mixtures and missing sources are padded with silence.

    Args:
        sample_rate: Of the examples, in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate

    def __call__(self, examples: Sequence[Example]) -> Batch:
        time = max(e.mixture.shape[-1] for e in examples)
        n_sources = max(len(e.sources) for e in examples)
        n_channels = len(examples[0].mixture)
        mixture = torch.zeros(len(examples), n_channels, time)
        sources = torch.zeros(len(examples), n_sources, time)
        for i, e in enumerate(examples):
            mixture[i, :, : e.mixture.shape[-1]] = torch.from_numpy(e.mixture)
            sources[i, : len(e.sources), : e.sources.shape[-1]] = torch.from_numpy(e.sources)
        ids = tuple(e.id for e in examples)
        queries, lengths, labels = _collate_queries(examples)
        return Batch(mixture, sources, ids, self.sample_rate, queries, lengths, labels)


def _collate_queries(
    examples: Sequence[Example],
) -> tuple[Tensor | None, tuple[int, ...] | None, tuple[str, ...] | None]:
    """The queries (batch, time of the longest), their lengths in samples and classes; None without any."""
    present = [e.query for e in examples if e.query is not None]
    labels = [e.label for e in examples if e.label is not None]
    if len(present) < len(examples) or len(labels) < len(examples):
        return None, None, None
    lengths = tuple(len(query) for query in present)
    queries = torch.zeros(len(present), max(lengths))
    for row, query in zip(queries, present, strict=True):
        row[: len(query)] = torch.from_numpy(query)
    return queries, lengths, tuple(labels)


class Clips:
    """The utterances of a cache, one by one: each with its class, else its speaker, as a Query.

    Args:
        cache: The utterances.
    """

    def __init__(self, cache: Cache) -> None:
        self.cache = cache

    def __len__(self) -> int:
        return len(self.cache)

    def __iter__(self) -> Iterator[Query]:
        for number, utterance in enumerate(self.cache.utterances):
            samples = torch.from_numpy(self.cache.read(number))
            yield Query(samples, self.cache.sample_rate, utterance.label or utterance.speaker)


@runtime_checkable
class MixtureSet(Mixtures, Protocol):
    """A fixed set of mixtures, all at one rate: see sepnet.data.fixed_set and query_set."""

    sample_rate: int


@runtime_checkable
class CountedSet(MixtureSet, Protocol):
    """A fixed set that knows how many sources each mixture holds."""

    def n_sources(self, index: int) -> int:
        """Return how many sources a mixture holds."""
        ...


@runtime_checkable
class FixedList(Protocol):
    """The mixtures of a fixed set: see sepnet.data.librimix and query_set."""

    def fixed_set(self, manifest: Manifest, sample_rate: int) -> MixtureSet:
        """Make the set, whose mixtures are made in memory.

        Args:
            manifest: The corpus.
            sample_rate: Of the mixtures, in Hz.
        """
        ...


class MixtureData:
    """A corpus, how to mix its training split, and the fixed sets of its other splits.

    Args:
        corpus: The utterances.
        mixing: How training mixtures are made.
        valid: The fixed set to choose by.
        test: The fixed set to report.
        sample_rate: Of all audio, in Hz.
        resample: Convert files at another rate for training; otherwise they are refused.
        epoch_size: Mixtures in an epoch.
        train_split: The split to learn from, or several.
        seed: Of the training mixtures.
        noise: A corpus of noise to add to the training mixtures.
        cache_dir: Where decoded audio is kept.
    """

    def __init__(
        self,
        *,
        corpus: Corpus,
        mixing: Mixing,
        valid: FixedList,
        test: FixedList,
        sample_rate: SampleRate = 8000,
        resample: bool = False,
        epoch_size: PositiveInt = 4000,
        train_split: str | Sequence[str] = "train",
        seed: Seed = 0,
        noise: Corpus | None = None,
        cache_dir: str | Path = "data/cache",
    ) -> None:
        self.corpus, self.mixing, self.noise = corpus, mixing, noise
        self.valid_list, self.test_list = valid, test
        self.sample_rate, self.resample = sample_rate, resample
        self.epoch_size, self.seed = epoch_size, seed
        self.train_splits = (train_split,) if isinstance(train_split, str) else tuple(train_split)
        self.cache_dir = expand_home(cache_dir)

    def train(self) -> TrainingMixtures:
        """Make the training mixtures; the first time, this decodes the corpus into the cache."""
        noise = self._cache(self.noise.manifest()) if self.noise else None
        mixer = Mixer(self._cache(self.corpus.manifest().split(*self.train_splits)), self.mixing, noise)
        return TrainingMixtures(mixer, seed=self.seed)

    def clips(self) -> Clips:
        """Return the utterances of the training split, for methods that learn from single sources."""
        return Clips(self._cache(self.corpus.manifest().split(*self.train_splits)))

    def valid(self) -> MixtureSet:
        """Make the fixed set to choose by."""
        return self.valid_list.fixed_set(self.corpus.manifest(), self.sample_rate)

    def test(self) -> MixtureSet:
        """Make the fixed set to report."""
        return self.test_list.fixed_set(self.corpus.manifest(), self.sample_rate)

    @property
    def fingerprint(self) -> str:
        """A digest of the corpora, the recipe and the seed: equal means equal training mixtures."""
        recipe = (
            self.corpus.manifest().split(*self.train_splits).fingerprint,
            self.noise.manifest().fingerprint if self.noise else None,
            self.mixing,
            self.sample_rate,
            self.epoch_size,
            self.seed,
        )
        return hashlib.sha1(repr(recipe).encode()).hexdigest()[:16]

    def _cache(self, manifest: Manifest) -> Cache:
        folder = self.cache_dir / f"{manifest.root.name}-{manifest.fingerprint}-{self.sample_rate}"
        return open_cache(manifest, folder, sample_rate=self.sample_rate, resampled=self.resample)
